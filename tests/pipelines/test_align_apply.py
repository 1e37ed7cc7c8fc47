"""From a collection, through a map, to another one."""

import json

import numpy as np
import pytest

from embcli import Recipe, Record, Store, encode, load_encoder, search
from embcli.core.maps import Linear, Map, Shift, Transform, Unit
from embcli.encoders import EncoderOptions
from embcli.errors import StoreError, UsageError
from embcli.pipelines.align_apply import apply_map
from embcli.pipelines.encode import Listeners


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def contents(collection):
    with Store("embcli.db", readonly=True) as store:
        source = store.collection(collection)
        records = sorted(source.records(), key=lambda record: record.id)
        return records, source.vectors([record.id for record in records])


def add(name, map, source, target, replace=False):
    with Store("embcli.db") as store:
        source, target = (store.collection(item).recipe for item in (source, target))
        store.maps.add(
            name, map, method="test", source=source, target=target, fit={}, replace=replace
        )


def space(name, dim, normalized=False):
    return Recipe(
        {"model": name, "dim": dim, "normalized": normalized, "imported": name, "maps": []}
    )


def store_vectors(name, vectors, normalized=False):
    recipe = space(name, vectors.shape[1], normalized)
    records = [Record(f"r{n}", f"text {n}", {"n": n}, f"f:{n + 1}") for n in range(len(vectors))]
    with Store("embcli.db") as store:
        store.create_collection(name, recipe).add(records, vectors.astype(np.float32))


@pytest.fixture
def maps(corpus):
    """Collections "old" and "new", and maps from new to old that change one side, and both."""
    encode(corpus, collection="old", model="static")
    encode(corpus, collection="new", model="hash")
    matrix = np.random.default_rng(0).standard_normal((1024, 256))
    source = Transform.of(Unit(), Linear(matrix))
    add("one", Map(source), "new", "old")
    target = Transform.of(Unit(), Shift(np.full(256, 0.01)), Unit())
    add("two", Map(source, target), "new", "old")


@pytest.mark.parametrize(
    ("name", "collection", "side"),
    [("one", "new", "source"), ("two", "new", "source"), ("two", "old", "target")],
)
def test_vectors_are_mapped_and_all_else_is_copied(maps, name, collection, side):
    report = apply_map(name, collection, "mapped")
    assert (report.records, report.mapped, report.unchanged, report.total) == (5, 5, 0, 5)
    with Store("embcli.db", readonly=True) as store:
        map = store.maps.get(name)
        mapped = store.collection("mapped")
        assert mapped.recipe.hash == map.space.hash
        (latest,) = store.runs(1)
    assert (latest.command, latest.collection, latest.status) == ("align apply", "mapped", "done")
    assert latest.arguments["sha256"] == map.hash
    records, before = contents(collection)
    copies, vectors = contents("mapped")
    assert [copy.row() for copy in copies] == [record.row() for record in records]
    transform = getattr(map.map, side)
    np.testing.assert_allclose(vectors, unit(transform.apply(before.astype(float))), atol=1e-6)
    from embcli.pipelines.ranking import Ranking

    (found,) = search("postman", collection="mapped", ranking=Ranking(source="lexical"))
    assert [hit.id for hit in found] == ["dog"]


def test_the_same_again_does_nothing_and_changes_come_in(maps, corpus, run):
    apply_map("one", "new", "mapped")
    again = apply_map("one", "new", "mapped")
    assert (again.mapped, again.unchanged, again.updated) == (0, 5, 0)
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    rows[0]["text"] = "A cat sits by the fire."
    rows[1]["kind"] = "animal"
    rows.append({"id": "new", "text": "Something else."})
    corpus.write_text("\n".join(map(json.dumps, rows)))
    encode(corpus, collection="new")
    changed = apply_map("one", "new", "mapped")
    assert (changed.mapped, changed.unchanged, changed.updated, changed.total) == (2, 4, 2, 6)
    records, vectors = contents("mapped")
    assert records == contents("new")[0]
    encode(corpus, collection="fresh", model="hash")
    apply_map("one", "fresh", "whole")
    np.testing.assert_allclose(vectors, contents("whole")[1], atol=1e-6)


