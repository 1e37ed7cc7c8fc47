import numpy as np
import pytest

from embcli import Recipe, Record, Store
from embcli.errors import InputError, UsageError
from embcli.pipelines.sides import open_sides, pair_up
from embcli.store import checks


def fill(name, records, dim=3, **settings):
    recipe = Recipe({"model": name, "dim": dim, "normalized": False, "maps": []} | settings)
    vectors = np.random.default_rng(len(name)).normal(size=(len(records), dim))
    with Store("embcli.db") as store:
        rows = [Record(id, text) for id, text in records]
        store.create_collection(name, recipe).add(rows, vectors.astype(np.float32))
    return vectors


@pytest.fixture
def two(home):
    fill("es", [("1", "perro"), ("2", "gato"), ("sol", "estrella"), ("4", "gato")])
    fill("en", [("2", "cat"), ("dog", "hound"), ("9", "sol"), ("10", "gato")], 5)


def paired(pairs, source="es", target="en"):
    problems = []
    with open_sides(source, target, db="embcli.db") as sides:
        found = pair_up(*sides, pairs, problems.append)
        named = [
            (sides[0].ids[row], sides[1].ids[column])
            for row, column in zip(found.pairs.rows, found.pairs.columns, strict=True)
        ]
    return found, named, problems


def test_ids_and_texts(two):
    assert paired("ids")[1] == [("2", "2")]
    found, named, _ = paired("texts")
    assert named == [("2", "10")]
    assert (found.count, found.covered, found.origin) == (1, 1, "texts")
    assert paired("none")[1] == []


def test_files_name_ids_or_else_texts(two, home):
    (home / "d.txt").write_text("perro dog\nsol sol\nperro cat\nratón mouse\nx\n")
    found, named, problems = paired("d.txt")
    # "sol" is the id of one record of the source and the text of another of the target.
    assert named == [("1", "dog"), ("sol", "9"), ("1", "2")]
    assert (found.given, found.count, found.sources, found.covered) == (4, 3, 3, 2)
    assert [problem.line for problem in problems] == [5]
    assert found.pairs.source.shape == (4, 3)


def test_nothing_in_common_says_why(two, home):
    fill("other", [("x", "y")])
    with pytest.raises(InputError, match="'es' and 'other' have no id in common"):
        paired("ids", "es", "other")
    (home / "d.txt").write_text("ratón mouse\n")
    with pytest.raises(InputError, match=r"d\.txt: of 1 pair 0 sources are in 'es'.*'ratón'"):
        paired("d.txt")
    (home / "d.txt").write_text("dog perro\n")
    with pytest.raises(InputError) as caught:
        paired("d.txt")
    assert "exchange --source and --target" in caught.value.hint
    (home / "d.txt").write_text("Perro Dog\n")
    with pytest.raises(InputError) as caught:
        paired("d.txt")
    assert "upper and lower case" in caught.value.hint


def test_collections_that_cannot_be_aligned(two, home):
    with Store("embcli.db") as store:
        recipe = Recipe({"model": "m", "dim": 3, "normalized": False, "maps": []})
        store.create_collection("empty", recipe)
        bad = store.create_collection("bad", Recipe({**recipe.settings, "model": "n"}))
        bad.add([Record("fine", "a"), Record("broken", "b")], np.ones((2, 3), np.float32))
        # The store takes no such vector in; another program may have.
        stored = np.array([[1, 2, 3], [1, np.inf, 3]], "<f4").tobytes()
        store._db.execute("UPDATE segments SET vectors = ?", (stored,))
        checks.seal_all(store._db.connection)
    with pytest.raises(InputError, match="'empty' is empty"):
        paired("ids", "empty")
    with pytest.raises(InputError, match=r"'bad': 1 vector with components .* that of 'broken'"):
        paired("ids", "bad")


def test_tokens_are_refused(run, corpus):
    assert run("encode", corpus, "--pooling", "none", "-c", "tokens").code == 0
    with pytest.raises(UsageError, match="a vector for every token"):
        paired("ids", "tokens", "tokens")


def test_texts_that_were_mapped_are_the_same_texts(run, corpus):
    from embcli.core.maps import Linear, Map, Transform

    assert run("encode", corpus, "-c", "own").code == 0
    with Store("embcli.db") as store:
        space = store.collection("own").recipe
        other = Recipe({**space.settings, "weights": "others"})
        turn = Map(Transform.of(Linear(np.eye(256)[::-1].copy())))
        store.maps.add("m", turn, method="m", source=space, target=other, fit={})
    assert run("align", "apply", "m", "-c", "own", "--to", "mapped").code == 0
    assert len(paired("texts", "own", "mapped")[1]) == 5
