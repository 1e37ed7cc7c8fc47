"""Encoding and searching with transformer models, from the command line down."""

import json
import shutil

import numpy as np
import pytest

from embcli import Store, encode, search
from embcli.encoders import EncoderOptions, load_encoder
from embcli.errors import ModelError, UsageError
from embcli.pipelines import encode as pipeline
from embcli.pipelines.chunking import Chunker, Chunking, pieces
from embcli.pipelines.composition import Composition
from embcli.pipelines.encode import Listeners
from embcli.pipelines.queries import QueryOptions
from tests import models

WORDS = [
    "cat",
    "dog",
    "bank",
    "rate",
    "price",
    "sofa",
    "mat",
    "warm",
    "sleeps",
    "barks",
    "falls",
    "rises",
]


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    prompts = {"query": "ask: ", "document": "tell: "}
    return models.tiny_bert(tmp_path_factory.mktemp("bert") / "model", prompts=prompts)


@pytest.fixture
def bert(built, home):
    """A model in a folder of this test's own."""
    return shutil.copytree(built, home / "bert")


@pytest.fixture(scope="session")
def built_clip(tmp_path_factory):
    return models.tiny_clip(tmp_path_factory.mktemp("clip") / "model")


@pytest.fixture
def no_torch(monkeypatch):
    """Whoever loads the full model fails."""
    from embcli.encoders import torch_model

    def refuse(*args, **kwargs):
        raise AssertionError("the full model was loaded")

    return lambda: monkeypatch.setattr(torch_model.TorchModel, "__init__", refuse)


def write(path, texts):
    path.write_text(
        "".join(json.dumps({"id": f"r{n}", "text": t}) + "\n" for n, t in enumerate(texts))
    )
    return path


def random_texts(count, seed=0, most=40):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, most))) for _ in range(count)]


def vectors(ids, collection="default"):
    with Store("embcli.db", readonly=True) as store:
        return store.collection(collection).vectors(ids)


# Encoding


def test_vectors_in_the_store_are_the_encoders(bert, home):
    texts = random_texts(30)
    report = encode(write(home / "c.jsonl", texts), model=str(bert))
    assert report.encoded == len(set(texts))
    expected = load_encoder(str(bert)).encode(texts)
    found = vectors([f"r{n}" for n in range(30)])
    # Batches differ, and with them roundings; the automatic precision may be bfloat16.
    assert np.abs(found - expected).max() < 0.02


def test_running_again_needs_no_model(bert, home, no_torch, run):
    write(home / "c.jsonl", random_texts(9))
    assert run("encode", "c.jsonl", "-m", bert).code == 0
    no_torch()
    result = run("encode", "c.jsonl", "-m", bert)
    assert result.code == 0
    assert "encoded 0, reused 9" in result.err


