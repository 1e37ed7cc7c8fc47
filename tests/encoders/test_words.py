import csv

import numpy as np
import pytest

from embcli import Record, Store, encode, load_encoder, search
from embcli.core.correlation import spearman
from embcli.core.sif import common_component, sif_weights, zipf
from embcli.encoders import EncoderOptions
from embcli.errors import ModelError, NothingFoundError, UsageError
from embcli.pipelines.encode import Listeners
from embcli.pipelines.queries import QueryOptions
from tests.conftest import store_words

VOCABULARY = ["the", "a", "of", "on", "cat", "dog", "barks", "sleeps", "bank", "rate", "London"]


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(0.2, 1, (len(VOCABULARY), 16)).astype(np.float32)


@pytest.fixture
def words(home, vectors):
    store_words(home / "embcli.db", "words", VOCABULARY, vectors)


def load(name="words:words", notes=None, **options):
    note = (lambda message: None) if notes is None else notes.append
    return load_encoder(name, EncoderOptions(**{"store": "embcli.db", **options}), note)


def unit(vector):
    return vector / np.linalg.norm(vector)


def test_texts_are_weighted_averages(words, vectors):
    weights = sif_weights(zipf(len(VOCABULARY)))
    the, cat, sleeps = (VOCABULARY.index(word) for word in ("the", "cat", "sleeps"))
    expected = weights[the] * vectors[the] + weights[cat] * vectors[cat]
    expected += weights[sleeps] * vectors[sleeps]
    (found,) = load().encode(["The cat, it sleeps!"])
    assert found == pytest.approx(unit(expected), abs=1e-6)
    assert found.dtype == np.float32


def test_a_text_does_not_depend_on_the_others(words):
    texts = ["the cat", "a dog barks on the bank of London", "", "rate rate"]
    together = load().encode(texts)
    assert np.array_equal(together, np.concatenate([load().encode([text]) for text in texts]))
    assert not together[2].any()
    assert load().encode([]).shape == (0, 16)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("CAT", "cat"), ("Cat", "cat"), ("london", "London"), ("cat-dog", "cat dog"),
        ("cat's", "cat"), ("«cat»", "cat"), ("dog...barks", "dog barks"), ("cat zebra", "cat"),
    ],
)  # fmt: skip
def test_words_are_found(words, text, same):
    assert np.array_equal(*load().encode([text, same]))


def test_digits_as_the_google_news_vectors_have_them(home):
    store_words("embcli.db", "words", ["in", "####"], np.eye(2, dtype=np.float32))
    assert load().encode(["1984"]).tolist() == [[0, 1]]


def test_unknown_words_are_reported(words):
    notes = []
    encoder = load(notes=notes)
    encoder.encode(["the zebra and the cat", "zebra"])
    assert not notes
    assert encoder.facts() == {"words": 6, "unknown_words": 3}
    encoder.close()
    assert notes == ["3 of 6 words (50.0%) are not in collection 'words', such as zebra, and"]
    notes.clear()
    load(notes=notes).encode(["cat okapi"], "query")
    assert notes == ["not in collection 'words', and passed over: okapi"]


def test_counts_in_the_metadata_are_frequencies(home, vectors):
    counts = np.arange(len(VOCABULARY), 0, -1) ** 2
    metas = [{"count": int(count)} for count in counts]
    store_words("embcli.db", "counted", VOCABULARY, vectors, metas)
    encoder = load("words:counted")
    assert encoder.recipe().settings["frequencies"] == "count"
    weights = sif_weights(counts / counts.sum())
    (found,) = encoder.encode(["the cat"])
    cat = VOCABULARY.index("cat")
    assert found == pytest.approx(unit(weights[0] * vectors[0] + weights[cat] * vectors[cat]))


def test_the_component_of_a_corpus(words, corpus, vectors):
    encode(corpus, collection="texts", model="hash")
    encoder = load("words:words@texts")
    weighted = vectors * sif_weights(zipf(len(VOCABULARY)))[:, None]
    with Store("embcli.db", readonly=True) as store:
        texts = [record.text for record in store.collection("texts").records()]
    averages = []
    for text in texts:
        tokens = [w.strip(".").lower() for w in text.split()]
        rows = [weighted[VOCABULARY.index(w)] for w in tokens if w in VOCABULARY]
        averages.append(np.mean(rows, axis=0) if rows else np.zeros(16))
    component = common_component(np.array(averages))
    found = encoder.encode(["the cat", "a dog on the bank"])
    assert np.abs(found @ component).max() < 1e-5
    plain = load().encode(["the cat"])[0]
    assert found[0] == pytest.approx(unit(plain - component * (plain @ component)), abs=1e-5)


