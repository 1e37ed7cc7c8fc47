"""Collections on a real PostgreSQL server with pgvector."""

import json
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import numpy as np
import pytest

from embcli.errors import InputError, StoreError, UsageError
from embcli.servers import Header, Sought, connect
from embcli.store.where import parse_where
from tests.conftest import ROOT
from tests.engines.postgres_server import (  # noqa: F401
    PASSWORD,
    batch,
    database,
    quiet,
    recipe,
    server,
)

pytestmark = pytest.mark.engines

ODD_IDS = [
    "plain", "it's \"quoted\"", "a/b\\c", "😀 ümlaut", "100%s %(x)s %", "x" * 100_000, " ", "{}",
    "\t\n",
]  # fmt: skip
ODD_METAS = [
    '{"nested": {"deep": [1, {"x": null}], "überraschung": "😀"}}',
    '{"huge": 123456789012345678901234567890123, "tiny": 1e-300, "float": 0.1, "big": 1e+20}',
    '{"null": null, "yes": true, "empty": "", "list": []}',
    "{}",
    '{"b": 1, "a": 1.0, "aa": -0.0}',
    '{"quote\'s \\"%s\\" {} %": "back\\\\slash"}',
    '{"text": "' + "long " * 2000 + '"}',
    '{"control": "\\u001f\\n"}',
    '{"a": "x"}',
]


def sums_of(collection):
    return {id: sum for ids, sums in collection.sums() for id, sum in zip(ids, sums, strict=True)}


def as_dict(batches):
    """All of what batches have, by id."""
    found = {}
    for each in batches:
        parts = np.split(each.vectors, each.starts[1:])
        for row, id in enumerate(each.ids):
            assert id not in found
            spans = None if each.spans is None else each.spans[row].tolist()
            found[id] = (
                each.texts[row], each.metas[row], each.sources[row], each.hashes[row], spans,
                parts[row].tobytes(),
            )  # fmt: skip
    return found


@pytest.fixture
def host(server, database):  # noqa: F811
    """A connection to a database without tables."""
    server.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public", database=database)
    server.execute("CREATE EXTENSION IF NOT EXISTS vector", database=database)
    with connect(server.url(database)) as host:
        yield host


def test_what_is_written_comes_back_as_it_was(host):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(len(ODD_IDS), 5)).astype(np.float32)
    vectors[0] = [-0.0, 1e-45, 3.4e38, 1, 0.1]
    texts = ["", "x" * 100_000, "😀" * 1000, *"abcdef"]
    wrote = batch(ODD_IDS, vectors, texts=texts, metas=ODD_METAS)
    made = host.create("t", Header(recipe(5), light=True))
    sums = [2**63 - 1, *range(1, len(ODD_IDS))]
    for _ in range(2):
        made.write(wrote, sums)
        opened = host.collection("t")
        assert opened.header == made.header
        assert opened.counts() == (len(ODD_IDS), len(ODD_IDS))
        assert sums_of(opened) == dict(zip(ODD_IDS, sums, strict=True))
        assert as_dict(opened.batches(2)) == as_dict([wrote])
        assert as_dict([opened.fetch([*ODD_IDS[3:], "none"])]) == as_dict([wrote.take(range(3, 9))])
    made.finish(["a", "`quote's`", "b.c"], quiet)
    assert as_dict(made.batches(100)) == as_dict([wrote])
    made.delete([ODD_IDS[0], "none", *ODD_IDS[4:]])
    assert sorted(sums_of(made)) == sorted(ODD_IDS[1:4])


N, DIM = 5000, 64


@pytest.fixture(scope="module")
def corpus():
    """Clustered vectors with metadata: near ones share a cluster, and 3 % are picked at random."""
    random = np.random.default_rng(1)
    centres = random.normal(size=(40, DIM))
    clusters = random.integers(0, 40, N)
    vectors = (centres[clusters] + 0.7 * random.normal(size=(N, DIM))).astype(np.float32)
    vectors *= random.uniform(0.5, 2, (N, 1)).astype(np.float32)
    picked = random.random(N) < 0.03
    half = random.random(N) < 0.5
    metas = [
        json.dumps({"cluster_no": int(c), "picked": bool(p), "half": bool(h)})
        for c, p, h in zip(clusters, picked, half, strict=True)
    ]
    queries = (centres[:30] + 0.7 * random.normal(size=(30, DIM))).astype(np.float32)
    return vectors, metas, clusters, picked, half, queries


def brute(vectors, queries, allowed, k):
    """The k nearest of those allowed, ties by number."""
    unit = vectors.astype(float) / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    cosines = queries / np.linalg.norm(queries, axis=1, keepdims=True) @ unit.T
    cosines[:, ~allowed] = -2
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(cosines, order, 1)


def recall(hits, expected):
    return np.mean(
        [
            len({hit.id for hit in found} & {f"r{row:05d}" for row in rows}) / len(rows)
            for found, rows in zip(hits, expected, strict=True)
        ]
    )