def test_small_batches_overlap_and_nothing_is_lost_or_done_twice(bert, home, monkeypatch):
    monkeypatch.setattr(pipeline, "_FIRST_CHARACTERS", 200)
    monkeypatch.setattr(pipeline, "_FEWEST_CHARACTERS", 200)
    monkeypatch.setattr(pipeline, "_SECONDS_AT_ONCE", 0)
    texts = random_texts(150, most=12)
    texts[7] = texts[8] = texts[100]
    lines = [{"id": f"r{n}", "text": text} for n, text in enumerate(texts)]
    lines += [{"id": "r3", "text": "again"}, {"id": "empty", "text": ""}]
    lines += [{"id": "r151", "text": "a last cat"}, {"id": "r151", "text": "repeated at once"}]
    (home / "c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    progress, problems = [], []
    listeners = Listeners(problem=problems.append, progress=lambda *told: progress.append(told[2]))
    exact = EncoderOptions(dtype="float32")
    report = encode(home / "c.jsonl", model=str(bert), options=exact, listeners=listeners)
    assert report.encoded == len({*texts, "a last cat"})
    assert report.records == report.total == 151
    assert [problem.line for problem in problems] == [151, 152, 154]
    assert len(progress) > 10
    assert progress == sorted(set(progress))
    expected = load_encoder(str(bert), exact).encode(texts)
    np.testing.assert_allclose(vectors([f"r{n}" for n in range(150)]), expected, atol=1e-5)


def test_strict_stores_what_came_before(bert, home):
    (home / "c.jsonl").write_text(
        '{"id": "a", "text": "cat"}\n{"id": "b"}\n{"id": "c", "text": "x"}\n'
    )
    with pytest.raises(Exception, match=r"c\.jsonl:2"):
        encode(home / "c.jsonl", model=str(bert), strict=True)
    with Store("embcli.db", readonly=True) as store:
        assert [record.id for record in store.collection("default").records()] == ["a"]


def test_a_failing_model_leaves_what_was_committed(bert, home, monkeypatch):
    from embcli.encoders.torch_model import TorchModel

    monkeypatch.setattr(pipeline, "_FIRST_CHARACTERS", 200)
    run, calls = TorchModel.encode, []

    def fails_later(self, *args):
        calls.append(1)
        if len(calls) == 3:
            raise ModelError("the device has fallen off the bus")
        return run(self, *args)

    texts = random_texts(100, most=9)
    write(home / "c.jsonl", texts)
    with monkeypatch.context() as patch:
        patch.setattr(TorchModel, "encode", fails_later)
        with pytest.raises(ModelError, match="off the bus"):
            encode(home / "c.jsonl", model=str(bert))
    with Store("embcli.db", readonly=True) as store:
        stored = len(store.collection("default"))
        assert store.runs()[0].status == "failed"
    assert 0 < stored < 100
    assert encode(home / "c.jsonl", model=str(bert)).total == 100


def test_a_collection_keeps_its_model_and_what_was_changed_of_it(bert, home, run):
    write(home / "a.jsonl", random_texts(5))
    (home / "b.jsonl").write_text('{"id": "b", "text": "warm sofa"}\n')
    assert run("encode", "a.jsonl", "-m", bert, "--dims", 8, "--pooling", "max").code == 0
    assert run("encode", "b.jsonl").code == 0
    result = run("encode", "b.jsonl", "-m", bert)
    assert "reused 1" in result.err
    with Store("embcli.db", readonly=True) as store:
        (info,) = store.collections()
        recipe = store.collection("default").recipe.settings
    assert (info.records, info.dim) == (6, 8)
    assert recipe["pooling"] == "max"
    result = run("encode", "b.jsonl", "--dims", 9)
    assert result.code == 2
    assert "another space (dim: 8 → 9)" in result.err


def test_a_run_records_device_and_precision(bert, home, run):
    write(home / "c.jsonl", random_texts(3))
    run("encode", "c.jsonl", "-m", bert, "--dtype", "float32", "--device", "cpu")
    with Store("embcli.db", readonly=True) as store:
        counts = store.runs()[0].counts
    assert (counts["device"], counts["dtype"]) == ("cpu", "float32")


def test_a_model_named_by_its_way_from_here(bert, home, run):
    write(home / "c.jsonl", random_texts(5))
    run("encode", "c.jsonl", "-m", "./bert", "--dims", 8)
    assert "reused 5" in run("encode", "c.jsonl", "-m", "bert").err


def test_a_very_long_text_is_cut_without_being_read_whole(bert, home):
    texts = ["cat dog " * 100_000, "cat" * 50_000, "cat dog " * 8, "cat " + " " * 100_000 + "dog"]
    exact = EncoderOptions(dtype="float32")
    report = encode(write(home / "c.jsonl", texts), model=str(bert), options=exact)
    assert report.truncated == 1
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(bert), device="cpu", model_kwargs={"dtype": "float32"})
    expected = model.encode_document(texts)
    np.testing.assert_allclose(vectors(["r0", "r1", "r2", "r3"]), expected, atol=1e-5)


def test_truncated_texts_are_counted_and_reported(bert, home, run):
    write(home / "c.jsonl", ["cat", "dog " * 200])
    assert "truncated 1" in run("encode", "c.jsonl", "-m", bert).err


