"""A server in memory: what the protocol says, by brute force, and with faults on request."""

import json

import numpy as np

from embcli.core.cosine import unit
from embcli.core.topk import DECIMALS
from embcli.errors import InputError, StoreError
from embcli.servers import Address, Header, ServerHit, joined, rows_of
from embcli.store import Record, Store


class Disk:
    """What all servers of a test hold, and what is to go wrong."""

    def __init__(self):
        self.collections = {}
        self.fail_after = None  # batches
        self.refused = set()
        self.garbled = set()
        self.missed = 0.0  # of what is near, how much an index overlooks at effort 1
        self.written = []
        self.claimed = False
        self.indexed = True
        self.before_write = lambda: None
        self.efforts = []


class Memory:
    """A stand-in for a connection; `disk` is set by the fixture."""

    disk = None
    product = "memory 1.0"

    def __init__(self, address: Address, timeout: float) -> None:
        self.address = address
        self.named = address.path or None
        if address.host == "down":
            raise StoreError(f"{address} does not answer")

    def collections(self):
        return sorted(self.disk.collections)

    def collection(self, name):
        return self.disk.collections.get(name)

    def create(self, name, header):
        self.disk.collections[name] = MemoryCollection(self.disk, name, header)
        return self.disk.collections[name]

    def drop(self, name):
        del self.disk.collections[name]

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class MemoryCollection:
    """Rows by record."""

    efforts = (1, 2, 4)

    def __init__(self, disk, name, header):
        self.disk, self.name, self._header = disk, name, header.json
        self.rows, self._sums, self.finished = {}, {}, []

    @property
    def header(self):
        return Header.from_json(self._header, self.name)

    def set_header(self, header):
        self._header = header.json

    def claim(self):
        return not self.disk.claimed

    def is_indexed(self, fields):
        return self.disk.indexed and self.finished[-1:] == [list(fields)]

    def counts(self):
        return len(self.rows), sum(len(rows) for rows in self.rows.values())

    def sums(self):
        ids = list(self._sums)
        for start in range(0, len(ids), 3):
            some = ids[start : start + 3]
            yield some, [self._sums[id] for id in some]

    def write(self, batch, sums):
        self.disk.before_write()
        if self.disk.refused & set(batch.ids):
            raise InputError("too long for this server")
        if self.disk.fail_after is not None:
            if self.disk.fail_after == 0:
                raise StoreError("the server went away")
            self.disk.fail_after -= 1
        vectors = batch.vectors.astype(self.header.dtype).astype(np.float32)
        for id in batch.ids:
            self.rows[id] = []
        for vector, (row, number, start, end) in zip(vectors, rows_of(batch), strict=True):
            id = batch.ids[row]
            self.rows[id].append(
                {
                    "id": id, "text": batch.texts[row], "meta": batch.metas[row],
                    "source": batch.sources[row], "hash": batch.hashes[row], "chunk": number,
                    "start": start, "end": end,
                    "vector": vector + 1 if id in self.disk.garbled else vector,
                }
            )  # fmt: skip
        self._sums |= dict(zip(batch.ids, sums, strict=True))
        self.disk.written += batch.ids

    def delete(self, ids):
        for id in ids:
            self.rows.pop(id, None)
            self._sums.pop(id, None)

    def finish(self, fields, progress):
        self.finished.append(list(fields))
        progress("index", 1, 1)
        return {"index": "none"}

    def fetch(self, ids):
        return self._batch([id for id in ids if id in self.rows])

    def batches(self, n, where=None):
        ids = [id for id in self.rows if where is None or id in self._passing(where)]
        for start in range(0, len(ids), n):
            yield self._batch(ids[start : start + n])

    def search(self, sought):
        passing = self.rows if sought.where is None else self._passing(sought.where)
        ids = [id for id in self.rows if id in passing and id not in sought.without]
        return [self._search(vector, ids, sought) for vector in sought.vectors]

    def facts(self):
        return {"bytes": 1}

    def _search(self, vector, ids, sought):
        effort = sought.effort or self.header.facts.get("effort", 1)
        self.disk.efforts.append(effort)
        rng = np.random.default_rng(0)
        hits = []
        for id in ids:
            overlooked = rng.uniform() < self.disk.missed / effort**2
            if overlooked and not sought.exact:
                continue
            best = max(self.rows[id], key=lambda row: _cosine(row["vector"], vector))
            chunk = (best["chunk"], best["start"], best["end"])
            first = self.rows[id][0]
            hits.append(
                ServerHit(
                    id, _cosine(best["vector"], vector), first["text"], json.loads(first["meta"]),
                    chunk if self.header.chunking else None,
                )
            )  # fmt: skip
        least = -2 if sought.threshold is None else sought.threshold
        hits = [hit for hit in hits if hit.score >= least]
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))[: sought.k]

    def _passing(self, where):
        with Store("filter.db") as store:
            collection = store.create_collection("c", self.header.recipe)
            records = [
                Record(id, r[0]["text"], json.loads(r[0]["meta"])) for id, r in self.rows.items()
            ]
            collection.add(records, np.ones((len(records), self.header.recipe.dim)))
            rows = store._db.all(f"SELECT id FROM records WHERE {where.sql}", where.parameters)
        return {id for (id,) in rows}

    def _batch(self, ids):
        rows = [row for id in ids for row in self.rows[id]]
        dim = self.header.recipe.dim
        vectors = np.stack([row["vector"] for row in rows]) if rows else np.empty((0, dim))
        return joined(rows, vectors.astype(np.float32), self.header.chunking is not None)


def _cosine(a, b):
    """As exactly as in a store."""
    return round(float(unit(a[None])[0] @ unit(b)), DECIMALS)