@pytest.fixture(scope="module")
def filled(server, database, corpus):  # noqa: F811
    """The corpus in a table of a schema of its own, once as it is and once in half precision."""
    vectors, metas, *_ = corpus
    server.execute("CREATE SCHEMA IF NOT EXISTS kept", database=database)
    for dtype in ("float32", "float16"):
        with connect(server.url(database, table=f"kept.{dtype}")) as host:
            made = host.create(host.named, Header(recipe(DIM), dtype=dtype))
            ids = [f"r{row:05d}" for row in range(N)]
            made.write(batch(ids, vectors, metas=metas), range(N))
            made.finish(["cluster_no"], quiet)
    with connect(server.url(database)) as host:
        assert {"kept.float32", "kept.float16"} <= set(host.collections())
        yield host


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("where", [None, "picked", "half", "near", "far", "text"])
def test_recall_is_high_with_and_without_filters(filled, corpus, dtype, where):
    vectors, _, clusters, picked, half, queries = corpus
    made = filled.collection(f"kept.{dtype}")
    allowed = {
        None: np.ones(N, bool), "picked": picked, "half": half, "near": clusters < 30,
        "far": clusters >= 30, "text": np.arange(N) < 1000,
    }[where]  # fmt: skip
    expression = {
        None: None, "picked": "picked = true", "half": "half = true", "near": "cluster_no < 30",
        "far": "cluster_no >= 30", "text": 'text like "text of r00%"',
    }[where]  # fmt: skip
    node = expression and parse_where(expression)
    kept = vectors.astype(dtype).astype(np.float32)
    expected, cosines = brute(kept, queries, allowed, 10)
    hits = made.search(Sought(queries, 10, where=node))
    assert recall(hits, expected) >= 0.95
    exact = made.search(Sought(queries, 10, where=node, exact=True))
    assert [[hit.id for hit in of] for of in exact] == [
        [f"r{r:05d}" for r in of] for of in expected
    ]
    scores = np.array([[hit.score for hit in of_query] for of_query in exact])
    np.testing.assert_allclose(scores, cosines, atol=1e-8)
    assert exact[0][0].text == f"text of {exact[0][0].id}"
    assert exact[0][0].meta["cluster_no"] == clusters[expected[0, 0]]


@pytest.mark.parametrize("where", ["half", "near", "far"])
def test_recall_is_high_where_the_index_is_scanned_through_a_filter(
    filled, corpus, where, monkeypatch
):
    monkeypatch.setattr("embcli.servers.postgres_search._few", lambda rows: 100)
    vectors, _, clusters, _, half, queries = corpus
    allowed = {"half": half, "near": clusters < 30, "far": clusters >= 30}[where]
    node = parse_where({"half": "half = true", "near": "cluster_no < 30",
                        "far": "cluster_no >= 30"}[where])  # fmt: skip
    made = filled.collection("kept.float32")
    hits = made.search(Sought(queries, 10, where=node))
    assert recall(hits, brute(vectors, queries, allowed, 10)[0]) >= 0.95
    assert all(len(of_query) == 10 for of_query in hits)


