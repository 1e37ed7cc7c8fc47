"""Searching a collection from another space, through maps."""

import json
import shutil
import sqlite3

import numpy as np
import pytest

from embcli import Recipe, Record, Store, encode, load_encoder, search
from embcli.core.alignment import METHODS, Pairs
from embcli.core.maps import Linear, Map, Residual, Shift, Transform, Unit
from embcli.encoders import EncoderOptions
from embcli.errors import ModelError, NothingFoundError, StoreError, UsageError
from embcli.pipelines.align_apply import apply_map
from embcli.pipelines.composition import Composition
from embcli.pipelines.evaluate import evaluate_retrieval
from embcli.pipelines.queries import QueryEncoder, QueryOptions
from embcli.pipelines.ranking import Feedback, Ranking
from embcli.pipelines.search import nearest
from embcli.pipelines.via import find_via
from tests.conftest import ROOT, store_words
from tests.models import tiny_bert

QUERIES = ["vaccine against smallpox", "a storm at sea", "who walked on the moon?"]


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def rotation(dim, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]


def recipe_of(collection):
    with Store("embcli.db", readonly=True) as store:
        return store.collection(collection).recipe


def vectors_of(collection):
    with Store("embcli.db", readonly=True) as store:
        source = store.collection(collection)
        ids = [record.id for record in source.records()]
        return ids, source.vectors(ids)


def add(name, map, source, target):
    with Store("embcli.db") as store:
        recipes = [store.collection(item).recipe for item in (source, target)]
        return store.maps.add(
            name, map, method="test", source=recipes[0], target=recipes[1], fit={}
        )


