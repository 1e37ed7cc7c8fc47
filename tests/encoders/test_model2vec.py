import csv
import json
import shutil

import numpy as np
import pytest

from embcli import encode, load_encoder, search
from embcli.core.correlation import spearman
from embcli.encoders.model2vec import Model2VecEncoder
from embcli.errors import ModelError
from embcli.pipelines.distill import distill
from tests.models import tiny_bert
from tests.test_start_up import HEAVY, imported

TEXTS = ["the cat and the dog", "a ship on the sea", "", "zzz ,;: 你好 naïve", "cat " * 700]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "small"
    distill("static", path, dims=32)
    return path


def test_what_is_distilled_is_a_model(run, small, corpus):
    assert run("encode", "corpus.jsonl", "-m", small).code == 0
    assert run("search", "feline on a couch").rows[0]["id"] == "cat"
    (row,) = [row for row in run("models").rows if row["name"] == str(small)]
    assert (row["dim"], row["available"]) == (32, True)
    assert run("models", "info", small).rows[0]["architecture"] == "model2vec"


def test_nothing_heavy_is_imported(run, small, corpus):
    run("encode", "corpus.jsonl", "-m", small)
    assert not imported("search", "a cat") & HEAVY


def test_model2vec_reads_it_and_agrees(small):
    static_model = pytest.importorskip("model2vec").StaticModel
    theirs = static_model.from_pretrained(str(small)).encode(TEXTS, max_length=None)
    assert load_encoder(str(small)).encode(TEXTS) == pytest.approx(theirs, abs=1e-3)


def test_what_model2vec_saves_is_read(tmp_path, small):
    """Of all kinds it can save: other types of numbers, shared vectors, weights, no unit length."""
    model2vec = pytest.importorskip("model2vec")
    from model2vec.model import quantize_model

    model = model2vec.StaticModel.from_pretrained(str(small))
    shared = np.arange(len(model.tokens)) % 500
    weights = np.linspace(0.1, 1, len(model.tokens)).astype(np.float32)
    variants = {
        "float32": quantize_model(model, quantize_to="float32"),
        "int8": quantize_model(model, quantize_to="int8"),
        "shared": model2vec.StaticModel(
            model.embedding[:500].astype(np.float32), model.tokenizer, dict(model.config),
            normalize=False, weights=weights, token_mapping=shared,
        ),
    }  # fmt: skip
    for name, variant in variants.items():
        variant.save_pretrained(str(tmp_path / name))
        theirs = variant.encode(TEXTS[:4], max_length=None)
        ours = load_encoder(str(tmp_path / name))
        assert ours.encode(TEXTS[:4]) == pytest.approx(theirs.astype(np.float32), abs=1e-3), name
        assert ours.recipe().normalized == (name != "shared")


def test_sentence_transformers_reads_it_and_agrees(small):
    from sentence_transformers import SentenceTransformer

    texts = [text for text in TEXTS if text]
    theirs = SentenceTransformer(str(small), device="cpu").encode(texts)
    assert load_encoder(str(small)).encode(texts) == pytest.approx(theirs, abs=1e-3)


def test_the_text_decides_and_not_its_neighbours(small):
    encoder = load_encoder(str(small))
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    assert np.array_equal(together, alone)
    assert not together[2].any()
    assert encoder.encode([]).shape == (0, 32)


def test_a_model_that_has_moved(small, corpus, tmp_path):
    shutil.copytree(small, tmp_path / "here")
    encode(corpus, model=str(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    from embcli.pipelines.queries import QueryOptions

    with pytest.raises(ModelError):
        search("a cat")
    assert search("a cat", options=QueryOptions(model=str(tmp_path / "there")))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"), ("tokenizer.json", b"{}"), ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 9), ("model.safetensors", b"\x02\0\0\0\0\0\0\0{}"),
    ],
)  # fmt: skip
def test_broken_files(run, small, tmp_path, corpus, name, content):
    shutil.copytree(small, tmp_path / "broken")
    (tmp_path / "broken" / name).write_bytes(content)
    result = run("encode", "corpus.jsonl", "-m", "broken")
    assert (result.code, result.out) == (4, "")
    assert result.err.splitlines()[-1].startswith("error: ")