@pytest.mark.parametrize(
    ("where", "few"), [("picked = true", True), ("half = true", False), ("cluster_no < 0", True)]
)
def test_how_many_pass_a_filter_is_estimated(filled, where, few, monkeypatch):
    from embcli.servers.postgres_search import Search

    monkeypatch.setattr("embcli.servers.postgres_search._few", lambda rows: rows // 10)
    made = filled.collection("kept.float32")
    node = parse_where(where)
    search = Search(
        made._session, made._table, made.header, made._indexes.nearest(),
        Sought(np.ones((1, DIM), np.float32), 1, where=node), made._condition(node),
    )  # fmt: skip
    assert search._few_pass() is few


def test_more_effort_finds_more(filled, corpus):
    vectors, *_, queries = corpus
    made = filled.collection("kept.float32")
    expected = brute(vectors, queries, np.ones(N, bool), 100)[0]
    found = [recall(made.search(Sought(queries, 100, effort=e)), expected) for e in (40, 1000)]
    assert found[0] <= found[1]
    assert found[1] >= 0.99


def test_filters_are_searched_through_no_less_far_than_all(filled, corpus, monkeypatch):
    """What was measured with a filter that few pass, which takes no index, says nothing of it."""
    from embcli.servers.postgres_search import Search

    efforts = []
    keep = Search._set

    def watched(self, settings):
        efforts.extend(int(settings[n]) for n in ("hnsw.ef_search",) if n in settings)
        keep(self, settings)

    monkeypatch.setattr(Search, "_set", watched)
    monkeypatch.setattr("embcli.servers.postgres_search._few", lambda rows: 100)
    made = filled.collection("kept.float32")
    for facts, least in (
        ({"effort": 640, "filtered_effort": 40}, 640),
        ({"effort": 40, "filtered_effort": 320}, 320),
        ({"effort": 320}, 320),
        ({}, 160),
    ):
        made.header = made.header.changed(facts=facts)
        made.search(Sought(corpus[-1][:1], 1, where=parse_where("half = true")))
        assert efforts[0] == least
        efforts.clear()


def test_all_records_are_found_if_wanted(filled, corpus):
    vectors, *_, queries = corpus
    made = filled.collection("kept.float32")
    hits = made.search(Sought(queries[:2], 2**63))
    assert hits == made.search(Sought(queries[:2], N + 5))
    assert [len(of_query) for of_query in hits] == [N, N]
    order = brute(vectors, queries[:2], np.ones(N, bool), N)[0]
    assert [[hit.id for hit in of] for of in hits] == [[f"r{r:05d}" for r in of] for of in order]


def test_thresholds_and_exclusions(filled, corpus):
    vectors, *_, queries = corpus
    made = filled.collection("kept.float32")
    order, cosines = brute(vectors, queries, np.ones(N, bool), 30)
    threshold = float((cosines[0, 9] + cosines[0, 10]) / 2)
    hits = made.search(Sought(queries[:1], 30, threshold=threshold))
    assert [hit.id for hit in hits[0]] == [f"r{row:05d}" for row in order[0, :10]]
    gone = frozenset(f"r{row:05d}" for row in order[0, :5])
    hits = made.search(Sought(queries[:1], 10, without=gone))
    assert [hit.id for hit in hits[0]] == [f"r{row:05d}" for row in order[0, 5:15]]
    assert made.search(Sought(queries[:2], 10, threshold=1.0)) == [[], []]
    assert made.search(Sought(queries[:1], 10, where=parse_where("cluster_no > 99"))) == [[]]


def test_equal_vectors_and_those_of_zeros(host):
    made = host.create("t", Header(recipe(3)))
    vectors = [[1, 0, 0]] * 30 + [[0, 0, 0]] * 3 + [[-1, 0, 0]] * 3
    ids = [f"{(n * 7) % 36:02d}" for n in range(36)]
    made.write(batch(ids, vectors), range(36))
    made.finish([], quiet)
    one, zero = np.array([[2, 0, 0]], np.float32), np.zeros((1, 3), np.float32)
    for exact in (False, True):
        hits = made.search(Sought(one, 34, exact=exact))[0]
        expected = [*sorted(ids[:30]), *sorted(ids[30:33]), *sorted(ids[33:])]
        assert [hit.id for hit in hits] == expected[:34]
        assert [hit.score for hit in hits] == [1.0] * 30 + [0.0] * 3 + [-1.0]
        hits = made.search(Sought(zero, 5, exact=exact))[0]
        assert [(hit.id, hit.score) for hit in hits] == [(id, 0.0) for id in sorted(ids)[:5]]


@pytest.mark.parametrize("exact", [False, True])
def test_of_a_chunked_record_the_nearest_chunk_counts(host, exact):
    random = np.random.default_rng(3)
    counts = random.integers(1, 30, 300)
    vectors = random.normal(size=(counts.sum(), 16)).astype(np.float32)
    spans = [np.array([(10 * c, 10 * c + 9) for c in range(count)]) for count in counts]
    ids = [f"r{row:03d}" for row in range(300)]
    metas = [json.dumps({"even": row % 2 == 0}) for row in range(300)]
    wrote = batch(ids, vectors, metas=metas, spans=spans)
    made = host.create("t", Header(recipe(16), chunking="words"))
    made.write(wrote, range(300))
    made.finish([], quiet)
    assert made.counts() == (300, counts.sum())
    assert as_dict(made.batches(7)) == as_dict([wrote])
    queries = random.normal(size=(5, 16)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = queries / np.linalg.norm(queries, axis=1, keepdims=True) @ unit.T
    starts = np.cumsum(counts) - counts
    best = np.maximum.reduceat(cosines, starts, axis=1)
    hits = made.search(Sought(queries, 40, exact=exact))
    evens = made.search(Sought(queries, 150, exact=exact, where=parse_where("even = true")))
    for query, (found, even) in enumerate(zip(hits, evens, strict=True)):
        order = [ids[row] for row in np.argsort(-best[query])]
        if exact:
            assert [hit.id for hit in found] == order[:40]
        assert len({hit.id for hit in found} & set(order[:40])) >= 38
        assert [hit.id for hit in even] == [id for id in order if int(id[1:]) % 2 == 0]
        row = int(found[0].id[1:])
        number = int(cosines[query, starts[row] : starts[row] + counts[row]].argmax())
        assert found[0].chunk == (number, 10 * number, 10 * number + 9)
        assert found[0].text == f"text of {found[0].id}"
    # A record that is written again loses the chunks that it has no more.
    few = batch([ids[5]], vectors[:1], metas=["{}"], spans=[np.array([(0, 5)])])
    made.write(few, [7])
    assert made.counts() == (300, counts.sum() - counts[5] + 1)
    assert as_dict([made.fetch([ids[5]])]) == as_dict([few])


@pytest.mark.parametrize(
    ("dim", "dtype", "index"),
    [(2000, "float32", "hnsw of vector"), (2500, "float32", "hnsw of halfvec"),
     (4000, "float16", "hnsw of halfvec"), (4001, "float16", "none"), (16000, "float32", "none")],
)  # fmt: skip
def test_vectors_of_many_dimensions(host, dim, dtype, index):
    random = np.random.default_rng(4)
    vectors = random.normal(size=(60, dim)).astype(dtype).astype(np.float32)
    made = host.create("t", Header(recipe(dim), dtype=dtype))
    assert made.facts()["index"].startswith("none" if index == "none" else "not built yet")
    wrote = batch([f"{n:02d}" for n in range(60)], vectors)
    made.write(wrote, range(60))
    made.finish([], quiet)
    assert made.facts()["index"].startswith(index)
    assert as_dict(made.batches(50)) == as_dict([wrote])
    hits = made.search(Sought(vectors[:5], 10))
    order, cosines = brute(vectors, vectors[:5], np.ones(60, bool), 10)
    assert [[hit.id for hit in of] for of in hits] == [[f"{row:02d}" for row in of] for of in order]
    np.testing.assert_allclose([[hit.score for hit in of] for of in hits], cosines, atol=1e-6)


def test_too_many_dimensions_are_refused_before_anything_is_made(host):
    with pytest.raises(UsageError, match="at most 16,000 dimensions, and these have 16,001"):
        host.create("t", Header(recipe(16_001)))
    assert "t" not in host.collections()


def test_a_later_push_keeps_the_index(host):
    random = np.random.default_rng(5)
    vectors = random.normal(size=(400, 8)).astype(np.float32)
    ids = [f"{n:03d}" for n in range(400)]
    made = host.create("t", Header(recipe(8)))
    made.write(batch(ids[:300], vectors[:300]), range(300))
    told = []
    facts = made.finish([], lambda *each: told.append(each))
    assert facts == {"index": "hnsw", "fields": []}
    assert made.facts()["index"] == "hnsw of vector, m 16, ef_construction 128"
    assert told[0] == ("building the index", 0, 300)
    made.write(batch(ids[200:], -vectors[200:]), range(200))
    told.clear()
    made.finish([], lambda *each: told.append(each))
    assert told == []
    hits = made.search(Sought(-vectors[200:], 1))
    assert [of_query[0].id for of_query in hits] == ids[200:]
    assert made.counts() == (400, 400)


def test_names_with_schemas_and_oddities(host, server):  # noqa: F811
    for name in ("Plain", "100% 'x' \"y\" %s", "v1.2", "tab.le", "ü" * 31):
        made = host.create(name, Header(recipe(2)))
        made.write(batch(["a"], [[1, 2]]), [1])
        made.finish(["`f%s`", "g.h"], quiet)
        assert (f"public.{name}" if "." in name else name) in host.collections()
        assert host.collection(name).search(Sought(np.ones((1, 2), np.float32), 1))[0][0].id == "a"
        assert sums_of(made) == {"a": 1}
        host.drop(name)
        assert host.collection(name) is None
    for name in ("", "x" * 64):
        with pytest.raises(UsageError, match="no name of a table"):
            host.create(name, Header(recipe(2)))


def test_of_a_url_a_name_may_have_a_schema(host, server, database):  # noqa: F811
    statements = ('DROP SCHEMA IF EXISTS "other place" CASCADE', 'CREATE SCHEMA "other place"')
    server.execute(*statements, database=database)
    for name in ("other place.tab.le", "public.v1.2"):
        with connect(server.url(database, table=name)) as other:
            assert other.collection(name) is None
            other.create(name, Header(recipe(2))).write(batch(["a"], [[1, 2]]), [1])
        # As it is listed it is found.
        with connect(server.url(database)) as other:
            assert name in other.collections()
            assert other.collection(name).counts() == (1, 1)
    assert host.collection("v1.2").counts() == (1, 1)
    assert host.collection("other place.tab.le") is None
    server.execute('DROP SCHEMA "other place" CASCADE', database=database)
    for name in ("x.", ".x"):
        with pytest.raises(UsageError, match="no name of a table"):
            connect(server.url(database, table=name))


def test_two_that_make_a_collection_at_once_both_have_it(server, database):  # noqa: F811
    """One statement waits for the other, as two first pushes do."""
    server.execute("DROP TABLE IF EXISTS public.twice", database=database)
    url = server.url(database)
    for header, message in (
        (Header(recipe(2)), None),
        (Header(recipe(3)), "another push has just made it"),
    ):
        with connect(url) as first, connect(url) as second, ThreadPoolExecutor(1) as pool:
            with first._session.connection.transaction():
                first.create("twice", Header(recipe(2)))
                later = pool.submit(second.create, "twice", header)
                time.sleep(0.3)
                assert not later.done()
            if message:
                with pytest.raises(StoreError, match=message):
                    later.result()
            else:
                made = later.result()
                assert made.header == header
                made.write(batch(["a"], [[1, 2]]), [1])
                assert first.collection("twice").counts() == (1, 1)
            first.drop("twice")


def test_a_collection_is_claimed_by_one_push_until_it_ends(host, server, database):  # noqa: F811
    made = host.create("t", Header(recipe(2)))
    other_one = host.create("u", Header(recipe(2)))
    with connect(server.url(database)) as second:
        assert made.claim()
        assert not second.collection("t").claim()
        assert second.collection("u").claim()
        assert not other_one.claim()
        # Readers and writers go on.
        second.collection("t").write(batch(["a"], [[1, 2]]), [1])
    deadline = time.monotonic() + 10
    while not other_one.claim():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("dim", "dtype"), [(8, "float32"), (8, "float16"), (2500, "float32")])
def test_indexes_that_are_gone_or_spoilt_are_seen_and_made_again(
    host, server, database, dim, dtype  # noqa: F811
):  # fmt: skip
    made = host.create("t", Header(recipe(dim), dtype=dtype))
    assert not made.is_indexed([])
    made.write(batch(["a", "b"], np.ones((2, dim))), [1, 2])
    made.finish(["year"], quiet)
    assert made.is_indexed(["year"])
    assert made.is_indexed([])
    assert not made.is_indexed(["year", "day"])
    names = [name for (name,) in server.execute(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 't'::regclass "
        "AND NOT indisprimary", database=database)]  # fmt: skip
    assert len(names) == 4
    for name in names:
        for spoil in (
            f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}'::regclass",
            f"DROP INDEX {name}",
        ):
            server.execute(spoil, database=database)
            assert not made.is_indexed(["year"])
            made.finish(["year"], quiet)
            assert made.is_indexed(["year"])
    there = "SELECT count(*), bool_and(indisvalid) FROM pg_index WHERE indrelid = 't'::regclass"
    assert server.execute(there, database=database) == [(5, True)]
    # Another table of that name has indexes of its own.
    server.execute("ALTER TABLE t RENAME TO renamed", database=database)
    again = host.create("t", Header(recipe(dim), dtype=dtype))
    again.finish(["year"], quiet)
    assert again.is_indexed(["year"])
    assert host.collection("renamed").is_indexed(["year"])