def test_the_component_stays_when_its_corpus_changes(words, corpus):
    encode(corpus, collection="texts", model="hash")
    encode(corpus, collection="found", model="words:words@texts")
    before = search("a dog barks", collection="found")
    with Store("embcli.db") as store:
        store.remove_collection("texts")
    assert search("a dog barks", collection="found") == before
    report = encode(corpus, collection="found")
    assert (report.encoded, report.reused, report.skipped) == (0, 3, 2)


def test_the_space_is_that_of_the_words(words, vectors, home):
    recipe = load().recipe()
    assert recipe.model == "words:words"
    assert recipe.normalized
    store_words("other.db", "elsewhere", VOCABULARY, vectors)
    moved = load("words:other.db#elsewhere").recipe()
    assert moved.model == f"words:{home / 'other.db'}#elsewhere"
    # The collection's name is in the recipe of its space here, as in that of any import.
    store_words("third.db", "words", VOCABULARY, vectors)
    assert load("words:third.db#words").recipe().hash == recipe.hash
    with Store("third.db") as store:
        store.collection("words").delete(["bank"])
    assert load("words:third.db#words").recipe().hash != recipe.hash


def test_encode_and_search_find_the_encoder_again(run, words, corpus):
    result = run("encode", "corpus.jsonl", "-m", "words:words", "-c", "texts")
    assert result.code == 0
    assert "are not in collection 'words'" in result.err
    hits = run("search", "a dog barks", "-c", "texts").rows
    assert hits[0]["id"] == "dog"
    assert "1 record" not in run("encode", "corpus.jsonl", "-c", "texts").err
    result = run("search", "xyzzy", "-c", "texts")
    assert "passed over: xyzzy" in result.err


def test_the_words_of_another_store(run, words, corpus):
    assert run("encode", "corpus.jsonl", "-m", "words:embcli.db#words", "-d", "new.db").code == 0
    assert search("a dog barks", db="new.db", k=1)[0][0].id == "dog"


def test_chunks(run, words, corpus):
    result = run("encode", "corpus.jsonl", "-m", "words:words", "-c", "cut", "--chunk",
                 "characters=20")  # fmt: skip
    assert result.code in (0, 3)
    assert run("search", "dog barks", "-c", "cut").rows[0]["id"] == "dog"
    result = run("encode", "corpus.jsonl", "-m", "words:words", "-c", "t", "--chunk", "tokens=9")
    assert result.code == 2


def test_changed_words_are_noticed(run, words, corpus, vectors):
    run("encode", "corpus.jsonl", "-m", "words:words", "-c", "texts")
    with Store("embcli.db") as store:
        store.collection("words").add([Record("zebra", "zebra")], vectors[:1])
    result = run("search", "a dog", "-c", "texts")
    assert result.code == 4
    assert "is not the one that made collection 'texts'" in result.err


def test_what_is_not_there(words):
    with pytest.raises(ModelError, match="no collection 'nope' to encode with"):
        load("words:nope")
    with pytest.raises(ModelError, match="no collection 'nope' to encode with"):
        load("words:words@nope")
    with pytest.raises(ModelError, match="there is no store"):
        load("words:none.db#words")
    with pytest.raises(UsageError, match="has no --dims"):
        load(dims=3)
    assert QueryOptions().model is None


@pytest.mark.parametrize(("kind", "least"), [("plain", 0.565), ("corpus", 0.575)])
def test_agreement_with_people_on_sentences(shared, gnews, tmp_path, kind, least):
    """STS-B: a plain mean of these vectors has .4653."""
    with (shared / "stsb" / "stsb-en-test.csv").open(encoding="utf-8", newline="") as file:
        firsts, seconds, scores = zip(*csv.reader(file), strict=True)
    name = "words:gnews"
    if kind == "corpus":
        (tmp_path / "texts.txt").write_text("\n".join([*firsts, *seconds]))
        encode(tmp_path / "texts.txt", db=gnews, collection="sts", model="hash",
               listeners=Listeners())  # fmt: skip
        name = "words:gnews@sts"
    vectors = load(name, store=str(gnews)).encode([*firsts, *seconds])
    cosines = (vectors[: len(firsts)] * vectors[len(firsts) :]).sum(axis=1)
    assert spearman(cosines, list(map(float, scores))) >= least


def test_a_query_of_unknown_words_finds_nothing(words, corpus):
    encode([corpus], collection="texts", model="words:words")
    assert search("a cat", collection="texts")[0]
    with pytest.raises(NothingFoundError, match="knows nothing of the query 'zzzq'"):
        search("zzzq", collection="texts")
