import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embcli import Recipe, Record, Store
from embcli.store.known_texts import KnownTexts, prefixes

RECIPE = Recipe({"model": "test", "dim": 1, "normalized": False, "maps": []})


def record(id, text):
    return Record(f"r{id}", f"text {text}")


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "delete", "reopen"]),
            st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=12),
        ),
        max_size=12,
    ),
    few=st.booleans(),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_agrees_with_a_dictionary(home, monkeypatch, steps, few):
    """Whatever is added, replaced and deleted, exactly the stored texts are found."""
    with monkeypatch.context() as patch:
        if few:  # let prefixes collide
            for module in ("known_texts", "collection"):
                patch.setattr(
                    f"embcli.store.{module}.prefixes", lambda hashes: prefixes(hashes) % 7
                )
        check_against_dictionary(home, steps, few)


def check_against_dictionary(home, steps, few):
    (home / "k.db").unlink(missing_ok=True)
    store = Store(home / "k.db")
    collection = store.create_collection("c", RECIPE)
    stored = {}
    for action, pairs in steps:
        distinct = dict(pairs)
        if action == "add":
            records = [record(id, text) for id, text in distinct.items()]
            collection.add(records, np.float32([*distinct.values()]).reshape(-1, 1))
            stored |= distinct
        elif action == "delete":
            collection.delete(f"r{id}" for id in distinct)
            stored = {id: text for id, text in stored.items() if id not in distinct}
        else:
            store.close()
            store = Store(home / "k.db")
            collection = store.collection("c")
        sought = {record("x", text).hash: text for text in range(31)}
        found = collection._known.find(sought)
        # A collision may hide a text, which is then encoded again; it never gives a wrong one.
        texts = {sought[hash] for hash in found}
        assert texts <= set(stored.values())
        if not few:
            vectors = collection._segments.read({place: key for key, place in found.values()})
            for hash, (_, place) in found.items():
                assert vectors[place].tolist() == [sought[hash]]
            if action != "add":
                continue
            assert set(distinct.values()) <= texts
    store.close()


def test_runs_in_memory_stay_few(home):
    with Store(home / "k.db") as store:
        collection = store.create_collection("c", RECIPE)
        known = KnownTexts(collection._db, 1, "float32", None)
        assert known.find(["00" * 16]) == {}
        for n in range(200):
            known.add([f"{n:032x}"], np.array([n + 1]))
        assert len(known._runs) < 10
        assert sum(len(run[0]) for run in known._runs) == 200


def test_a_key_used_again_in_another_space_is_not_found(home):
    with Store(home / "k.db") as store, Store(home / "k.db") as other:
        collection = store.create_collection("c", RECIPE)
        store.create_collection("d", RECIPE).add([record(1, 1)], np.float32([[1]]))
        assert collection.missing([record(2, 1)]) == []
        other.remove_collection("d")
        far = Recipe({**RECIPE.settings, "model": "other"})
        other.create_collection("d", far).add([record(1, 1)], np.float32([[2]]))
        assert collection.missing([record(2, 1)]) == [record(2, 1)]


@pytest.mark.parametrize("bits", ["f" * 16, "0" * 16, "0123456789abcdef"])
def test_prefixes(bits):
    assert prefixes([bits + "f" * 16]).tolist() == [int(bits, 16)]
