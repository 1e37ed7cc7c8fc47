"""`Store`: the file as a whole, and what concerns more than one collection."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

import embcli
from embcli.config import DEFAULT_COLLECTION, seconds_to_wait
from embcli.encoders.recipe import Recipe
from embcli.errors import StoreError, UsageError
from embcli.store import checks, filters, text_index
from embcli.store.chunks import TOKENS
from embcli.store.coding import Coding
from embcli.store.collection import Collection
from embcli.store.database import Database
from embcli.store.maps import Maps, add_space, drop_unused_spaces
from embcli.store.seen import SeenIds
from embcli.store.segments import DTYPES

if TYPE_CHECKING:
    from embcli.store.inspection import Advance, Damage
    from embcli.store.sql import Query

# Of vectors of queries the newest are kept: at 1,024 components these take 40 MB.
_QUERIES_KEPT = 10_000
_QUERY_BYTES_KEPT = 10_000 * 4 * 1024
_QUERY_DTYPE = np.dtype("<f4")


@dataclass(frozen=True)
class CollectionInfo:
    """A collection at a glance; `bytes` is what its vectors take.

    `vectors` are those of the records that are there: as many as these, or more if texts are
    cut into chunks, as `chunking` says. `coded` is how many vectors have codes, those deleted
    and not yet compacted among them, or in a multi-vector collection how many records have an
    encoding; `coding` says how they are used.
    """

    name: str
    records: int
    model: str
    dim: int
    dtype: str
    bytes: int
    space: str
    created: str
    vectors: int
    chunking: str | None
    coded: int
    coding: Coding | None

    @property
    def multivector(self) -> bool:
        """Whether every token has a vector."""
        return self.chunking == TOKENS


@dataclass(frozen=True)
class SpaceInfo:
    """A space at a glance; `space` is the hash of its recipe."""

    space: str
    model: str
    dim: int
    collections: int
    recipe: dict[str, Any]


@dataclass(frozen=True)
class IndexInfo:
    """An index on a metadata field, and how many records have the field."""

    field: str
    records: int


@dataclass(frozen=True)
class SpaceFacts:
    """What was found out about the model of a space.

    Parameters
    ----------
    light : bool or None
        Whether the light encoder of queries was found to equal the full one; None if they have
        not been compared.
    files : JSON-serialisable or None
        What the model's files looked like then.
    """

    light: bool | None
    files: Any


@dataclass(frozen=True)
class Run:
    """A command that wrote to the store; `status` is running, done, failed or interrupted."""

    key: int
    command: str
    collection: str | None
    arguments: dict[str, Any]
    started: str
    finished: str | None
    status: str
    counts: dict[str, Any]
    versions: dict[str, str]


class Store:
    """One SQLite file of records and vectors.

    Parameters
    ----------
    path : str or path
        Created when it does not exist, unless `readonly`.
    readonly : bool
        Never write, not even to create or upgrade the file. Readers do not wait for writers.
    timeout : float, optional
        Seconds to wait for another process that is writing; by default what the environment
        variable ``EMBCLI_TIMEOUT`` says, else 30.

    Raises
    ------
    StoreError
        The file cannot be opened, is not a store, or comes from a newer embcli.
    UsageError
        The environment variable is no number of seconds.

    Examples
    --------
    >>> with Store("embcli.db", readonly=True) as store:  # doctest: +SKIP
    ...     len(store.collection("default"))
    """

    def __init__(
        self, path: str | os.PathLike[str], *, readonly: bool = False, timeout: float | None = None
    ) -> None:
        self.path = Path(path)
        timeout = seconds_to_wait() if timeout is None else timeout
        self._db = Database(self.path, readonly=readonly, timeout=timeout)

    @classmethod
    def existing(cls, path: str | os.PathLike[str]) -> Self:
        """Open a store for writing that must be there already."""
        return cls(path, readonly=not os.path.exists(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read the store as it is now throughout the block, whatever is written meanwhile."""
        with self._db.snapshot():
            yield

    # Collections

    def collections(self) -> list[CollectionInfo]:
        """List the collections by name."""
        rows = self._db.all(
            """
            SELECT c.name, (SELECT count(*) FROM records WHERE collection = c.key),
                   s.model, s.dim, c.dtype,
                   (SELECT coalesce(sum(length(vectors)), 0) FROM segments
                     WHERE collection = c.key),
                   s.hash, c.created,
                   CASE WHEN c.chunking IS NULL
                        THEN (SELECT count(*) FROM records WHERE collection = c.key)
                        ELSE (SELECT count(*) FROM records JOIN chunks
                                  ON chunks.record = records.key WHERE collection = c.key)
                        END,
                   c.chunking,
                   (SELECT coalesce(sum(count), 0) FROM segments JOIN codes
                        ON codes.segment = segments.key WHERE collection = c.key)
                   + (SELECT coalesce(sum(length(keys)), 0) / 8 FROM encodings
                       WHERE collection = c.key),
                   c.coding
              FROM collections AS c JOIN spaces AS s ON s.key = c.space
             ORDER BY c.name
            """
        )
        with checks.understanding(self._db, "the list of collections"):
            return [CollectionInfo(*(*row[:-1], _coding(row[-1]))) for row in rows]

    def collection(self, name: str) -> Collection:
        """Open a collection.

        Raises
        ------
        StoreError
            There is none of that name; the message lists those there are.
        """
        found = self._find(name)
        if found is None:
            names = [row[0] for row in self._db.all("SELECT name FROM collections ORDER BY name")]
            raise StoreError(
                f"{self.path} has no collection {name!r}"
                + (f" (there are: {', '.join(names)})" if names else ", it is empty"),
                hint="embcli collections list" if names else "embcli encode FILE",
            )
        return found

    def create_collection(
        self,
        name: str,
        recipe: Recipe,
        dtype: str | None = None,
        chunking: str | None = None,
    ) -> Collection:
        """Open a collection, creating it if there is none of that name.

        What a recipe says beyond the identity of its space, such as where the model was found,
        is brought up to date.

        Parameters
        ----------
        name : str
        recipe : Recipe
        dtype : {"float32", "float16"}, optional
            How to store vectors; float32 when the collection is new.
        chunking : str, optional
            How texts are cut into chunks, as canonical JSON; without it a record has one vector.

        Raises
        ------
        UsageError
            The collection exists in another space, with another dtype or with another chunking,
            or the name or dtype is not a possible one.
        """
        if dtype is not None and dtype not in DTYPES:
            raise UsageError(f"no dtype {dtype!r} (there are: {', '.join(DTYPES)})")
        _check_name(name)
        with self._db.transaction():
            updated = self._db.execute(
                "UPDATE spaces SET model = ?, recipe = ? WHERE hash = ? AND recipe != ?",
                (recipe.model, recipe.json, recipe.hash, recipe.json),
            )
            if updated.rowcount:
                self._seal_space(recipe.hash)
            found = self._find(name)
            if found is None:
                space = add_space(self._db, recipe)
                created = self._db.execute(
                    "INSERT INTO collections (name, space, dtype, chunking, created) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (name, space, dtype or "float32", chunking, _now()),
                )
                assert created.lastrowid is not None
                checks.seal(self._db, "collections", created.lastrowid)
                checks.put(self._db, "segments of", created.lastrowid, checks.segments_sum([]))
                found = self._find(name)
                assert found is not None
            if found.recipe.hash != recipe.hash:
                raise UsageError(
                    f"collection {name!r} is in another space "
                    f"({'; '.join(found.recipe.differences(recipe))})",
                    hint=f"name a new one with --collection, or: embcli collections rm {name}",
                )
            if dtype not in (None, found.dtype):
                raise UsageError(f"collection {name!r} stores {found.dtype}, not {dtype}")
            if chunking != found.chunking:
                raise UsageError(
                    f"collection {name!r} keeps {_cutting(found.chunking)}, "
                    f"not {_cutting(chunking)}",
                    hint="use another --collection",
                )
        return found

    def rename_collection(self, old: str, new: str) -> None:
        """Rename a collection.

        Raises
        ------
        StoreError
            There is no collection `old`.
        UsageError
            There is a collection `new` already, or it is not a possible name.
        """
        _check_name(new)
        with self._db.transaction():
            self.collection(old)
            if self._find(new) is not None:
                raise UsageError(f"there is a collection {new!r} already")
            self._db.execute("UPDATE collections SET name = ? WHERE name = ?", (new, old))
            key = self._db.value("SELECT key FROM collections WHERE name = ?", (new,))
            checks.seal(self._db, "collections", key)

    def remove_collection(self, name: str) -> int:
        """Delete a collection with its records; return how many they were."""
        with self._db.transaction():
            removed = self.collection(name).clear()
            self._db.execute("DELETE FROM collections WHERE name = ?", (name,))
            drop_unused_spaces(self._db)
        return removed

    def _find(self, name: str) -> Collection | None:
        row = self._db.one(
            "SELECT c.key, s.key, s.recipe, c.dtype, c.chunking, c.coding, c.calibration "
            "FROM collections AS c JOIN spaces AS s ON s.key = c.space WHERE c.name = ?",
            (name,),
        )
        if row is None:
            return None
        key, space, recipe, dtype, chunking, coding, calibration = row
        checks.checked_row(self._db, "collections", key)
        checks.checked_row(self._db, "spaces", space)
        with checks.understanding(self._db, f"collection {name!r}"):
            return Collection(
                self._db,
                key,
                name,
                space,
                Recipe.from_json(recipe),
                dtype,
                chunking,
                _coding(coding),
                calibration,
            )

    # Models and queries

    def space_facts(self, recipe_hash: str) -> SpaceFacts | None:
        """Tell what was noted about a space; None if it is not in the store."""
        row = self._db.one("SELECT light, files FROM spaces WHERE hash = ?", (recipe_hash,))
        if row is None:
            return None
        light, files = row
        with checks.understanding(self._db, "what is known of a space"):
            return SpaceFacts(
                light=None if light is None else bool(light),
                files=None if files is None else json.loads(files),
            )

    def note_space(self, recipe_hash: str, *, light: bool | None = None, files: Any = None) -> None:
        """Note what was found out about a space: of `SpaceFacts`, what is not None.

        A space that is not in the store is passed over.
        """
        with self._db.transaction():
            self._db.execute(
                "UPDATE spaces SET light = coalesce(?, light), files = coalesce(?, files) "
                "WHERE hash = ?",
                (light, None if files is None else json.dumps(files), recipe_hash),
            )
            self._seal_space(recipe_hash)

    def _seal_space(self, recipe_hash: str) -> None:
        key = self._db.value("SELECT key FROM spaces WHERE hash = ?", (recipe_hash,))
        if key is not None:
            checks.seal(self._db, "spaces", key)

    def cached_queries(
        self, recipe_hash: str, hashes: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        """Look up vectors of queries in a space; those that are not there are left out.

        Parameters
        ----------
        recipe_hash : str
        hashes : sequence of str
            Whatever `cache_queries` was given as names.

        Returns
        -------
        vectors : dict from hash to float32 array, shape (dim,)
        """
        rows = self._db.all_in(
            "SELECT hash, vector, sum FROM queries "
            "WHERE space = (SELECT key FROM spaces WHERE hash = ?) AND hash IN ({})",
            (recipe_hash,),
            hashes,
        )
        return {
            hash: np.frombuffer(blob, _QUERY_DTYPE).astype(np.float32, copy=False)
            for hash, blob, sum in rows
            if checks.query_sum(hash, blob) == sum  # else it is encoded again
        }

    def cache_queries(self, recipe_hash: str, vectors: Mapping[str, NDArray[np.floating]]) -> None:
        """Keep vectors of queries for later, in one transaction; the oldest of many go.

        A space that is not in the store is passed over.

        Parameters
        ----------
        recipe_hash : str
        vectors : mapping from hash to float array, shape (dim,)
        """
        with self._db.transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO queries (space, hash, vector, sum) "
                "SELECT key, ?, ?, ? FROM spaces WHERE hash = ?",
                (
                    (hash, blob, checks.query_sum(hash, blob), recipe_hash)
                    for hash, vector in vectors.items()
                    for blob in [np.ascontiguousarray(vector, _QUERY_DTYPE).tobytes()]
                ),
            )
            # What is replaced gets a new key, above all others.
            self._db.execute(
                "DELETE FROM queries WHERE key <= "
                "(SELECT key FROM queries ORDER BY key DESC LIMIT 1 OFFSET ?)",
                (_QUERIES_KEPT,),
            )
            # Those of several vectors are larger.
            self._db.execute(
                "DELETE FROM queries WHERE key <= (SELECT max(key) FROM (SELECT key, "
                "sum(length(vector)) OVER (ORDER BY key DESC) AS bytes FROM queries) "
                "WHERE bytes > ?)",
                (_QUERY_BYTES_KEPT,),
            )

    # Maps

    @property
    def maps(self) -> Maps:
        """The maps between spaces."""
        return Maps(self._db)

    # The whole file

    def facts(self) -> dict[str, Any]:
        """Describe the file itself."""
        return {
            "bytes": self.path.stat().st_size,
            "version": self._db.value("PRAGMA user_version"),
            "records": self._db.value("SELECT count(*) FROM records"),
            "vectors": self._db.value("SELECT coalesce(sum(count), 0) FROM segments"),
            "sqlite": sqlite3.sqlite_version,
        }

    def sql(self, statement: str, collection: str = DEFAULT_COLLECTION) -> "Query":
        """Run a statement of the user's that only reads; see `embcli.store.sql.Query`.

        The store must be open for reading only, and is not to be used for anything else after
        that.
        """
        from embcli.store.sql import Query

        if not self._db.readonly:
            raise StoreError("SQL runs only in a store that is open for reading")
        return Query(self._db, statement, collection)

    def spaces(self) -> list[SpaceInfo]:
        """List the spaces in the order they came."""
        rows = self._db.all(
            "SELECT hash, model, dim, "
            "(SELECT count(*) FROM collections WHERE space = spaces.key), recipe "
            "FROM spaces ORDER BY key"
        )
        with checks.understanding(self._db, "the list of spaces"):
            return [
                SpaceInfo(hash, model, dim, collections, json.loads(recipe))
                for hash, model, dim, collections, recipe in rows
            ]

    def index_texts(self) -> int:
        """Bring the full-text index up to date; return how many records came into it."""
        return text_index.catch_up(self._db)

    def texts_to_index(self) -> int:
        """How many records the full-text index does not have yet."""
        return text_index.missing(self._db)

    def indexes(self) -> list[IndexInfo]:
        """List the indexes on metadata fields, by name of the field."""
        counts = filters.count_indexed(self._db)
        return [IndexInfo(field, counts[field]) for field in sorted(counts)]

    def create_index(self, field: str) -> bool:
        """Index a metadata field, so that filters on it need not read every record.

        Filters mean the same as without, only faster. The index is over all collections, and
        kept up to date from then on.

        Parameters
        ----------
        field : str
            As filters write it; see `embcli.store.where`.

        Returns
        -------
        created : bool
            False if there was one already.

        Raises
        ------
        UsageError
            It is not the name of a metadata field.
        """
        with self._db.transaction():
            return filters.create_index(self._db, field)

    def drop_index(self, field: str) -> bool:
        """Drop the index on a metadata field; return whether there was one."""
        with self._db.transaction():
            return filters.drop_index(self._db, field)

    def seen_ids(self) -> SeenIds:
        """Begin an empty set of ids that a command has come across."""
        return SeenIds(self._db)

    def vacuum(self) -> None:
        """Drop deleted vectors and give the room back to the file system."""
        for info in self.collections():
            collection = self.collection(info.name)
            collection.compact()
            collection.update_codes()
        self._db.execute("VACUUM")
        self._db.check_place()

    def inspect(self, advance: "Advance" = lambda done, total: None) -> "Damage":
        """Compare everything with its checksums; see `embcli.store.inspection.inspect`."""
        from embcli.store.inspection import inspect

        return inspect(self._db, advance)

    def names_of_collections(self) -> dict[int, str]:
        """Names of collections by the keys that `inspect` gives."""
        return dict(self._db.all("SELECT key, name FROM collections"))

    def names_of_findings(self, table: str) -> dict[int, str]:
        """Names of `clusterings` or `layouts` by the keys that `inspect` gives."""
        return dict(self._db.all(f"SELECT key, name FROM {table}"))

    def without_space(self) -> list[str]:
        """Names of the collections of whose space nothing is known any more."""
        rows = self._db.all(
            "SELECT name FROM collections WHERE space NOT IN (SELECT key FROM spaces)"
        )
        return [str(name) for (name,) in rows]

    def key_of_collection(self, name: str) -> int:
        """Key of a collection, as `inspect` gives it."""
        return int(self._db.value("SELECT key FROM collections WHERE name = ?", (name,)))

    def drop_row_of_collection(self, key: int) -> None:
        """Delete what is known of a collection, but not its records."""
        self._db.execute("DELETE FROM collections WHERE key = ?", (key,))

    def keys_in(self, collection: int) -> list[int]:
        """Keys of the records of a collection that is not there any more, by its own key."""
        rows = self._db.all("SELECT key FROM records WHERE +collection = ?", (collection,))
        return [key for (key,) in rows]

    def is_whole(self, name: str) -> bool:
        """Whether what is kept of a collection itself and of its space is what was written."""
        try:
            return self._find(name) is not None
        except checks.DamageError:
            return False

    def ids_of(self, keys: Iterable[int]) -> list[str]:
        """Ids of records by the keys that `inspect` gives, as far as they can be read."""
        return [
            str(id)
            for (id,) in self._db.all_in("SELECT id FROM records WHERE key IN ({})", (), keys)
        ]

    @property
    def database(self) -> Database:
        """The file, for what repairs it."""
        return self._db

    def backup(
        self, path: Path, advance: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        """Copy the store to a new file while others may write; see `Database.backup`."""
        self._db.backup(path, advance)

    # Runs

    @contextmanager
    def run(
        self, command: str, collection: str | None, arguments: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Record a command that writes; the block fills in the counts it is given."""
        versions = {"embcli": embcli.__version__}
        key = self._db.execute(
            "INSERT INTO runs (command, collection, arguments, started, status, versions) "
            "VALUES (?, ?, ?, ?, 'running', ?)",
            (command, collection, json.dumps(arguments), _now(), json.dumps(versions)),
        ).lastrowid
        counts: dict[str, Any] = {}
        status = "failed"
        try:
            yield counts
            self._db.check_place()
            status = "done"
        except (KeyboardInterrupt, SystemExit):
            status = "interrupted"
            raise
        finally:
            self._db.execute(
                "UPDATE runs SET finished = ?, status = ?, counts = ? WHERE key = ?",
                (_now(), status, json.dumps(counts), key),
            )

    def runs(self, limit: int = 10) -> list[Run]:
        """List the latest runs, newest first."""
        rows = self._db.all(
            "SELECT key, command, collection, arguments, started, finished, status, counts, "
            "versions FROM runs ORDER BY key DESC LIMIT ?",
            (limit,),
        )
        with checks.understanding(self._db, "the list of runs"):
            return [
                Run(
                    key, command, collection, json.loads(arguments), started, finished, status,
                    json.loads(counts or "{}"), json.loads(versions),
                )
                for key, command, collection, arguments, started, finished, status, *texts in rows
                for counts, versions in [texts]
            ]  # fmt: skip


def _check_name(name: str) -> None:
    if not name.strip() or not name.isprintable():
        raise UsageError(f"{name!r} is not a possible name for a collection")


def _coding(stored: str | None) -> Coding | None:
    return None if stored is None else Coding.from_json(stored)


def _cutting(chunking: str | None) -> str:
    return "one vector a record" if chunking is None else f"vectors of chunks ({chunking})"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