def test_an_index_of_other_distances_or_rows_is_none(host, server, database):  # noqa: F811
    made = host.create("t", Header(recipe(4)))
    made.write(batch(["a"], [[1, 2, 3, 4]]), [1])
    made.finish([], quiet)
    (name,) = server.execute("SELECT indexrelid::regclass::text FROM pg_index JOIN pg_opclass ON "
        "pg_opclass.oid = indclass[0] WHERE indrelid = 't'::regclass "
        "AND opcname = 'vector_cosine_ops'", database=database)[0]  # fmt: skip
    for other in ("(embedding vector_l2_ops)", "(embedding vector_cosine_ops) WHERE chunk = 1"):
        server.execute(
            f"DROP INDEX {name}", f"CREATE INDEX {name} ON t USING hnsw {other}", database=database
        )
        assert not made.is_indexed([])
        assert made.facts()["index"].startswith("not built yet")
        made.finish([], quiet)
        assert made.is_indexed([])
        (name,) = server.execute("SELECT indexrelid::regclass::text FROM pg_index JOIN pg_opclass "
            "ON pg_opclass.oid = indclass[0] WHERE indrelid = 't'::regclass "
            "AND opcname = 'vector_cosine_ops'", database=database)[0]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("ALTER embedding TYPE vector", "'embedding' is vector, expected vector.3."),
        ("ALTER embedding TYPE halfvec(3)", "'embedding' is halfvec.3., expected vector.3."),
        ("RENAME embedding TO emb", "'embedding' is not there"),
        ("DROP stored_meta", "'stored_meta' is not there"),
        ("ALTER sum TYPE text", "'sum' is text, expected int8"),
    ],
)
def test_a_table_that_was_altered_is_refused(host, server, database, change, message):  # noqa: F811
    made = host.create("t", Header(recipe(3)))
    made.write(batch(["a"], [[1, 2, 3]]), [1])
    server.execute(f"ALTER TABLE t {change}", database=database)
    with pytest.raises(StoreError, match=f"table t was altered: its column {message}"):
        host.collection("t")