def test_values_that_are_no_numbers_are_not_stored(bert, home, run, monkeypatch):
    from embcli.encoders.torch_model import TorchModel

    right = TorchModel._forward
    monkeypatch.setattr(TorchModel, "_forward", lambda *args: right(*args) * np.nan)
    write(home / "c.jsonl", ["cat"])
    result = run("encode", "c.jsonl", "-m", bert)
    assert result.code == 4
    assert "values that are no numbers" in result.err


# Queries


def test_search_finds_what_a_brute_force_comparison_finds(bert, home):
    texts = random_texts(60)
    encode(write(home / "c.jsonl", texts), model=str(bert), options=EncoderOptions(dtype="float32"))
    encoder = load_encoder(str(bert), EncoderOptions(dtype="float32"))
    scores = encoder.encode(["a warm cat"], "query") @ encoder.encode(texts).T
    (hits,) = search("a warm cat", k=5)
    best = np.sort(scores[0])[::-1][:5]
    np.testing.assert_allclose([hit.score for hit in hits], best, atol=1e-5)


def test_a_query_takes_the_light_path(bert, home, no_torch):
    encode(write(home / "c.jsonl", random_texts(9)), model=str(bert))
    expected = load_encoder(str(bert), EncoderOptions(dtype="float32")).encode(["a cat"], "query")
    no_torch()
    ((hit, *_),) = search("a cat")
    assert hit.score == pytest.approx(float(vectors([hit.id])[0] @ expected[0]), abs=1e-4)


def test_a_light_path_that_differed_is_not_taken(bert, home, no_torch, monkeypatch):
    from embcli.encoders.light import LightModel

    right = LightModel.encode
    monkeypatch.setattr(LightModel, "encode", lambda *args: right(*args) + 0.01)
    encode(write(home / "c.jsonl", random_texts(9)), model=str(bert))
    search("a dog")
    no_torch()
    with pytest.raises(AssertionError, match="full model"):
        search("a cat")


def test_many_queries_take_the_full_path_and_agree(bert, home):
    encode(write(home / "c.jsonl", random_texts(30)), model=str(bert))
    queries = random_texts(300, seed=1, most=6)
    together = search(queries, k=3, options=QueryOptions(cache=False))
    for query, hits in list(zip(queries, together, strict=True))[::60]:
        (alone,) = search(query, k=3, options=QueryOptions(cache=False))
        scores = [hit.score for hit in hits]
        np.testing.assert_allclose([hit.score for hit in alone], scores, atol=0.01)


def test_a_repeated_query_needs_no_model_at_all(bert, home, run):
    write(home / "c.jsonl", random_texts(9))
    run("encode", "c.jsonl", "-m", bert)
    first = run("search", "a warm cat")
    bert.rename(home / "gone")
    assert run("search", "a warm cat").out == first.out
    for words in (["another cat"], ["a warm cat", "--no-cache"]):
        result = run("search", *words)
        assert result.code == 4
        assert "there is no directory" in result.err


def test_another_model_is_refused_even_when_the_query_is_known(bert, home, run):
    write(home / "c.jsonl", random_texts(9))
    run("encode", "c.jsonl", "-m", bert)
    assert run("search", "a warm cat").code == 0
    other = models.tiny_bert(home / "other", seed=2)
    assert run("search", "a warm cat", "-m", other).code == 2
    assert run("search", "a warm cat", "-m", "no/such-model").code == 4
    assert run("search", "a warm cat", "-m", "./bert").code == 0


