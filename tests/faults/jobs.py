"""The commands that write, each with a small job that is worth killing."""

import json
import sqlite3
from dataclasses import dataclass, field

import numpy as np
import pytest

from embcli.store import database
from embcli.store.schema import STEPS
from tests.faults.kit import texts, write_lines
from tests.faults.launcher import SMALL

HASH = ("-m", "hash")


@dataclass(frozen=True)
class Job:
    """A command line, and the function that prepares a folder for it.

    `product` is a file that it makes, which must be whole or not there; `again` is the exit code
    where it has nothing left to do.
    """

    name: str
    words: tuple
    prepare: object
    product: str | None = None
    again: int = 0
    settings: dict = field(default_factory=lambda: SMALL)


def _corpus(run, folder, count=250):
    write_lines(folder / "corpus.jsonl", texts(count))


def _stored(run, folder):
    """A collection of texts, a third of them changed or gone in the file since."""
    _corpus(run, folder)
    run("encode", "corpus.jsonl", *HASH)
    run("index", "n")
    changed = texts(250, seed=1)[60:120]
    write_lines(folder / "corpus.jsonl", texts(250)[:60] + changed + texts(250)[150:])


def _findings(run, folder):
    _stored(run, folder)
    run("cluster", "-k", "3", "--name", "old")
    run("plot", "-M", "pca", "--name", "old")
    run("compress", "--kind", "int8")


def _mapped(run, folder):
    """Maps whose collections are still to be made."""
    _stored(run, folder)
    run("debias", "fit", "-n", "fair", "--label", "kind")
    run("align", "fit", "-s", "default", "-t", "default", "-n", "turn", "--pairs", "ids")


def _whitened(run, folder):
    """A map, and a part of what it leads to."""
    _stored(run, folder)
    run("whiten", "fit", "-n", "white", "-M", "zca", "--shrinkage", "0.5")
    run("whiten", "apply", "white", "--to", "part", "--where", "n < 2")


def _vectors(run, folder):
    rng = np.random.default_rng(0)
    np.savez(
        folder / "v.npz",
        ids=np.array([f"w{n}" for n in range(3000)]),
        vectors=rng.standard_normal((3000, 32), np.float32),
    )


def _duplicates(run, folder):
    records = texts(200)
    records += [{**record, "id": f"{record['id']}-again"} for record in records[:100]]
    write_lines(folder / "corpus.jsonl", records)
    run("encode", "corpus.jsonl", *HASH)


def _deleted(run, folder):
    """A store with much to give back."""
    _duplicates(run, folder)
    run("dedup", "--delete", "-q")
    run("compress", "--kind", "bits1")


def _old(version):
    def prepare(run, folder):
        store_of_version(folder / "embcli.db", version)

    return prepare


def store_of_version(path, version, count=250, dim=8):
    """A store as embcli wrote it when there were so many steps, by its tables alone."""
    from embcli import Recipe
    from embcli.store.known_texts import prefixes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embcli.store.schema.STEPS", STEPS[:version])
        patch.setattr(database, "VERSION", version)
        db = database.Database(path, readonly=False, timeout=1)
    recipe = Recipe({"model": "old", "dim": dim, "normalized": False, "imported": "x", "maps": []})
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((count, dim)).astype("<f4")
    hashes = [f"{n:032x}" for n in rng.integers(1, 2**60, count).tolist()]
    with db.transaction():
        db.execute(
            "INSERT INTO spaces (hash, model, dim, recipe, created) VALUES (?, 'old', ?, ?, '')",
            ("of then" if version == 1 else recipe.hash, dim, recipe.json),
        )
        db.execute(
            "INSERT INTO collections (name, space, dtype, created) VALUES ('c', 1, 'float32', '')"
        )
        slots = np.arange(1, count + 1).astype("<i8").tobytes()
        db.execute(
            "INSERT INTO segments (collection, count, slots, hashes, vectors) "
            "VALUES (1, ?, ?, ?, ?)",
            (count, slots, prefixes(hashes).tobytes(), vectors.tobytes()),
        )
        db.executemany(
            "INSERT INTO records (collection, id, hash, segment, slot, source, meta, text) "
            "VALUES (1, ?, ?, 1, ?, 'f:1', ?, ?)",
            ((f"r{n}", hashes[n], n, json.dumps({"n": n}), f"text {n}") for n in range(count)),
        )
        db.execute("INSERT INTO records_fts (rowid, text) SELECT key, text FROM records")
    db.close()


def version_of(path):
    """The number of steps a file has been through."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA user_version").fetchone()[0]
    finally:
        connection.close()


JOBS = [
    Job("encode", ("encode", "corpus.jsonl"), _corpus),
    Job("encode, hash", ("encode", "corpus.jsonl", *HASH), _corpus),
    Job("encode --prune", ("encode", "corpus.jsonl", "--prune"), _findings),
    Job("encode --chunk", ("encode", "corpus.jsonl", *HASH, "--chunk", "characters=60"), _corpus),
    Job("import", ("import", "v.npz"), _vectors),
    Job("align apply", ("align", "apply", "turn", "--to", "turned"), _mapped),
    Job("debias apply", ("debias", "apply", "fair", "--to", "unbiased"), _mapped),
    Job("whiten apply", ("whiten", "apply", "white", "--to", "part"), _whitened),
    Job("dedup --delete", ("dedup", "--delete", "-q", "-o", "gone.csv"), _duplicates, again=1),
    Job("vacuum", ("vacuum",), _deleted),
    *(Job(f"migrate from {n}", ("vacuum",), _old(n)) for n in range(1, len(STEPS))),
    Job("compress", ("compress", "--kind", "int8"), _stored),
    Job("cluster", ("cluster", "-k", "4", "--name", "old"), _findings),
    Job("plot", ("plot", "-M", "pca", "--name", "old", "--fresh", "-q"), _findings),
    Job("index", ("index", "kind"), _stored),
    Job("collections rm", ("collections", "rm", "default", "--yes"), _findings, again=5),
    Job("collections rename", ("collections", "rename", "default", "new"), _findings, again=5),
    Job("export", ("export", "out.npz"), _stored, "out.npz"),
    Job("export, store", ("export", "out.db", "--format", "embcli"), _stored, "out.db"),
    Job("backup", ("backup", "copy.db"), _findings, "copy.db"),
]
BY_NAME = {job.name: job for job in JOBS}