def test_a_vector_that_changed_under_the_same_text_is_noticed(home):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((20, 8))
    store_vectors("a", vectors)
    store_vectors("b", rng.standard_normal((20, 8)))
    add("m", Map(Transform.of(Linear(rng.standard_normal((8, 8))))), "a", "b")
    apply_map("m", "a", "mapped")
    vectors[7, 3] = np.nextafter(np.float32(vectors[7, 3]), np.float32(9))
    store_vectors("a", vectors)
    report = apply_map("m", "a", "mapped")
    assert (report.mapped, report.unchanged, report.updated) == (1, 19, 1)
    # Another map of the same name leads elsewhere; the same space, and the numbers change.
    add("m", Map(Transform.of(Linear(rng.standard_normal((8, 8))))), "a", "b", replace=True)
    assert apply_map("m", "a", "mapped").mapped == 20


def test_mapped_vectors_never_pass_for_the_models_own(maps, corpus):
    """Who encodes later gets the model's vectors, in the collection that was mapped too."""
    true = contents("old")[1]
    with Store("embcli.db") as store:
        store.remove_collection("old")
    apply_map("one", "new", "mapped")
    fresh = encode(corpus, collection="fresh", model="static")
    assert (fresh.encoded, fresh.reused) == (5, 0)
    np.testing.assert_array_equal(contents("fresh")[1], true)
    with Store("embcli.db") as store:
        store.remove_collection("fresh")
    filled = encode(corpus, collection="mapped")
    assert (filled.encoded, filled.updated) == (5, 5)
    again = apply_map("one", "new", "mapped")
    assert (again.mapped, again.unchanged) == (0, 5)
    np.testing.assert_array_equal(contents("mapped")[1], true)


def test_chunks_stay_chunks(maps, examples):
    encode(examples / "corpus.jsonl", collection="cut", model="hash", chunk="sentences=1")
    apply_map("two", "cut", "mapped")
    with Store("embcli.db", readonly=True) as store:
        source, mapped = store.collection("cut"), store.collection("mapped")
        assert mapped.chunking == source.chunking
        map = store.maps.get("two").map
        ids = [record.id for record in source.records()]
        for before, after in zip(source.chunks(ids), mapped.chunks(ids), strict=True):
            assert [(c.start, c.end) for c in before] == [(c.start, c.end) for c in after]
            vectors = map.source.apply(np.stack([c.vector for c in before]).astype(float))
            np.testing.assert_allclose(
                np.stack([c.vector for c in after]), unit(vectors), atol=1e-6
            )
    assert apply_map("two", "cut", "mapped").unchanged == len(ids)


def test_some_records_and_half_the_room(maps, run):
    result = run(
        "align", "apply", "one", "-c", "new", "--to", "some", "--where", 'kind = "pet"',
        "--storage", "float16", "-f", "json",
    )  # fmt: skip
    assert result.code == 0
    assert result.err.startswith("mapped 2, unchanged 0, updated 0, skipped 0 in ")
    (row,) = json.loads(result.out)
    assert (row["collection"], row["map"], row["records"]) == ("some", "one", 2)
    with Store("embcli.db", readonly=True) as store:
        assert store.collection("some").dtype == "float16"
    # A new collection stores vectors as the one that is mapped.
    assert run("align", "apply", "two", "-c", "some", "--to", "more").code == 0
    with Store("embcli.db", readonly=True) as store:
        assert store.collection("more").dtype == "float16"