def test_an_interrupted_run_has_noted_the_light_path(bert, home, monkeypatch, no_torch):
    from embcli.encoders.torch_model import TorchModel

    for name, value in (("FIRST", 200), ("FEWEST", 200)):
        monkeypatch.setattr(pipeline, f"_{name}_CHARACTERS", value)
    monkeypatch.setattr(pipeline, "_SECONDS_AT_ONCE", 0)
    run, calls = TorchModel.encode, []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return run(self, *args)

    write(home / "c.jsonl", random_texts(100, most=9))
    with monkeypatch.context() as patch:
        patch.setattr(TorchModel, "encode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            encode(home / "c.jsonl", model=str(bert))
    no_torch()
    assert search("a cat")[0]


def test_without_normalization_there_is_a_light_path_too(bert, home, no_torch):
    options = EncoderOptions(normalize=False)
    encode(write(home / "c.jsonl", random_texts(9)), model=str(bert), options=options)
    no_torch()
    assert search("a cat")[0]


def test_many_queries_leave_nothing_inexact_behind(bert, home):
    encode(write(home / "c.jsonl", random_texts(9)), model=str(bert))
    search(random_texts(300, seed=1, most=6))
    with Store("embcli.db", readonly=True) as store:
        space = store.collection("default").recipe.hash
        assert store.space_facts(space).light
        assert store._db.value("SELECT count(*) FROM queries") == 0


def test_a_moved_model_is_told_with_the_query(bert, home, run):
    write(home / "c.jsonl", random_texts(9))
    run("encode", "c.jsonl", "-m", bert)
    expected = run("search", "a warm cat", "--no-cache").out
    bert.rename(home / "moved")
    assert run("search", "a warm cat", "--no-cache", "-m", "moved").out == expected
    # Encoding with it makes the new place the collection's.
    assert "reused 9" in run("encode", "c.jsonl", "-m", home / "moved").err
    assert run("search", "a warm cat", "--no-cache").out == expected


def test_a_model_that_changed_is_not_used(bert, home, run):
    write(home / "c.jsonl", random_texts(9))
    run("encode", "c.jsonl", "-m", bert)
    models.tiny_bert(bert, seed=1)
    result = run("search", "a warm cat")
    assert result.code == 4
    assert "is not the one that made collection 'default' (" in result.err
    assert "weights: sha256" in result.err
    other = models.tiny_bert(home / "other", seed=2)
    result = run("search", "a warm cat", "-m", other)
    assert result.code == 2
    assert run("search", "a warm cat", "--prompt", "x", "--prompt-name", "query").code == 2
    assert run("search", "a warm cat", "-m", "static").code == 2


def test_queries_get_their_prompt_and_others_replace_it(bert, home):
    encode(write(home / "c.jsonl", random_texts(30)), model=str(bert))

    def scores(**options):
        (hits,) = search("warm cat", options=QueryOptions(**options))
        return [hit.score for hit in hits]

    usual = scores()
    assert scores(prompt="ask: ") == usual == scores(prompt_name="query")
    assert scores(prompt="") != usual
    assert scores(prompt_name="document") == scores(prompt="tell: ") != usual
    with pytest.raises(UsageError, match="no prompt called 'none'"):
        scores(prompt_name="none")


def test_the_cache_is_bounded_to_the_space(bert, home):
    encode(write(home / "c.jsonl", random_texts(9)), model=str(bert))
    encode(
        home / "c.jsonl", model=str(bert), collection="cls", options=EncoderOptions(pooling="cls")
    )
    one = search("a cat", k=1)[0][0].score
    other = search("a cat", k=1, collection="cls")[0][0].score
    assert one != other
    assert search("a cat", k=1)[0][0].score == one


def test_a_store_that_cannot_be_written_is_searched_all_the_same(bert, home):
    encode(write(home / "c.jsonl", random_texts(9)), model=str(bert))
    (home / "embcli.db").chmod(0o444)
    home.chmod(0o555)
    try:
        assert search("a cat", k=1) == search("a cat", k=1)
    finally:
        home.chmod(0o755)


def test_a_strangers_store_loads_nothing_with_arguments_of_its_own(bert, home, run):
    write(home / "c.jsonl", random_texts(3))
    words = ("encode", "c.jsonl", "-m", bert, "--model-kwargs", '{"weights_only": true}')
    assert run(*words).code == 0
    for untrusting in (["search", "a cat"], ["encode", "c.jsonl"]):
        result = run(*untrusting)
        assert result.code == 4
        assert "if you trust the model and the store: --trust-remote-code" in result.err
    for trusting in (["search", "a cat"], ["encode", "c.jsonl"]):
        result = run(*trusting, "--trust-remote-code")
        assert result.code == 0, result.err
    words = ("encode", "c.jsonl", "-m", bert, "-c", "x", "--model-kwargs")
    assert run(*words, '{"trust_remote_code": true}').code == 2
    assert "is no JSON" in run(*words, "{").err


# Chunks


SPECS = ("tokens=20,overlap=5", "characters=50", "sentences=2,overlap=1", "paragraphs=1")


@pytest.fixture
def long_texts():
    rng = np.random.default_rng(5)
    sentences = [" ".join(rng.choice(WORDS, rng.integers(3, 9))) + "." for _ in range(200)]
    return [
        "  " + " ".join(sentences[:30]) + "\n\n" + " ".join(sentences[30:60]) + "\n",
        "Ünïcødé 😀 first.\r\n\r\n" + "  ".join(sentences[60:90]),
        "short",
        sentences[90] * 40,
    ]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("model", ["static", "bert"])
def test_chunks_map_back_to_the_text(bert, home, long_texts, spec, model):
    write(home / "c.jsonl", long_texts)
    encode(home / "c.jsonl", model=str(bert) if model == "bert" else model, chunk=spec)
    with Store("embcli.db", readonly=True) as store:
        source = store.collection("default")
        every = source.chunks([f"r{n}" for n in range(4)])
    for text, chunks in zip(long_texts, every, strict=True):
        assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
        covered = np.zeros(len(text), bool)
        for chunk in chunks:
            piece = text[chunk.start : chunk.end]
            assert piece == piece.strip() != ""
            covered[chunk.start : chunk.end] = True
        assert not "".join(c for c, done in zip(text, covered, strict=True) if not done).strip()
    assert len(every[0]) > 1


@pytest.mark.parametrize("spec", SPECS)
def test_a_chunks_vector_is_that_of_its_text(bert, home, long_texts, spec):
    write(home / "c.jsonl", long_texts)
    exact = EncoderOptions(dtype="float32")
    report = encode(home / "c.jsonl", model=str(bert), chunk=spec, options=exact)
    encoder = load_encoder(str(bert), exact)
    with Store("embcli.db", readonly=True) as store:
        every = store.collection("default").chunks(["r0", "r1", "r2", "r3"])
    assert report.chunks == sum(map(len, every))
    assert report.truncated == 0
    for text, chunks in zip(long_texts, every, strict=True):
        expected = encoder.encode([text[chunk.start : chunk.end] for chunk in chunks])
        found = np.stack([chunk.vector for chunk in chunks])
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_search_names_the_best_chunk(bert, home, long_texts, run):
    write(home / "c.jsonl", long_texts)
    run("encode", "c.jsonl", "-m", bert, "--chunk", "sentences=1", "--dtype", "float32")
    wanted = "bank rate rises."
    rows = run("search", wanted, "-k", 4, "--prompt", "tell: ").rows
    assert len({row["id"] for row in rows}) == len(rows) == 4
    encoder = load_encoder(str(bert), EncoderOptions(dtype="float32"))
    query = encoder.encode([wanted])[0]
    for row in rows:
        chunk, text = row["chunk"], long_texts[int(row["id"][1:])]
        assert row["text"] == text
        assert chunk["text"] == text[chunk["start"] : chunk["end"]]
        spans = Chunker(Chunking.parse("sentences=1"), encoder).spans(text)
        scores = encoder.encode(pieces(text, spans)) @ query
        assert row["score"] == pytest.approx(scores.max(), abs=1e-4)
        assert spans[int(scores.argmax())] == (chunk["start"], chunk["end"])
    table = run("search", wanted, "-f", "table", "-k", 1, "--prompt", "tell: ").out
    assert rows[0]["chunk"]["text"].split()[0] in table


def test_chunks_are_encoded_once_and_kept_by_the_collection(bert, home, long_texts, run):
    write(home / "c.jsonl", long_texts)
    first = run("encode", "c.jsonl", "-m", bert, "--chunk", "tokens=20,overlap=5")
    assert "encoded 4 in " in first.err
    assert "encoded 0, reused 4" in run("encode", "c.jsonl").err
    result = run("encode", "c.jsonl", "--chunk", "tokens=21")
    assert result.code == 2
    assert "--collection" in result.err
    copied = run("encode", "c.jsonl", "-m", bert, "--chunk", "tokens=20,overlap=5", "-c", "copy")
    assert "reused 4" in copied.err


def test_inspecting_chunks_stores_nothing(bert, home, long_texts, run):
    write(home / "c.jsonl", long_texts)
    result = run(
        "encode", "c.jsonl", "-m", bert, "--chunk", "tokens=20,overlap=5", "--inspect-chunks"
    )
    assert result.code == 0
    assert not (home / "embcli.db").exists()
    for row in result.rows:
        assert row["text"] == long_texts[int(row["id"][1:])][row["start"] : row["end"]]
        assert row["tokens"] <= 20
    assert {row["id"] for row in result.rows} == {"r0", "r1", "r2", "r3"}
    assert run("encode", "c.jsonl", "--inspect-chunks").code == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tokens", "expected numbers"),
        ("words=3", "expected tokens=256"),
        ("tokens=x", "expected numbers"),
        ("tokens=8,overlap=8", "above the overlap"),
        ("tokens=0", "not 0"),
        ("tokens=8,sentences=2", "expected"),
        ("tokens=999", "reads at most 64 tokens"),
        ("tokens=5,overlap=2", "leaves no room"),
    ],
)
def test_chunk_sizes_that_make_no_sense(bert, home, run, spec, message):
    write(home / "c.jsonl", ["cat"])
    result = run("encode", "c.jsonl", "-m", bert, "--chunk", spec)
    assert result.code == 2
    assert message in result.err