def imported(name, ids, vectors):
    """Make a collection in a space of its own, which nobody can encode into."""
    recipe = Recipe(
        {"model": name, "dim": vectors.shape[1], "normalized": False, "imported": name, "maps": []}
    )
    with Store("embcli.db") as store:
        records = [Record(id, f"text {id}") for id in ids]
        store.create_collection(name, recipe).add(records, vectors.astype(np.float32))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two collections of the same texts, "old" by static and "new" by hash."""
    path = tmp_path_factory.mktemp("made") / "embcli.db"
    for collection, model in (("old", "static"), ("new", "hash")):
        encode(ROOT / "examples" / "corpus.jsonl", db=path, collection=collection, model=model)
    return path


@pytest.fixture
def spaces(made, home, examples):
    """A copy of it."""
    shutil.copyfile(made, home / "embcli.db")


@pytest.fixture
def maps(spaces):
    """Two maps from new to old: "ridge" leaves the target alone, "two" centres and turns it."""
    (_, x), (_, y) = vectors_of("new"), vectors_of("old")
    x, y = x.astype(np.float64), y.astype(np.float64)
    matrix = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ y)
    source = Transform.of(Unit(), Linear(matrix))
    add("ridge", Map(source), "new", "old")
    skewed = rotation(y.shape[1]) * np.linspace(0.5, 1.5, y.shape[1])
    both = Linear(skewed)
    target = Transform.of(Unit(), Shift(-y.mean(axis=0)), Unit(), both)
    add("two", Map(source.then(Transform.of(both)), target), "new", "old")


def oracle(map, collection, model, k=5):
    """Search by brute force in float64: ids and cosines for every query."""
    with Store("embcli.db", readonly=True) as store:
        stored = store.maps.get(map)
    queries = load_encoder(model).encode(QUERIES, "query").astype(np.float64)
    ids, vectors = vectors_of(collection)
    vectors = vectors.astype(np.float64)
    sides = (stored.map.source, stored.map.target)
    own, other = sides if recipe_of(collection).hash == stored.source.hash else sides[::-1]
    scores = unit(other.apply(queries)) @ unit(own.apply(vectors)).T
    for row in scores:
        order = sorted(range(len(ids)), key=lambda i: (-round(row[i], 9), ids[i]))[:k]
        yield [(ids[i], row[i]) for i in order]


def same(hits, expected, atol=1e-6):
    assert [hit.id for hit in hits] == [id for id, _ in expected]
    np.testing.assert_allclose([hit.score for hit in hits], [s for _, s in expected], atol=atol)


@pytest.mark.parametrize("collection", ["old", "new"])
@pytest.mark.parametrize("name", ["ridge", "two"])
def test_either_direction_equals_brute_force(maps, name, collection):
    model = {"old": "hash", "new": "static"}[collection]
    found = search(QUERIES, collection=collection, options=QueryOptions(via=(name,)), k=5)
    for hits, expected in zip(found, oracle(name, collection, model), strict=True):
        same(hits, expected)
    named = QueryOptions(via=(name,), model=model)
    assert search(QUERIES, collection=collection, options=named, k=5) == found


def test_a_blocks_place_makes_no_difference(maps):
    """Equal vectors tie through a map too, wherever they are stored."""
    ids, vectors = vectors_of("old")
    many = [f"{9 - n % 10}-{n:05}" for n in range(6 * len(ids))]
    with Store("embcli.db") as store:
        recipe = store.collection("old").recipe
        records = [Record(id, f"text {id}") for id in many]
        store.create_collection("tied", recipe).add(records, np.tile(vectors, (6, 1)))
    options = QueryOptions(via=("two",))
    for hits in search(QUERIES, collection="tied", options=options, k=30):
        assert [hit.id for hit in hits] == [
            hit.id for hit in sorted(hits, key=lambda hit: (-hit.score, hit.id))
        ]
        assert len({hit.score for hit in hits}) == 5


def test_the_only_way_is_found_and_told(spaces):
    matrix = np.random.default_rng(0).standard_normal((1024, 256))
    add("only", Map(Transform.of(Linear(matrix))), "new", "old")
    notes = []
    found = search(QUERIES, collection="old", options=QueryOptions(model="hash"), note=notes.append)
    assert notes == ["queries of 'hash' go through map 'only' to collection 'old'"]
    assert found == search(QUERIES, collection="old", options=QueryOptions(via=("only",)))


def test_several_ways_are_listed(maps):
    with pytest.raises(
        UsageError, match=r"several ways .* to collection 'old': ridge; two"
    ) as info:
        search("x", collection="old", options=QueryOptions(model="hash"))
    assert info.value.hint == "--via ridge"


def test_a_chain_equals_its_maps_one_after_the_other(spaces):
    ids, _ = vectors_of("old")
    rng = np.random.default_rng(1)
    imported("middle", ids, rng.standard_normal((len(ids), 32)))
    first, second = rng.standard_normal((1024, 32)), rng.standard_normal((256, 32))
    add("first", Map(Transform.of(Unit(), Linear(first))), "new", "middle")
    add("second", Map(Transform.of(Unit(), Linear(second))), "old", "middle")
    notes = []
    options = QueryOptions(model="hash")
    found = search(QUERIES, collection="old", options=options, note=notes.append, k=5)
    assert "the chain of maps 'first' and 'second'" in notes[0]
    queries = load_encoder("hash").encode(QUERIES, "query").astype(np.float64)
    ids, vectors = vectors_of("old")
    scores = unit(queries @ first) @ unit(vectors.astype(np.float64) @ second).T
    for hits, row in zip(found, scores, strict=True):
        same(hits, [(ids[i], row[i]) for i in np.argsort(-row)[:5]])
    named = QueryOptions(via=("second", "first"))
    assert search(QUERIES, collection="old", options=named, k=5) == found


def test_a_chain_that_cannot_be_composed_does_not_count(spaces):
    ids, _ = vectors_of("old")
    imported("middle", ids, np.eye(len(ids), 8) + 1)
    rng = np.random.default_rng(1)
    for name, source, dim in (("first", "new", 1024), ("second", "old", 256)):
        bent = Transform.of(Residual(np.full((8, 4), dim), np.zeros(4), np.ones((4, 8))))
        linear = Transform.of(Linear(rng.standard_normal((dim, 8))))
        add(name, Map(linear, bent), source, "middle")
    with pytest.raises(UsageError, match="encoded with 'static', not 'hash'"):
        search("x", collection="old", options=QueryOptions(model="hash"))
    with pytest.raises(UsageError, match=r"cannot be put behind each other: .* hidden layer"):
        search("x", collection="old", options=QueryOptions(via=("first", "second")))


def test_a_rotation_leaves_stored_vectors_and_their_codes_alone(spaces):
    ids, vectors = vectors_of("old")
    turn = rotation(256)
    imported("turned", ids, vectors @ turn)
    add("turn", Map(Transform.of(Unit(), Linear(turn))), "old", "turned")
    with Store("embcli.db", readonly=True) as store:
        for collection, name in (("old", "turned"), ("turned", "static")):
            via = find_via(store, store.collection(collection), ["turn"], name)
            assert via.within is None
            (best,) = nearest(
                store.collection(collection), via.lead(vectors[:1]) if name == "static" else
                unit(vectors[:1] @ turn @ turn.T).astype(np.float32), 3,
            )  # fmt: skip
            assert best[0].record.id == ids[0]
            assert best[0].score == pytest.approx(1, abs=1e-6)


def test_what_only_the_targets_side_need_not_do_moves_to_the_source():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 8)), rng.standard_normal((7, 8))
    turn, skewed = Linear(rotation(8)), Linear(rng.standard_normal((8, 8)))
    shift, source = Shift(rng.standard_normal(8)), Transform.of(Linear(rng.standard_normal((8, 8))))
    for steps, left in [
        ([Unit(), turn], []),
        ([turn, Unit()], []),
        ([Unit(), shift, Unit(), turn], ["unit", "shift"]),
        ([skewed, Unit(), turn, turn], ["linear"]),
        ([turn, shift], ["linear", "shift"]),
        ([], []),
    ]:
        before = Map(source, Transform(tuple(steps)))
        after = before.on_source()
        assert [step.name for step in after.target.steps] == left
        expected, found = (
            unit(map.source.apply(x)) @ unit(map.target.apply(y)).T for map in (before, after)
        )
        np.testing.assert_allclose(found, expected, atol=1e-12)


RANKINGS = [
    None,
    Ranking(source="hybrid"),
    Ranking(source="hybrid", fusion="rrf", explain=True),
    Ranking(feedback=Feedback(k=3)),
    Ranking(mmr=0.5),
]


@pytest.mark.parametrize("ranking", RANKINGS, ids=["dense", "hybrid", "rrf", "prf", "mmr"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_search_through_a_map_equals_one_of_the_mapped_collection(
    maps, examples, ranking, chunked
):
    """What a two-sided map does on the way is what `align apply` stores."""
    collection = "old"
    if chunked:
        collection = "cut"
        encode(examples / "corpus.jsonl", collection="cut", chunk="sentences=1", model="static")
    apply_map("two", collection, "mapped")
    for options in ({}, {"where": 'category = "medicine"'}):
        found, expected = (
            search(QUERIES, collection=name, options=asked, ranking=ranking, **options)
            for name, asked in [
                (collection, QueryOptions(via=("two",))),
                ("mapped", QueryOptions(model="hash")),
            ]
        )
        for hits, others in zip(found, expected, strict=True):
            same(hits, [(hit.id, hit.score) for hit in others], 1e-5)
            assert [hit.chunk for hit in hits] == [hit.chunk for hit in others]
            assert (hits[0].explain is None) == (others[0].explain is None)


def test_composed_queries_are_composed_where_they_are_compared(maps):
    apply_map("two", "old", "mapped")
    composition = Composition(plus=("the sea", "@tambora-1815:0.5"), minus=("war",))
    found, expected = (
        search(QUERIES[1], collection=name, options=asked, composition=composition)
        for name, asked in [
            ("old", QueryOptions(via=("two",))), ("mapped", QueryOptions(model="hash"))
        ]
    )  # fmt: skip
    same(found[0], [(hit.id, hit.score) for hit in expected[0]], 1e-5)


def test_thresholds_are_cosines_where_they_are_compared(maps):
    options = QueryOptions(via=("two",))
    (every,) = search(QUERIES[0], collection="old", options=options, k=5)
    assert search(QUERIES[0], collection="old", options=options, threshold=every[2].score) == [
        every[:3]
    ]


def test_a_map_to_the_collections_own_space_changes_nothing_else(maps):
    composition = Composition(given=("fire", "water", "earth", "air", "snow", "rain"))
    one = QueryOptions(via=("ridge",))
    assert search("sea", collection="old", options=one, composition=composition)[0]
    assert search("sea", collection="old", options=one, ranking=Ranking(relevant=True)) is not None


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"ranking": Ranking(relevant=True)}, "of its own, and --relevant knows the collection's"),
        ({"exact": False}, "codes are of the collection's: not with --coded"),
        ({"composition": Composition(given=("a", "b"))}, "of its own: not with --given"),
    ],
)
def test_what_does_not_work_in_a_space_of_the_maps_own(maps, asked, message):
    with pytest.raises(UsageError, match=message):
        search("x", collection="old", options=QueryOptions(via=("two",)), **asked)


def test_a_mapped_collection_takes_queries_of_both_models(maps):
    apply_map("two", "old", "mapped")
    assert recipe_of("mapped").base.hash == recipe_of("old").hash
    (own,) = search(QUERIES[0], collection="mapped")
    assert own[0].id == "jenner-cowpox-1796"
    assert [own] == search(QUERIES[0], collection="mapped", options=QueryOptions(model="static"))
    other = search(QUERIES[0], collection="mapped", options=QueryOptions(model="hash"))
    assert other[0] != own
    assert other == search(QUERIES[0], collection="mapped", options=QueryOptions(via=("two",)))


def test_a_mapped_collection_without_its_map(maps, run):
    apply_map("two", "old", "mapped")
    with Store("embcli.db") as store:
        kept = store.maps.get("two")
        store.maps.remove("two")
    with pytest.raises(ModelError, match="were mapped, and the map is not in the store any more"):
        search("x", collection="mapped")
    with pytest.raises(UsageError, match="encoded with 'static', not 'hash'"):
        search("x", collection="mapped", options=QueryOptions(model="hash"))
    assert search(like="tambora-1815", collection="mapped")[0]
    assert search("moon", collection="mapped", ranking=Ranking(source="lexical"))[0]
    result = run("encode", "examples/corpus.jsonl", "-c", "mapped")
    assert result.code == 2
    assert "has mapped vectors, which no model makes; try: encode into" in result.err
    with Store("embcli.db") as store:  # by what it does, whatever it is called
        store.maps.add(
            "again", kept.map, method="x", source=kept.source, target=kept.target, fit={}
        )
    assert search("x", collection="mapped")


def test_records_of_the_other_side_are_looked_for_by_example(maps):
    ids, _ = vectors_of("new")
    options = QueryOptions(via=("two",))
    (hits,) = search(like="tambora-1815", collection="old", options=options, k=3)
    with Store("embcli.db", readonly=True) as store:
        map = store.maps.get("two").map
        (vector,) = store.collection("new").vectors(["tambora-1815"])
    _, vectors = vectors_of("old")
    row = unit(map.target.apply(vectors.astype(np.float64))) @ unit(
        map.source.apply(vector[None].astype(np.float64))[0]
    )
    same(hits, [(ids[i], row[i]) for i in np.argsort(-row)[:3]])
    assert hits[0].id == "tambora-1815"
    with pytest.raises(NothingFoundError, match="at the other end of map 'two', of 'hash', has a"):
        search(like="nobody", collection="old", options=options)


def test_the_wrong_space_is_named(maps, examples):
    with pytest.raises(StoreError, match="no map 'none' \\(there are: ridge, two\\)"):
        search("x", collection="old", options=QueryOptions(via=("none",)))
    other = EncoderOptions(pooling="none")
    encode(examples / "corpus.jsonl", collection="tokens", model="static", options=other)
    message = (
        "map 'ridge' joins the spaces of 'hash' and 'static', and collection 'tokens' is in "
        "another one, of 'static' \\(pooling: mean → none"
    )
    with pytest.raises(UsageError, match=message) as info:
        search("x", collection="tokens", options=QueryOptions(via=("ridge",)))
    assert info.value.hint.startswith("embcli align fit")
    with pytest.raises(UsageError, match="map 'ridge' takes queries of model 'hash', not of 'sta"):
        search("x", collection="old", options=QueryOptions(via=("ridge",), model="static"))
    with pytest.raises(UsageError, match="encoded with 'static', not 'nowhere'") as info:
        search("x", collection="old", options=QueryOptions(model="nowhere"))
    assert "embcli align fit" in info.value.hint


def test_queries_are_cached_unmapped_in_their_own_space(spaces, home):
    tiny_bert(home / "bert")
    encode(home / "examples" / "corpus.jsonl", collection="bert", model="bert")
    dim = recipe_of("bert").dim
    matrix = np.random.default_rng(0).standard_normal((dim, 256))
    add("m", Map(Transform.of(Linear(matrix))), "bert", "old")
    options = QueryOptions(model="bert")
    first = search(QUERIES, collection="old", options=options)
    connection = sqlite3.connect("embcli.db")
    (model, width), *others = connection.execute(
        "SELECT DISTINCT json_extract(recipe, '$.model'), length(vector) FROM queries "
        "JOIN spaces ON spaces.key = queries.space"
    ).fetchall()
    connection.close()
    assert (model.endswith("bert"), width, others) == (True, 4 * dim, [])
    assert search(QUERIES, collection="old", options=options) == first
    encoder = load_encoder("bert", EncoderOptions(dtype="float32")).encode(QUERIES[:1], "query")
    ids, vectors = vectors_of("old")
    (row,) = unit(encoder @ matrix) @ unit(vectors).T
    assert first[0][0].id == ids[int(row.argmax())]
    assert first[0][0].score == pytest.approx(row.max(), abs=1e-5)


def test_words_are_translated_by_search(shared, home):
    """Spanish to English through Procrustes; P@1 as in the shared reference figures."""
    from itertools import groupby

    folder = shared / "bli" / "es-en"
    sides = {}
    for language in ("es", "en"):
        with (folder / f"word2vec.{language}").open(encoding="utf-8") as file:
            next(file)
            rows = [line.rstrip().split(" ") for line in file]
        words = [row[0] for row in rows]
        sides[language] = words, np.array([row[1:] for row in rows], np.float32)
        store_words("embcli.db", language, *sides[language])
    at = {language: {w: i for i, w in enumerate(words)} for language, (words, _) in sides.items()}

    def pairs(part):
        rows = map(str.split, (folder / f"es-en.{part}.txt").read_text().splitlines())
        return [(a, b) for a, b in rows if a in at["es"] and b in at["en"]]

    train, test = pairs("0-5000"), pairs("5000-6500")
    rows = np.array([at["es"][a] for a, _ in train])
    columns = np.array([at["en"][b] for _, b in train])
    fitted = METHODS["procrustes"].fit(Pairs(sides["es"][1], sides["en"][1], rows, columns))
    add("es-en", fitted, "es", "en")
    gold = {a: {b for _, b in group} for a, group in groupby(sorted(test), lambda pair: pair[0])}
    with Store("embcli.db", readonly=True) as store:
        source = store.collection("en")
        encoder = QueryEncoder(store, source, QueryOptions(via=("es-en",)))
        queries = encoder.via.lead(store.collection("es").vectors(list(gold)))
        found = nearest(source, queries, 1, within=encoder.via.within)
    hits = [best[0].record.id in right for best, right in zip(found, gold.values(), strict=True)]
    assert len(hits) == 393
    assert np.mean(hits) >= 0.745
    word, right = next(
        (word, right) for word, right, hit in zip(gold, gold.values(), hits, strict=True) if hit
    )
    (hits,) = search(like=word, collection="en", options=QueryOptions(via=("es-en",)), k=1)
    assert hits[0].id in right


def test_a_search_through_a_map_is_evaluated(maps, run, examples):
    words = ("eval", "retrieval", "examples/beir", "-c", "beir", "--measure", "nDCG@10")
    assert run(*words).code == 0
    apart = run("eval", "retrieval", "examples/beir", "-c", "hashed", "-m", "hash")
    assert apart.code == 0
    own = run(*words).rows[0]["value"]
    through = run(*words, "--via", "ridge")
    assert "as it is" in through.err
    assert 0 < through.rows[0]["value"] < own
    assert run(*words, "--via", "ridge", "-m", "hash").rows == through.rows
    assert run(*words[:3], "-c", "none", "--via", "ridge").code == 5
    with pytest.raises(UsageError, match="leave out --run, --model, --via"):
        evaluate_retrieval(
            examples / "beir", from_run="x.run", options=QueryOptions(via=("ridge",))
        )


def test_a_collection_is_calibrated_for_its_own_model(maps, run):
    words = ("calibrate", "examples/beir", "-c", "old", "-m", "hash")
    with Store("embcli.db") as store:
        store.maps.remove("two")
    result = run(*words)
    assert result.code == 2
    assert "map 'ridge' leads there from 'hash', and a collection is calibrated" in result.err


def test_via_on_the_command_line(maps, run):
    words = ("search", QUERIES[0], "-c", "old", "-k", "3")
    named = run(*words, "--via", "ridge")
    assert (named.code, named.err, len(named.rows)) == (0, "", 3)
    ambiguous = run(*words, "-m", "hash")
    assert ambiguous.code == 2
    assert ambiguous.err.rstrip().endswith("ridge; two; try: --via ridge")
    with Store("embcli.db") as store:
        store.maps.remove("two")
    found = run(*words, "-m", "hash")
    assert found.err == "note: queries of 'hash' go through map 'ridge' to collection 'old'\n"
    assert found.rows == named.rows
    assert run(*words, "-m", "hash", "-q").err == ""
    json.loads(run(*words, "--via", "ridge", "-f", "json").out)


def test_two_languages_of_one_model(run, home):
    """Both sides of the map are in one space: queries are of the source."""
    rng = np.random.default_rng(0)
    dim = 256
    english = {"a": "The cat sleeps on the sofa.", "b": "Bond prices fell as interest rates rose."}
    french = {"a": "Le chat dort sur le canapé.", "b": "Le cours des obligations a baissé."}
    for name, texts in (("en", english), ("fr", french)):
        lines = [json.dumps({"id": id, "text": text}) + "\n" for id, text in texts.items()]
        (home / f"{name}.jsonl").write_text("".join(lines))
        assert run("encode", f"{name}.jsonl", "-c", name).code == 0
    turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    other = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    map = Map(Transform.of(Linear(turn), Unit()), Transform.of(Shift(np.full(dim, 0.1)),
                                                               Linear(other), Unit()))  # fmt: skip
    with Store("embcli.db") as store:
        space = store.collection("en").recipe
        store.maps.add(
            "en-fr", map, method="m", source=space, target=space,
            fit={"collections": {"source": "en", "target": "fr"}},
        )  # fmt: skip
        vectors = {name: store.collection(name).vectors(["a", "b"]) for name in ("en", "fr")}
    query = vectors["en"][:1]  # the query is the text of a record
    expected = (map.source.apply(query) @ map.target.apply(vectors["fr"]).T)[0]
    for collection in ("fr", "mapped"):
        if collection == "mapped":
            assert run("align", "apply", "en-fr", "-c", "fr", "--to", "mapped").code == 0
        rows = run("search", english["a"], "-c", collection, "--via", "en-fr").rows
        found = {row["id"]: row["score"] for row in rows}
        assert [found["a"], found["b"]] == pytest.approx(expected.tolist(), abs=1e-5)
    # Without a map, queries of what was mapped are of the target.
    rows = run("search", french["a"], "-c", "mapped").rows
    assert (rows[0]["id"], rows[0]["score"]) == ("a", pytest.approx(1, abs=1e-5))
    assert run("align", "apply", "en-fr", "-c", "fr", "--to", "other", "--side", "source").code == 0
    with Store("embcli.db", readonly=True) as store:
        turned = store.collection("other").vectors(["a"])
    assert turned == pytest.approx(map.source.apply(vectors["fr"][:1]), abs=1e-5)
