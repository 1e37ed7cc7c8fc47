import json

import numpy as np
import pytest

from embcli import Recipe, Store
from embcli.core.maps import Linear, Map, Residual, Shift, Transform, Unit


def space(name, dim=4):
    return Recipe({"model": name, "dim": dim, "normalized": True, "imported": f"sha256:{name}"})


def turn(seed, dim=4):
    rng = np.random.default_rng(seed)
    return Linear(np.linalg.qr(rng.normal(size=(dim, dim)))[0])


def add(name, map, source, target, db="embcli.db"):
    with Store(db) as store:
        return store.maps.add(
            name, map, method="procrustes", source=space(source), target=space(target),
            fit={"pairs": {"count": 12}, "held_out": {"P@1": 0.5}},
        )  # fmt: skip


@pytest.fixture
def two(home):
    add("ab", Map(Transform.of(turn(0))), "a", "b")
    centred = Transform.of(Unit(), Shift(np.ones(4)), Unit())
    add("bc", Map(centred.then(Transform.of(turn(1))), centred), "b", "c")


def loaded(name, db="embcli.db"):
    with Store(db, readonly=True) as store:
        return store.maps.get(name)


def test_list_and_info(run, two):
    rows = run("maps", "list").rows
    assert [(r["name"], r["source"], r["target"], r["two_sided"]) for r in rows] == [
        ("ab", "a", "b", False), ("bc", "b", "c", True),
    ]  # fmt: skip
    assert rows[0] | {"created": ""} == {
        "name": "ab", "method": "procrustes", "source": "a", "target": "b", "two_sided": False,
        "dim_source": 4, "dim_target": 4, "dim": 4, "pairs": 12, "p_at_1": 0.5, "created": "",
        "collections": None,
    }  # fmt: skip
    assert run("maps", "list", "-f", "ids").out == "ab\nbc\n"
    (row,) = run("maps", "info", "bc").rows
    assert row["steps"] == {
        "source": ["unit", "shift", "unit", "linear"], "target": ["unit", "shift", "unit"],
    }  # fmt: skip
    assert row["target_recipe"]["model"] == "c"
    shown = run("maps", "info", "ab", tty=True).out
    assert "procrustes" in shown
    assert "0.5" in run("maps", "list", tty=True).out


def test_names(run, two):
    assert run("maps", "rename", "ab", "a-to-b").code == 0
    result = run("maps", "info", "ab")
    assert (result.code, result.err) == (
        5, "error: there is no map 'ab' (there are: a-to-b, bc); try: embcli maps list\n",
    )  # fmt: skip
    assert run("maps", "rename", "a-to-b", "bc").code == 2
    assert run("maps", "rename", "bc", "b c").code == 2
    assert run("maps", "rename", "bc", "--", "-c").code == 2


def test_rm(run, two):
    result = run("maps", "rm", "ab")
    assert (result.code, run("maps", "list", "-f", "ids").out) == (2, "ab\nbc\n")
    assert "embcli maps rm ab --yes" in result.err
    assert run("maps", "rm", "ab", "-y").code == 0
    with Store("embcli.db") as store:
        # The space that only the other map has is still there.
        assert {space.model for space in store.spaces()} == {"b", "c"}
    assert run("maps", "rm", "bc", "-y").code == 0
    with Store("embcli.db") as store:
        assert store.spaces() == []
    assert run("maps", "list").err == "note: embcli.db has no maps yet\n"


def test_rm_says_which_collections_need_it(run, two):
    with Store("embcli.db") as store:
        store.create_collection("mapped", loaded("bc").space)
        store.create_collection("plain", space("b"))
    assert "mapped: without map 'bc'" in run("maps", "rm", "bc", "-y").err
    assert "without map" not in run("maps", "rm", "ab", "-y").err
    assert len(run("collections", "list").rows) == 2


def test_files_make_the_same_map_elsewhere(run, two):
    result = run("maps", "export", "bc", "-o", "out/bc")
    assert result.code == 2
    result = run("maps", "export", "bc", "-o", "bc")
    assert result.err == "map 'bc' → bc.safetensors, bc.json\n"
    assert run("maps", "export", "bc", "-o", "bc.safetensors").code == 2
    assert run("maps", "export", "bc", "-o", "bc.safetensors", "--force").code == 0
    assert run("maps", "import", "bc.json", "-d", "other.db", "--name", "again").code == 0
    again, map = loaded("again", "other.db"), loaded("bc")
    assert (again.hash, again.space.hash, again.fit) == (map.hash, map.space.hash, map.fit)
    assert run("maps", "import", "bc.safetensors").code == 2
    assert run("maps", "import", "bc.safetensors", "--force").code == 0