def test_a_header_of_other_vectors_is_refused(host):
    made = host.create("t", Header(recipe(3)))
    for header, message in (
        (Header(recipe(4)), r"is vector\(3\), expected vector\(4\)"),
        (Header(recipe(3), dtype="float16"), r"is vector\(3\), expected halfvec\(3\)"),
    ):
        made.set_header(header)
        with pytest.raises(StoreError, match=message):
            host.collection("t")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("change", "searched"),
    [
        ("stored_meta = NULL", True),
        ("stored_meta = '{'", True),
        ("stored_meta = '[1]'", True),
        ("stored_meta = '{\"a\": NaN}'", True),
        ("text = NULL", True),
        ("chunk = 5", True),
        ("hash = NULL", False),
        ("hash = 'no hash at all, is it'", False),
        ("source = NULL", False),
    ],
)
def test_a_record_that_was_spoilt_is_named(host, server, database, chunked, change, searched):  # noqa: F811
    made = host.create("t", Header(recipe(2), chunking="words" if chunked else None))
    spans = [np.array([(0, 1), (1, 2)])] * 2 if chunked else None
    wrote = batch(["fine", "bad"], np.ones((4 if chunked else 2, 2)), spans=spans)
    made.write(wrote, [1, 2])
    made.finish([], quiet)
    server.execute(f"UPDATE t SET {change} WHERE id = 'bad' AND chunk = 0", database=database)
    calls = [lambda: made.fetch(["bad"]), *(lambda n=n: list(made.batches(n)) for n in (1, 9))]
    if searched:
        calls.append(lambda: made.search(Sought(np.ones((1, 2), np.float32), 2)))
    for call in calls:
        with pytest.raises(StoreError, match=r'table "t": record \'bad\': ') as failure:
            call()
        assert "embcli push" in failure.value.hint
    assert made.fetch(["fine"]).ids == ["fine"]
    # What the hint says.
    server.execute("DELETE FROM t WHERE id = 'bad'", database=database)
    made.write(wrote.take([1]), [2])
    assert as_dict(made.batches(9)) == as_dict([wrote])


def test_a_chunk_that_is_gone_is_missed(host, server, database):  # noqa: F811
    made = host.create("t", Header(recipe(2), chunking="words"))
    wrote = batch(["a", "b"], np.ones((6, 2)), spans=[np.array([(0, 1), (1, 2), (2, 3)])] * 2)
    made.write(wrote, [1, 2])
    server.execute("DELETE FROM t WHERE id = 'a' AND chunk = 1", database=database)
    with pytest.raises(StoreError, match="record 'a': chunk 1 is not there"):
        made.fetch(["a", "b"])


def test_a_sum_that_is_gone_is_none_that_a_record_has(host, server, database):  # noqa: F811
    made = host.create("t", Header(recipe(2)))
    made.write(batch(["a", "b"], np.ones((2, 2))), [1, 2])
    server.execute("UPDATE t SET sum = NULL WHERE id = 'a'", database=database)
    assert sums_of(made) == {"a": -1, "b": 2}


def test_tables_of_others_are_left_alone(host):
    host._session.connection.execute("CREATE TABLE theirs (id integer)")
    host._session.connection.execute("COMMENT ON TABLE theirs IS 'ours'")
    assert "theirs" not in host.collections()
    with pytest.raises(StoreError, match="theirs was not made by embcli"):
        host.collection("theirs")
    with pytest.raises(StoreError, match="theirs was not made by embcli"):
        host.create("theirs", Header(recipe(2)))
    host._session.connection.execute("CREATE SEQUENCE numbers")
    with pytest.raises(StoreError, match="numbers was not made by embcli"):
        host.create("numbers", Header(recipe(2)))


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"texts": ["fine", "a\0b"]}, "record 'bad' cannot be stored in PostgreSQL: text: "),
        ({"metas": ["{}", '{"a": "\\u0000"}']}, "record 'bad' cannot be stored .* meta: "),
        ({"metas": ["{}", '{"a": 1e200000}']}, "record 'bad' cannot be stored .* meta: "),
        ({"vectors": [[1, 1], [1e6, 1]]}, "record 'bad' cannot be stored .* embedding: infinite"),
    ],
)
def test_what_postgresql_cannot_hold_is_named_and_nothing_is_written(host, spoilt, message):
    made = host.create("t", Header(recipe(2), dtype="float16"))
    wrote = batch(["fine", "bad"], **({"vectors": np.ones((2, 2))} | spoilt))
    with pytest.raises(InputError, match=message):
        made.write(wrote, [1, 2])
    assert made.counts() == (0, 0)
    made.write(wrote.take([0]), [1])
    assert sums_of(made) == {"fine": 1}