def test_too_few_vectors(small, tmp_path):
    shutil.copytree(small, tmp_path / "short")
    path = tmp_path / "short" / "tokenizer.json"
    state = json.loads(path.read_text())
    state["added_tokens"] += [{**state["added_tokens"][0], "id": 40_000, "content": "<new>"}]
    path.write_text(json.dumps(state))
    with pytest.raises(ModelError, match="vectors for"):
        Model2VecEncoder("short", tmp_path / "short")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny_bert(tmp_path_factory.mktemp("bert") / "model")


def test_tokens_of_a_transformer_are_those_the_model_makes(bert):
    from sentence_transformers import SentenceTransformer

    encoder = load_encoder(str(bert))
    tokenizer = encoder.tokenizer()
    words = ["cat", "sea", "queen"]
    found = encoder.token_vectors(np.array([tokenizer.token_to_id(word) for word in words]))
    model = SentenceTransformer(str(bert), device="cpu")
    theirs = model.encode(words, normalize_embeddings=False)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    assert unit == pytest.approx(theirs / np.linalg.norm(theirs, axis=1, keepdims=True), abs=1e-5)


def test_a_transformer_is_distilled(run, bert, corpus, home):
    result = run("distill", bert, "-o", "out/static", "--dims", "8")
    assert (result.code, result.out) == (0, "")
    assert "8 dimensions" in result.err
    assert sorted(path.name for path in (home / "out" / "static").iterdir()) == [
        "1_Normalize", "config.json", "model.safetensors", "modules.json", "tokenizer.json"
    ]  # fmt: skip
    assert run("encode", "corpus.jsonl", "-m", "out/static").code == 0
    (hit,) = run("search", "the dog barks at the postman.", "-k", "1").rows
    assert (hit["id"], round(hit["score"], 3)) == ("dog", 1)


def test_without_components_and_weights_a_token_is_as_the_model_has_it(run, bert, home):
    assert run("distill", bert, "-o", "same", "--dims", "0", "--sif", "0").code == 0
    encoder, original = load_encoder("same"), load_encoder(str(bert))
    cat = original.token_vectors(np.array([original.tokenizer().token_to_id("cat")]))[0]
    assert encoder.encode(["cat"])[0] == pytest.approx(cat / np.linalg.norm(cat), abs=2e-3)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["static", "-o", "."], 2, "is there already"),
        (["static", "-o", "new", "--dims", "300"], 2, "has 256 dimensions"),
        (["hash", "-o", "new"], 4, "no vocabulary of tokens"),
        (["./none", "-o", "new"], 4, "there is no directory"),
        (["static"], 2, "Missing option"),
    ],
)
def test_what_cannot_be_distilled(run, home, words, code, message):
    result = run("distill", *words)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not list(home.iterdir())


def test_agreement_with_people_on_sentences(shared, tmp_path):
    """Of the 256 components of the static table, 128 keep most of what they can tell."""
    distill("static", tmp_path / "half", dims=128, sif=None)
    with (shared / "stsb" / "stsb-en-test.csv").open(encoding="utf-8", newline="") as file:
        firsts, seconds, scores = zip(*csv.reader(file), strict=True)
    vectors = load_encoder(str(tmp_path / "half")).encode([*firsts, *seconds])
    cosines = (vectors[: len(firsts)] * vectors[len(firsts) :]).sum(axis=1)
    assert spearman(cosines, list(map(float, scores))) > 0.70


def test_a_tokenizer_that_has_no_word_for_what_it_does_not_know(home, run):
    """Found by fuzzing: the library raises a bare Exception."""
    from safetensors.numpy import save_file

    (home / "m").mkdir()
    model = {"type": "WordLevel", "vocab": {"dog": 0}, "unk_token": "[UNK]"}
    (home / "m" / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": model}))
    (home / "m" / "config.json").write_text('{"model_type": "model2vec"}')
    save_file({"embeddings": np.ones((1, 4), np.float32)}, home / "m" / "model.safetensors")
    (home / "a.txt").write_text("cat")
    result = run("encode", "a.txt", "-m", "m")
    assert result.code == 4
    assert "its tokenizer fails" in result.err