def test_what_nothing_is_left_of_is_named_and_skipped(home, run):
    vectors = np.array([[1, 0], [0, 1], [1, 1], [0, 3e38]], np.float32)
    store_vectors("a", vectors)
    store_vectors("b", np.eye(2))
    add("m", Map(Transform.of(Linear(np.array([[1.0, 0], [0, 0]])))), "a", "b")
    result = run("align", "apply", "m", "-c", "a", "--to", "mapped")
    assert result.code == 3
    assert result.err.splitlines()[:2] == [
        "skipped: f:2: the map makes a vector of zeros of record 'r1'",
        "skipped: f:4: the map makes a vector of zeros of record 'r3'",
    ]
    assert "mapped 2, unchanged 0, updated 0, skipped 2" in result.err
    add("m", Map(Transform.of(Linear(np.array([[1.0, 0], [0, 9]])))), "a", "b", replace=True)
    result = run("align", "apply", "m", "-c", "a", "--to", "mapped")
    assert result.code == 3
    assert "skipped: f:4: the map makes a vector that is not finite of record 'r3'" in result.err
    np.testing.assert_array_equal(contents("mapped")[1], [[1, 0], [0, 9], [1, 9]])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("one", "-c", "old", "--to", "x"), 2,
         ("map 'one' leads from 'hash' to 'static', and collection 'old' is where it leads; try: "
          "embcli maps invert one")),
        (("one", "-c", "tokens", "--to", "x"), 2,
         ("map 'one' leads from 'hash' to 'static', and collection 'tokens' is in another space, "
          "of 'static' (pooling: mean → none")),
        (("one", "-c", "new", "--to", "new"), 2, "goes into another collection; try: --to NAME"),
        (("one", "-c", "new", "--to", "tokens"), 2, "collection 'tokens' is in another space"),
        (("none", "-c", "new", "--to", "x"), 5, "no map 'none' (there are: one, two)"),
        (("one", "-c", "none", "--to", "x"), 5, "no collection 'none'"),
        (("one", "-c", "new", "--to", "x", "-d", "no.db"), 5, "there is no store at no.db"),
    ],
)  # fmt: skip
def test_what_cannot_be_mapped(maps, corpus, run, words, code, message):
    encode(corpus, collection="tokens", model="static", options=EncoderOptions(pooling="none"))
    result = run("align", "apply", *words)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert result.err.count("\n") == 1
    with Store("embcli.db", readonly=True) as store:
        assert {info.name for info in store.collections()} == {"old", "new", "tokens"}


def test_equal_texts_have_equal_vectors_in_every_batch(home, monkeypatch):
    """However a product rounds in batches of other sizes, ties stay ties."""
    rng = np.random.default_rng(0)
    store_vectors("b", np.eye(64))
    recipe = space("a", 96)
    rows = rng.standard_normal((100, 96)).astype(np.float32)
    with Store("embcli.db") as store:
        records = [Record(f"r{n}", f"text {n % 100}") for n in range(777)]
        store.create_collection("a", recipe).add(records, np.resize(rows, (777, 96)))
    add("m", Map(Transform.of(Linear(rng.standard_normal((96, 64))))), "a", "b")
    monkeypatch.setattr("embcli.pipelines.align_apply._RECORDS_AT_ONCE", 111)
    assert apply_map("m", "a", "mapped").mapped == 777
    with Store("embcli.db", readonly=True) as store:
        vectors = store.collection("mapped").vectors([f"r{n}" for n in range(777)])
    np.testing.assert_array_equal(vectors, np.resize(vectors[:100], (777, 64)))


def test_progress_and_batches(home, monkeypatch):
    """Batches of any size give the same; what is told of them adds up."""
    rng = np.random.default_rng(0)
    store_vectors("a", rng.standard_normal((2500, 8)))
    store_vectors("b", np.eye(8))
    with Store("embcli.db") as store:  # some gaps
        store.collection("a").delete([f"r{n}" for n in range(0, 2500, 7)])
    add("m", Map(Transform.of(Unit(), Linear(rng.standard_normal((8, 8))))), "a", "b")
    apply_map("m", "a", "whole")
    monkeypatch.setattr("embcli.pipelines.align_apply._RECORDS_AT_ONCE", 100)
    told = []
    apply_map("m", "a", "parts", listeners=Listeners(progress=lambda *seen: told.append(seen)))
    (records, vectors), (others, expected) = contents("parts"), contents("whole")
    assert records == others
    np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-6)
    assert told[0] == (100, 2142, 100)
    assert told[-1] == (2142, 2142, 2142)


def test_a_mapped_static_collection_equals_the_encoder_and_the_map(maps):
    apply_map("two", "old", "mapped")
    records, vectors = contents("mapped")
    with Store("embcli.db", readonly=True) as store:
        map = store.maps.get("two").map
    expected = unit(map.target.apply(load_encoder("static").encode([r.text for r in records])))
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    with pytest.raises(StoreError, match="no collection 'nothing'"):
        apply_map("two", "nothing", "x")
    with pytest.raises(UsageError, match="goes into another collection"):
        apply_map("two", "old")