def test_of_a_long_id_the_beginning_names_the_record(host):
    made = host.create("t", Header(recipe(2)))
    with pytest.raises(InputError, match=r"record 'xxx.* cannot be stored") as failure:
        made.write(batch(["x" * 10_000], np.ones((1, 2)), texts=["a\0b"]), [1])
    assert len(failure.value.message) < 500


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ({"password": "wr:ng@"}, "password authentication failed", "PGPASSWORD"),
        ({"password": None}, "no password supplied", "PGPASSWORD"),
        ({"database": "absent"}, 'database "absent" does not exist', "CREATE DATABASE"),
        ({"database": "postgres"}, "has no pgvector", "CREATE EXTENSION vector"),
        ({"port": 9}, "Connection refused", "is the server running"),
        ({"table": "x" * 64}, "no name of a table", None),
    ],
)
def test_who_is_refused_is_told_why_in_one_line(server, database, change, message, hint):  # noqa: F811
    url = server.url(**({"database": database} | change))
    with pytest.raises((StoreError, UsageError), match=message) as failure:
        connect(url, timeout=3)
    told = failure.value.message + (failure.value.hint or "")
    assert (hint or "") in told
    assert "\n" not in told
    for secret in (PASSWORD, quote(PASSWORD, safe=""), "wr:ng@", "wr%3Ang%40"):
        assert secret not in told


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("?foo=1", "no option 'foo'"),
        ("?sslmode=maybe", "invalid sslmode value"),
        ("?connect_timeout=0", "connect_timeout takes whole seconds"),
        ("?connect_timeout=-1", "connect_timeout takes whole seconds"),
        ("?connect_timeout=x", "connect_timeout takes whole seconds"),
        ("?port=x", "invalid integer value|invalid port"),
        ("?keepalives_idle=x", "invalid integer value"),
    ],
)
def test_a_wrong_url_is_wrong_usage(server, end, message):  # noqa: F811
    with pytest.raises(UsageError, match=message):
        connect(server.url() + end)


def test_schemes_are_taken_in_any_case(server, database):  # noqa: F811
    url = server.url(database)
    for scheme in ("POSTGRESQL", "Postgres"):
        with connect(url.replace("postgresql", scheme)) as host:
            assert host.product.startswith("PostgreSQL")
    with pytest.raises(UsageError, match="no URL"):
        connect(url.replace("://", ":/"))


def test_the_server_looks_whether_clients_are_there(server, database):  # noqa: F811
    with connect(server.url(database)) as host:
        assert host._session.row("SHOW tcp_keepalives_idle") == ("60",)


def test_of_several_hosts_the_first_that_answers_is_taken(server, database):  # noqa: F811
    url = server.url(database).replace("@127.0.0.1:", "@127.0.0.1:1,127.0.0.1:")
    with connect(url) as host:
        assert host.product.startswith("PostgreSQL")


def test_a_socket_that_is_not_there_is_named():
    with pytest.raises(StoreError, match=r"/nowhere/\.s\.PGSQL\.5432: No such file") as failure:
        connect("postgresql:///d?host=/nowhere&port=5432")
    assert "postgresql://USER@HOST/DATABASE" in failure.value.hint


def test_a_lock_is_waited_for_as_long_as_was_said(host, server, database, monkeypatch):  # noqa: F811
    made = host.create("t", Header(recipe(2)))
    made.write(batch(["a"], [[1, 2]]), [1])
    monkeypatch.setenv("EMBCLI_TIMEOUT", "0.2")
    with connect(server.url(database)) as waiting:
        mine = waiting.collection("t")
        with host._session.connection.transaction():
            host._session.connection.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
            for call in (
                mine.counts,
                lambda: mine.search(Sought(np.ones((2, 2), np.float32), 3)),
                lambda: mine.fetch(["a"]),
                lambda: list(mine.batches(10)),
                lambda: list(mine.sums()),
                lambda: mine.write(batch(["b"], [[1, 2]]), [1]),
                lambda: mine.delete(["a"]),
                lambda: mine.set_header(mine.header),
                lambda: mine.finish([], quiet),
            ):
                with pytest.raises(StoreError, match="has locked what is there") as failure:
                    call()
                assert "EMBCLI_TIMEOUT" in failure.value.hint
        assert mine.counts() == (1, 1)


def test_a_server_that_only_reads_is_told(host, server, database):  # noqa: F811
    host.create("t", Header(recipe(2)))
    url = f"{server.url(database)}?options=-cdefault_transaction_read_only%3Don"
    with connect(url) as other:
        mine = other.collection("t")
        assert mine.counts() == (0, 0)
        for call in (
            lambda: other.create("u", Header(recipe(2))),
            lambda: mine.write(batch(["b"], [[1, 2]]), [1]),
        ):
            with pytest.raises(StoreError, match="read-only transaction") as failure:
                call()
            assert "standby" in failure.value.hint


def test_a_host_that_is_not_there_is_told(server):  # noqa: F811
    for host, message in (("no-such-host.invalid", "resolve"), ("[::1]", "refused|assign")):
        with pytest.raises(StoreError, match=message) as failure:
            connect(server.url().replace("127.0.0.1", host))
        assert "\n" not in failure.value.message