def test_files_of_safetensors_can_be_read_by_others(run, two):
    from safetensors.numpy import load_file

    run("maps", "export", "ab", "-o", "ab.safetensors")
    assert np.array_equal(load_file("ab.safetensors")["source.0.matrix"], turn(0).matrix)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "0"}, "describes another map"),
        ({"embcli_map": 2}, "version 2, this embcli reads 1"),
        ({"source": {"model": "a"}}, "does not describe a map"),
        ({"source": space("a", 5).settings}, "takes vectors of 4 components"),
        ({"fit": 3}, "does not describe a map"),
        ({"method": "\ud800"}, "does not describe a map"),
        (
            {"source": {"model": "\ud800", "dim": 2, "normalized": True, "maps": []}},
            "does not describe a map",
        ),
        ({"fit": {"held_out": 5}}, "does not describe a map"),
    ],
)
def test_bad_files(run, two, home, change, message):
    run("maps", "export", "ab", "-o", "ab")
    known = json.loads((home / "ab.json").read_text()) | change
    (home / "ab.json").write_text(json.dumps(known))
    result = run("maps", "import", "ab.safetensors", "--name", "x")
    assert result.code == 3
    assert message in result.err


def test_damaged_tensors(run, two, home):
    import hashlib

    run("maps", "export", "ab", "-o", "ab")
    for data in (b"", b"x" * 50, (home / "ab.safetensors").read_bytes()[:-8]):
        (home / "ab.safetensors").write_bytes(data)
        known = json.loads((home / "ab.json").read_text())
        known["sha256"] = hashlib.sha256(data).hexdigest()
        (home / "ab.json").write_text(json.dumps(known))
        result = run("maps", "import", "ab.safetensors", "--name", "x")
        assert (result.code, "this is no map" in result.err) == (3, True)
    (home / "ab.json").unlink()
    assert "both are needed" in run("maps", "import", "ab.safetensors").err


def test_compose(run, two):
    assert run("maps", "compose", "ab", "bc", "--to", "ac").code == 0
    map = loaded("ac")
    assert (map.source.model, map.target.model, map.method) == ("a", "c", "composed")
    x = np.random.default_rng(5).normal(size=(9, 4))
    expected = loaded("bc").map.source.apply(loaded("ab").map.source.apply(x))
    assert map.map.source.apply(x) == pytest.approx(expected, abs=1e-12)
    result = run("maps", "compose", "bc", "ab", "--to", "x")
    assert (result.code, "'bc' ends at 'c', 'ab' begins at 'a'" in result.err) == (2, True)
    assert run("maps", "compose", "ab", "--to", "x").code == 2


def test_invert(run, two):
    assert run("maps", "invert", "ab", "--to", "ba").code == 0
    assert run("maps", "compose", "ab", "ba", "--to", "aa").code == 0
    x = np.random.default_rng(5).normal(size=(9, 4))
    assert loaded("aa").map.source.apply(x) == pytest.approx(x, abs=1e-12)
    add("mlp", Map(Transform.of(Residual(np.ones((4, 2)), np.ones(2), np.ones((2, 4))))), "a", "b")
    result = run("maps", "invert", "mlp", "--to", "x")
    assert result.code == 3
    assert "hidden layer" in result.err
    assert "--via mlp works in both directions" in result.err


def test_a_map_must_fit_its_spaces(home):
    with Store("embcli.db") as store, pytest.raises(Exception, match="3 components"):
        store.maps.add(
            "x", Map(Transform.of(turn(0, 3))), method="m", source=space("a"), target=space("b"),
            fit={},
        )  # fmt: skip


def test_maps_that_collections_need_are_not_replaced(run, two):
    with Store("embcli.db") as store:
        store.create_collection("mapped", loaded("bc").space)
    run("maps", "export", "bc", "-o", "bc")
    assert run("maps", "import", "bc", "--force").code == 0  # it is the same
    result = run("maps", "invert", "ab", "--to", "bc", "--force")
    assert (result.code, "for what it made: mapped" in result.err) == (2, True)
    assert run("maps", "import", "bc", "--name", "again").code == 0
    assert run("maps", "invert", "ab", "--to", "bc", "--force").code == 0
    assert "mapped: without map 'again'" in run("maps", "rm", "again", "-y").err


@pytest.mark.parametrize("out", ["x.v2", "x.v2.json", "x.v2.safetensors"])
def test_either_file_names_both(run, two, home, out):
    assert run("maps", "export", "ab", "-o", out).code == 0
    assert {path.name for path in home.glob("x*")} == {"x.v2.safetensors", "x.v2.json"}
    assert run("maps", "import", out, "--name", "again").code == 0
    assert run("maps", "export", "ab", "-o", "-").code == 2