def test_hashed_texts_have_no_tokens_to_count(home, run, long_texts):
    write(home / "c.jsonl", long_texts)
    assert "no tokens to count" in run("encode", "c.jsonl", "-m", "hash", "--chunk", "tokens=9").err
    assert run("encode", "c.jsonl", "-m", "hash", "--chunk", "characters=90").code == 0


def test_like_in_a_chunked_collection(bert, home, long_texts):
    texts = [*long_texts, long_texts[2]]
    encode(write(home / "c.jsonl", texts), model=str(bert), chunk="sentences=1")
    (hits,) = search(like="r2")
    assert hits[0].id == "r4"
    assert hits[0].score == pytest.approx(1, abs=1e-3)


# Pictures


@pytest.fixture
def photos(home):
    from PIL import Image

    folder = home / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n, suffix in enumerate(("jpg", "png", "webp", "png")):
        pixels = rng.integers(0, 256, (20 + n, 30, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"p{n}.{suffix}")
    (folder / "note.txt").write_text("a warm cat\n")
    return folder


def test_pictures_and_texts_meet_in_one_space(built_clip, photos, run):
    result = run("encode", "photos", "-m", built_clip, "--dtype", "float32")
    assert result.code == 0, result.err
    assert "encoded 5" in result.err
    (row,) = run("show", "photos/p1.png").rows
    assert row["meta"] | {"bytes": 0} == {
        "path": "photos/p1.png", "width": 30, "height": 21, "bytes": 0, "format": "PNG"
    }  # fmt: skip
    (nearest, *_) = run("search", "--like-file", "photos/p1.png").rows
    assert nearest["id"] == "photos/p1.png"
    assert nearest["score"] == pytest.approx(1, abs=1e-5)
    (nearest, *_) = run("search", "a warm cat").rows
    assert nearest["id"] == "photos/note.txt:1"
    (nearest, *_) = run("search", "--like-file", "photos/note.txt").rows
    assert nearest["id"] == "photos/note.txt:1"
    assert "reused 5" in run("encode", "photos").err


def test_pictures_get_the_vectors_of_sentence_transformers(built_clip, photos):
    from PIL import Image
    from sentence_transformers import SentenceTransformer

    encode(photos, model=str(built_clip), options=EncoderOptions(dtype="float32"))
    names = [f"photos/p{n}.{s}" for n, s in enumerate(("jpg", "png", "webp", "png"))]
    pictures = [Image.open(name).convert("RGB") for name in names]
    expected = SentenceTransformer(str(built_clip), device="cpu").encode(pictures)
    np.testing.assert_allclose(vectors(names), expected, rtol=1e-4, atol=1e-5)


def test_pictures_and_texts_are_composed(built_clip, photos, home):
    """A query in words, moved towards a picture that is in no collection."""
    encode(photos, model=str(built_clip), options=EncoderOptions(dtype="float32"))
    shutil.copy(photos / "p1.png", home / "other.png")
    encoder = load_encoder(str(built_clip), EncoderOptions(dtype="float32"))
    from PIL import Image

    (text,) = encoder.encode(["a warm cat"], "query")
    (picture,) = encoder.encode([Image.open("other.png").convert("RGB")])
    query = text / np.linalg.norm(text) + 0.7 * picture / np.linalg.norm(picture)
    names = [f"photos/p{n}.{s}" for n, s in enumerate(("jpg", "png", "webp", "png"))]
    rows = vectors([*names, "photos/note.txt:1"])
    cosines = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    (hits,) = search("a warm cat", composition=Composition(plus=("@other.png:0.7",)))
    expected = dict(zip([*names, "photos/note.txt:1"], cosines.tolist(), strict=True))
    assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, abs=1e-4)
    (by_picture,) = search(like_file="other.png", composition=Composition(plus=("a warm cat",)))
    assert len(by_picture) == 5