def test_shared_memory_that_is_short_is_done_without(host, monkeypatch):
    from psycopg.errors import DiskFull

    from embcli.servers.postgres_index import Indexes

    made = host.create("t", Header(recipe(2)))
    made.write(batch(["a"], [[1, 2]]), [1])
    real, tried = Indexes._run, []

    def run(self, what, definition):
        if what == "hnsw":
            workers = self._session.row("SHOW max_parallel_maintenance_workers")[0]
            tried.append(workers)
            if workers != "0":
                raise DiskFull("could not resize shared memory segment")
        real(self, what, definition)

    monkeypatch.setattr(Indexes, "_run", run)
    made.finish([], quiet)
    assert tried == ["2", "0"]
    assert made.facts()["index"].startswith("hnsw")
    assert host._session.row("SHOW max_parallel_maintenance_workers") == ("2",)


def test_a_full_disk_is_told(host, monkeypatch):
    from psycopg.errors import DiskFull

    from embcli.servers.postgres_index import Indexes

    made = host.create("t", Header(recipe(2)))

    def full(self, what, definition):
        raise DiskFull('could not extend file "base": No space left on device')

    monkeypatch.setattr(Indexes, "_run", full)
    with pytest.raises(StoreError, match="No space left on device") as failure:
        made.finish([], quiet)
    assert "the same command again" in failure.value.hint


def test_a_server_that_does_not_answer_is_not_waited_for():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        begun = time.monotonic()
        with pytest.raises(StoreError, match="timeout"):
            connect(f"postgresql://u:p@127.0.0.1:{deaf.getsockname()[1]}/d", timeout=2)
        assert time.monotonic() - begun < 10


def test_what_libpq_says_of_a_url_does_not_show_the_password(server):  # noqa: F811
    url = server.url()
    unquoted = url.replace(quote(PASSWORD, safe=""), "half@0penS3same")
    for wrong in (
        f"{url}?nonsense=1", f"{url}?sslmode=maybe", f"{url}?port=x&password=0penS3same",
        unquoted, f"{unquoted}?nonsense=1", url.replace("127.0.0.1", "[::1"),
    ):  # fmt: skip
        with pytest.raises((StoreError, UsageError)) as failure:
            connect(wrong)
        told = failure.value.message
        assert "\n" not in told
        assert not any(s in told for s in (PASSWORD, quote(PASSWORD, safe=""), "0penS3same"))


def test_who_may_only_read_can_search_and_no_more(host, server, database):  # noqa: F811
    made = host.create("t", Header(recipe(2)))
    made.write(batch(["a"], [[1, 2]]), [1])
    made.finish([], quiet)
    server.execute("DROP ROLE IF EXISTS reader")
    server.execute("CREATE ROLE reader LOGIN PASSWORD 'r'")
    server.execute("GRANT USAGE ON SCHEMA public TO reader", database=database)
    with connect(server.url(database, user="reader", password="r", table="t")) as other:
        assert other.named == "t"
        # What may not be read is in the list, and keeps nothing else out of it.
        assert "t" in other.collections()
        with pytest.raises(StoreError, match="permission denied") as failure:
            other.collection("t").counts()
        assert 'GRANT SELECT ON "t" TO "reader"' in failure.value.hint
        server.execute("GRANT SELECT ON t TO reader", database=database)
        opened = other.collection("t")
        assert opened.search(Sought(np.ones((1, 2), np.float32), 3))[0][0].id == "a"
        for change in (
            lambda: opened.write(batch(["b"], [[1, 2]]), [1]),
            lambda: opened.set_header(opened.header),
            lambda: opened.delete(["a"]),
            lambda: other.create("u", Header(recipe(2))),
        ):
            with pytest.raises(StoreError, match=r"permission denied|must be owner") as failure:
                change()
            assert 'TO "reader"' in failure.value.hint
            assert "owner" in failure.value.hint
    assert made.counts() == (1, 1)
    server.execute("DROP OWNED BY reader", "DROP ROLE reader", database=database)


def test_extensions_in_other_schemas_are_found(server):  # noqa: F811
    server.execute("DROP DATABASE IF EXISTS elsewhere", "CREATE DATABASE elsewhere")
    server.execute(
        "CREATE SCHEMA ext", "CREATE EXTENSION vector SCHEMA ext", database="elsewhere"
    )  # fmt: skip
    with connect(server.url("elsewhere")) as host:
        assert re.fullmatch(r"PostgreSQL \d+\.\d+, pgvector 0\.8\.\d", host.product)
        made = host.create("t", Header(recipe(2)))
        made.write(batch(["a"], [[1, 2]]), [1])
        made.finish([], quiet)
        assert sums_of(made) == {"a": 1}
        assert made.search(Sought(np.ones((1, 2), np.float32), 3))[0][0].id == "a"


def test_a_server_that_stops_is_told_and_nothing_is_lost(server, database):  # noqa: F811
    """A server of its own state: what was committed is there when it is started again."""
    server.execute("DROP TABLE IF EXISTS public.stopped", database=database)
    with connect(server.url(database, table="public.stopped")) as host:
        made = host.create("public.stopped", Header(recipe(2)))
        made.write(batch(["a"], [[1, 2]]), [1])
        server.stop("fast")
        try:
            for call in (made.counts, lambda: made.write(batch(["b"], [[1, 2]]), [1])):
                with pytest.raises(StoreError, match="connection was lost") as failure:
                    call()
                assert "the same command again" in failure.value.hint
                assert PASSWORD not in failure.value.message
            with pytest.raises(StoreError, match="Connection refused"):
                connect(server.url(database))
        finally:
            server.start()
    with connect(server.url(database, table="public.stopped")) as host:
        made = host.collection("public.stopped")
        assert made.header.state == "loading"
        assert sums_of(made) == {"a": 1}
        host.drop("public.stopped")


