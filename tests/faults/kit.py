"""What the fault tests have in common: small stores, what is in them, whether they are sound."""

import json
import random
import shutil
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from embcli import Store
from embcli.store.database import APPLICATION_ID
from tests.conftest import ROOT

CLOSE = 1e-5
# What was tried: how often, and how often something was lost. The conftest shows it.
TRIED = {}


def tally(what, times, lost):
    """Take note of trials, for the table in docs/reliability.md."""
    before = TRIED.get(what, (0, 0))
    TRIED[what] = (before[0] + times, before[1] + lost)


@dataclass
class Contents:
    """All that a store holds, in a form that can be compared.

    `records` is by collection and id; each is what is stored as it is, and its vectors, which may
    differ in the last bits between batches that were put together differently.
    """

    collections: dict = field(default_factory=dict)
    records: dict = field(default_factory=dict)
    findings: dict = field(default_factory=dict)
    runs: dict = field(default_factory=dict)


def contents(path):
    """Read everything; a file that is not there, or not yet a store, is empty.

    An old store is upgraded, and all texts are indexed; the index must then fit the texts.
    """
    found = Contents()
    if not is_store(path):
        return found
    with Store(path) as store:
        store.index_texts()
        store._db.execute(
            "INSERT INTO records_fts (records_fts, rank) VALUES ('integrity-check', 1)"
        )
        for info in store.collections():
            found.collections[info.name] = (info.space, info.dtype, info.chunking)
            collection = store.collection(info.name)
            for batch in collection.batches(1000):
                start = 0
                for row, id in enumerate(batch.ids):
                    count = 1 if batch.spans is None else len(batch.spans[row])
                    spans = None if batch.spans is None else batch.spans[row].tolist()
                    facts = (
                        batch.texts[row], json.loads(batch.metas[row]), batch.sources[row],
                        batch.hashes[row], spans,
                    )  # fmt: skip
                    vectors = batch.vectors[start : start + count]
                    found.records[info.name, id] = (facts, vectors)
                    start += count
            ids = collection.names()
            for clustering in collection.clusterings.all():
                members = collection.clusterings.members(clustering)
                name = (info.name, "clusters", clustering.name)
                for key, number in zip(
                    members.keys.tolist(), members.clusters.tolist(), strict=True
                ):
                    found.findings[(*name, ids[key])] = number
            for layout in collection.layouts.all():
                name = (info.name, "layout", layout.name)
                for key in collection.layouts.points(layout).keys.tolist():
                    found.findings[(*name, ids[key])] = True
        for ends in store.maps.ends():
            found.findings["map", ends.name] = store.maps.get(ends.name).hash
        for index in store.indexes():
            found.findings["index", index.field] = True
    return found


def is_store(path):
    """Whether a file has been made a store already."""
    if not Path(path).exists() or not Path(path).stat().st_size:
        return False
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    finally:
        connection.close()


def same_record(one, other):
    """Whether two records are the same but for the last bits of their vectors."""
    return (
        one[0] == other[0]
        and one[1].shape == other[1].shape
        and np.allclose(one[1], other[1], atol=CLOSE)
    )


def same(one, other):
    """Say what differs between two stores, or nothing."""
    if one.collections != other.collections:
        return f"collections {one.collections} and {other.collections}"
    if one.records.keys() != other.records.keys():
        return f"{len(one.records)} records and {len(other.records)}"
    for key, record in one.records.items():
        if not same_record(record, other.records[key]):
            return f"record {key}"
    if one.findings != other.findings:
        differing = one.findings.items() ^ other.findings.items()
        return f"findings, such as {sorted(map(str, differing))[:3]}"
    return None


def between(found, before, after):
    """Say what is neither as before a command nor as after it, or nothing.

    Each record must be wholly as it was or wholly as it will be; and what is there before and
    after must be there all the time.
    """
    for key, record in found.records.items():
        candidates = [side.records[key] for side in (before, after) if key in side.records]
        if not any(same_record(record, candidate) for candidate in candidates):
            return f"record {key} is neither as before nor as after"
    lost = (before.records.keys() & after.records.keys()) - found.records.keys()
    if lost:
        return f"{len(lost)} records are lost, such as {min(lost)}"
    for name, value in found.findings.items():
        if value not in (before.findings.get(name), after.findings.get(name)):
            return f"{name} is neither as before nor as after"
    lost = (before.findings.keys() & after.findings.keys()) - found.findings.keys()
    return f"{len(lost)} findings are lost, such as {min(map(str, lost))}" if lost else None


def unsound(path):
    """Say what is wrong with the file as SQLite sees it, or nothing."""
    if not Path(path).exists():
        return None
    connection = sqlite3.connect(path)
    try:
        problems = connection.execute("PRAGMA integrity_check(3)").fetchall()
        if problems != [("ok",)]:
            return str(problems)
        problems = connection.execute("PRAGMA foreign_key_check").fetchall()
        if problems:
            return f"foreign keys {problems[:3]}"
        if is_store(path):
            connection.execute("INSERT INTO records_fts (records_fts) VALUES ('integrity-check')")
    except sqlite3.DatabaseError as error:
        return str(error)
    finally:
        connection.close()
    return None


def texts(count, seed=0, words=20):
    """Records of random words of the examples' texts, as JSON objects."""
    lines = (ROOT / "examples" / "corpus.jsonl").read_text().splitlines()
    known = " ".join(json.loads(line)["text"] for line in lines).split()
    rng = random.Random(seed)
    return [
        {"id": f"r{n}", "text": f"{' '.join(rng.choices(known, k=words))} {n}", "n": n % 7,
         "kind": rng.choice(["a", "b"])}
        for n in range(count)
    ]  # fmt: skip


def write_lines(path, records):
    """Write JSON Lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def copied(source, target):
    """Copy a folder over another."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target