def test_a_damaged_picture_is_named_and_the_rest_kept(built_clip, photos, run):
    content = (photos / "p1.png").read_bytes()
    (photos / "p1.png").write_bytes(content[: len(content) // 2])
    (photos / "p2.webp").write_bytes(b"no picture")
    result = run("encode", "photos", "-m", built_clip)
    assert result.code == 3
    assert "p1.png" in result.err
    assert "p2.webp" in result.err
    assert "encoded 3" in result.err


def test_models_of_texts_pass_pictures_over(photos, bert, run):
    result = run("encode", "photos", "-m", bert)
    assert result.code == 0
    assert "passed over 4 pictures" in result.err
    assert run("encode", "photos/p1.png", "-m", bert).code == 3
    result = run("search", "--like-file", "photos/p1.png")
    assert result.code == 2
    assert "takes no pictures" in result.err


def test_like_a_file_that_is_not_there(bert, home, run):
    write(home / "c.jsonl", ["cat"])
    run("encode", "c.jsonl", "-m", bert)
    assert run("search", "--like-file", "nowhere.txt").code == 3
    (home / "empty.txt").write_text(" \n")
    assert run("search", "--like-file", "empty.txt").code == 3


# Models


def test_models_lists_what_is_cached_and_what_the_store_used(bert, home, run, monkeypatch):
    snapshot = home / "hub" / "models--someone--some-model" / "snapshots" / "main"
    shutil.copytree(bert, snapshot)
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "hub"))
    write(home / "c.jsonl", ["cat"])
    run("encode", "c.jsonl", "-m", bert)
    rows = {row["name"]: row for row in run("models").rows}
    assert {"static", "hash", "someone/some-model", str(bert)} <= rows.keys()
    assert rows["someone/some-model"]["dim"] == 32
    assert rows["someone/some-model"]["max_tokens"] == 64
    assert "someone/some-model" in run("models", "-f", "table").out


def test_models_info(bert, run):
    (row,) = run("models", "info", bert).rows
    assert (row["dim"], row["max_tokens"], row["layers"]) == (32, 64, 3)
    assert row["prompts"] == {"query": "ask: ", "document": "tell: "}
    assert row["bytes"] > 0
    table = run("models", "info", bert, "-f", "table").out
    assert "query: ask:" in table
    assert run("models", "info", "static").rows[0]["dim"] == 256
    result = run("models", "info", "nobody/nothing")
    assert result.code == 4
    assert "hf download nobody/nothing" in result.err