PUSH = """
import sys
import numpy as np
from embcli.servers import connect
from tests.engines.postgres_server import batch
with connect(sys.argv[1]) as host:
    made = host.collection("t")
    vectors = np.random.default_rng(0).normal(size=(30_000, 64)).astype(np.float32)
    for start in range(0, 30_000, 500):
        ids = [f"{n:05d}" for n in range(start, start + 500)]
        spans = [np.array([(0, 1), (1, 2)])] * 500
        both = np.repeat(vectors[start : start + 500], 2, axis=0)
        made.write(batch(ids, both, spans=spans), range(500))
        print(start, flush=True)
"""


def test_a_push_that_is_killed_leaves_whole_records(host, server, database):  # noqa: F811
    made = host.create("t", Header(recipe(64), chunking="words"))
    command = [sys.executable, "-c", PUSH, server.url(database)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        for _ in range(3):
            process.stdout.readline()
        time.sleep(0.01)
        process.kill()
    deadline = time.monotonic() + 20
    while server.execute("SELECT 1 FROM pg_stat_activity WHERE datname = 'vectors' AND "
                         f"pid <> {host._session.connection.info.backend_pid}"):  # fmt: skip
        assert time.monotonic() < deadline
        time.sleep(0.05)
    records, vectors = made.counts()
    assert records >= 1500
    assert records % 500 == 0
    assert vectors == 2 * records
    assert host.collection("t").header.state == "loading"
    assert len(sums_of(made)) == records
    # Again, all of it: nothing is there twice.
    subprocess.run(command, stdout=subprocess.DEVNULL, cwd=ROOT, check=True)
    assert made.counts() == (30_000, 60_000)


def test_an_interrupted_build_leaves_no_index(host, monkeypatch):
    made = host.create("t", Header(recipe(64)))
    vectors = np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float32)
    made.write(batch([str(n) for n in range(20_000)], vectors), range(20_000))

    def interrupt(what, done, total):
        if done:
            raise KeyboardInterrupt

    monkeypatch.setattr("embcli.servers.postgres_index._POLL", 0.05)
    with pytest.raises(KeyboardInterrupt):
        made.finish([], interrupt)
    assert made.facts()["index"].startswith("not built yet")
    assert made.counts() == (20_000, 20_000)
    # Until it is there, every vector is compared.
    assert made.search(Sought(vectors[:1], 1))[0][0].id == "0"


def test_two_that_push_at_once_leave_one_copy(host, server, database):  # noqa: F811
    made = host.create("t", Header(recipe(2)))
    ids = [str(n) for n in range(200)]

    def push(seed):
        with connect(server.url(database)) as other:
            mine = other.collection("t")
            for _ in range(5):
                mine.write(batch(ids, np.full((200, 2), seed)), [seed] * 200)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(push, [1, 2, 3]))
    assert made.counts() == (200, 200)
    (found,) = made.batches(1000)
    assert (found.vectors == found.vectors[0, 0]).all()
    assert set(sums_of(made).values()) == {int(found.vectors[0, 0])}


def test_commands_go_there_and_back(host, server, database, run):  # noqa: F811
    texts = [f"A text about {'cats' if n % 3 else 'ships'}. Its number is {n}." for n in range(600)]
    lines = [
        json.dumps({"id": str(n), "text": text, "year": 1990 + n % 40})
        for n, text in enumerate(texts)
    ]
    assert run("encode", "-", "--chunk", "sentences=1", stdin="\n".join(lines)).code == 0
    url = server.url(database, table="there")
    pushed = run("push", url)
    assert (pushed.code, "written 600, unchanged 0" in pushed.err) == (0, True), pushed.err
    again = run("push", url)
    assert "written 0, unchanged 600" in again.err
    assert PASSWORD not in pushed.err + again.err
    command = ["sailing the sea", "-k", 20, "--where", "year >= 2010 and text contains 'ships'"]
    here, there = run("search", *command), run("search", "--db", url, *command)
    assert there.rows == here.rows
    assert len(here.rows) == 20
    assert run("pull", url, "-c", "back").code == 0
    assert run("search", "-c", "back", *command).rows == here.rows
    refused = run("search", "--db", url, "x", "--model", "hash")
    assert refused.code != 0
    assert run("info", url).rows[1]["facts"]["state"] == "ready"


def test_what_was_altered_on_the_server_is_told_and_mended(host, server, database, run):  # noqa: F811
    lines = [json.dumps({"id": str(n), "text": f"text number {n}"}) for n in range(20)]
    assert run("encode", "-", "-c", "v1.2", stdin="\n".join(lines)).code == 0
    url = server.url(database)
    assert run("push", url, "-c", "v1.2").code == 0
    assert run("search", "number 7", "--db", url, "-c", "v1.2", "-k", 1).rows[0]["id"] == "7"
    there = f"{url}?table=public.v1.2"
    for change in ("sum = NULL WHERE id = '7'", "chunk = 5 WHERE id = '7'"):
        server.execute(f'UPDATE "v1.2" SET {change}', database=database)
        mended = run("push", there, "-c", "v1.2")
        assert (mended.code, "written 1, unchanged 19" in mended.err) == (0, True), mended.err
    server.execute("UPDATE \"v1.2\" SET stored_meta = '{' WHERE id = '7'", database=database)
    for command in (
        ("pull", there, "-d", "other.db"),
        ("search", "number 7", "--db", there),
        ("search", "--like", "7", "--db", there),
    ):
        told = run(*command)
        assert told.code == 5, told.err
        assert "record '7'" in told.err
    server.execute('ALTER TABLE "v1.2" ALTER embedding TYPE vector', database=database)
    for command in (("push", there, "-c", "v1.2"), ("pull", there), ("search", "x", "--db", there)):
        told = run(*command)
        assert (told.code, "was altered" in told.err) == (5, True), told.err
    assert run("info", f"{url}?foo=1").code == 2
