"""From parts to a collection."""

import os
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embcli.config import DEFAULT_COLLECTION, DEFAULT_DB
from embcli.errors import EmbcliError, InputError, StoreError, UsageError, counted
from embcli.formats import Problem
from embcli.pipelines.compress import keep_coded
from embcli.pipelines.encode import Listeners
from embcli.pipelines.import_ import ImportReport
from embcli.pipelines.shards.files import read_facts, read_ids, read_part, sum_of
from embcli.pipelines.shards.folder import Folder, open_folder, read_json
from embcli.pipelines.shards.part import PartReport, part_name, read_report, sum_up
from embcli.pipelines.shards.plan import MANIFEST, Plan, read_plan
from embcli.store import Collection, Store
from embcli.store.chunks import TOKENS
from embcli.store.collection import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NOTED = ("light", "files")
_PARTS_NAMED = 10


@dataclass
class GatherReport(ImportReport):
    """What a gathering did; `records` are those of the parts that were read.

    Attributes
    ----------
    parts : int
        All that were planned.
    gathered : int
        How many went in now.
    existing : int
        How many had gone in before, and were not read.
    refused : int
        How many are damaged or of something else.
    missing : list of int
        Those that are not there.
    """

    parts: int = 0
    gathered: int = 0
    existing: int = 0
    refused: int = 0
    missing: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        before = f", {self.existing:,} before" if self.existing else ""
        parts = f"{self.gathered:,} of {counted(self.parts, 'part')}{before}"
        return f"{parts}: {super().__str__()}"

    def missing_parts(self) -> str:
        """Say which parts are missing."""
        verb = "is" if len(self.missing) == 1 else "are"
        named = ", ".join(map(str, self.missing[:_PARTS_NAMED]))
        more = len(self.missing) - _PARTS_NAMED
        rest = f" and {more:,} more" if more > 0 else ""
        return (
            f"{len(self.missing):,} of {counted(self.parts, 'part')} {verb} missing: {named}{rest}"
        )


def gather_parts(
    folder: str | os.PathLike[str],
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    collection: str = DEFAULT_COLLECTION,
    storage: str | None = None,
    listeners: Listeners | None = None,
) -> GatherReport:
    """Put the parts of a folder that are there into a collection of a store.

    The collection is then what one `encode` of the same inputs would have made of it. A part that
    went in before is known by its checksum and not read again. Of records of the same id, the one
    that comes first in the inputs stays.

    Parameters
    ----------
    folder : path or URL
    db : path
        Created if it does not exist.
    collection : str
        Created if it does not exist.
    storage : {"float32", "float16"}, optional
        How a new collection stores vectors.
    listeners : Listeners, optional
        Told as a problem of every part that is refused, and of what was skipped when parts were
        made.

    Returns
    -------
    report : GatherReport

    Raises
    ------
    InputError
        There is no manifest, or it cannot be used.
    StoreError
    UsageError
        The collection is in another space, or cut otherwise.
    """
    started = time.perf_counter()
    listeners = listeners or Listeners()
    plan, place = read_plan(folder), open_folder(folder)
    report = GatherReport(parts=len(plan.parts), dim=plan.recipe.dim)
    cut = TOKENS if plan.recipe.multivector else plan.chunking
    with Store(db) as store:

        def make() -> Collection:
            return store.create_collection(collection, plan.recipe, storage, cut)

        # One that is not there is made when there is something good to put into it.
        known = True
        try:
            store.collection(collection)
        except StoreError:
            known = False
        arguments = {"parts": place.name, "plan": plan.hash}
        with store.run("import", collection, arguments) as counts:
            gathering = _Gathering(plan, place, make, report, listeners)
            if known:
                gathering.open()
            for number, part in gathering.waiting():
                gathering.take(number, part, store.index_texts)
                notes = {key: part.notes[key] for key in _NOTED if key in part.notes}
                if notes:
                    store.note_space(plan.recipe.hash, **notes)
                listeners.progress(number + 1, len(plan.parts), report.records)
            if gathering.target is not None:
                keep_coded(gathering.target)
                report.total = len(gathering.target)
            report.seconds = round(time.perf_counter() - started, 3)
            counts.update(asdict(report))
    return report


class _Gathering:
    """Puts one part after the other into a collection."""

    def __init__(
        self,
        plan: Plan,
        folder: Folder,
        make: Callable[[], Collection],
        report: GatherReport,
        listeners: Listeners,
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._make = make
        self.target: Collection | None = None
        self._report = report
        self._listeners = listeners
        self._places = _Places(plan)
        # What all parts were when the last of them was made; None before.
        sums = (read_json(folder, MANIFEST) or {}).get("sums")
        whole = isinstance(sums, list) and len(sums) == len(plan.parts)
        self._sums: list[str] | None = sums if whole else None
        self._in: set[int] = set()
        # Records of an encode before may be of any part, in any order.
        self._ids_of = cache(self._read_ids)

    def open(self) -> Collection:
        """Open the collection, which is made if it is not there."""
        if self.target is None:
            self.target = self._make()
        return self.target

    def waiting(self) -> list[tuple[int, PartReport]]:
        """Look which parts are there and have not gone in."""
        waiting: list[tuple[int, PartReport]] = []
        before = set() if self.target is None else self.target.gathered.sums()
        for number in range(len(self._plan.parts)):
            try:
                known = read_report(self._plan, number, self._folder)
            except UsageError as error:
                self._refuse(number, error)
                continue
            if known is None or self._folder.size(part_name(number)) is None:
                self._report.missing.append(number)
            elif self._sums and known.sum != self._sums[number]:
                self._refuse(
                    number,
                    InputError(
                        "its checksum is not the one in manifest.json",
                        hint="the embcli encode that made the parts, once more",
                    ),
                )
            elif known.sum in before:
                self._report.existing += 1
                self._in.add(number)
                self._tell(known)
            else:
                waiting.append((number, known))
        return waiting

    def take(self, number: int, known: PartReport, committed: Callable[[], object]) -> None:
        """Put a part into the collection, unless it is refused."""
        try:
            with self._folder.local(part_name(number)) as path:
                self._verify(number, known, path)
                self.open()
                for batch in read_part(path):
                    self._put(number, batch)
                    committed()
        except InputError as error:
            self._refuse(number, error)
            return
        self.open().gathered.add(known.sum)
        self._in.add(number)
        self._report.gathered += 1
        self._tell(known)

    def _tell(self, known: PartReport) -> None:
        """Say what was skipped when the part was made, as one encode of everything would."""
        self._report.skipped += known.skipped
        for problem in known.problems:
            self._listeners.problem(problem)
        named = sum(problem.kind == "malformed" for problem in known.problems)
        self._listeners.more(known.skipped - len(known.problems), known.malformed - named)

    def _refuse(self, number: int, error: EmbcliError) -> None:
        self._report.refused += 1
        name = f"{self._folder.name}/{part_name(number)}"
        hint = f"; try: {error.hint}" if error.hint else ""
        message = error.message.removeprefix(name).lstrip(": ") + hint
        self._listeners.problem(Problem(name, 0, message))

    def _verify(self, number: int, known: PartReport, path: Path) -> None:
        """Compare a part with what is known of it, before anything of it is stored.

        Raises
        ------
        InputError
        """
        size, found = sum_up(path)
        if (size, found) != (known.bytes, known.sum):
            raise InputError(
                "this is not what was written (its checksum differs): delete it and encode again"
            )
        facts = read_facts(path)
        if (facts["plan"], facts["part"]) != (self._plan.hash, number):
            raise InputError("this is a part of something else")

    def _put(self, number: int, batch: Batch) -> None:
        if batch.vectors.shape[1] != self._plan.recipe.dim:
            raise InputError(f"vectors of {batch.vectors.shape[1]} components in it")
        batch = self._without_repeats(number, batch)
        written = self.open().put(batch)
        self._report.records += len(batch.ids)
        self._report.added += written.added
        self._report.replaced += written.changed + written.refreshed
        self._report.unchanged += written.unchanged

    def _without_repeats(self, number: int, batch: Batch) -> Batch:
        """Leave out records whose id is in a part that comes before; these stay."""
        stored = self.open().sources(batch.ids)
        rows = []
        for row, id in enumerate(batch.ids):
            source = stored.get(id)
            other = None if source is None else self._places.part_of(source)
            if source is None or other is None or other == number or other not in self._in:
                rows.append(row)
                continue
            # A record of an earlier encode may have the same place; it is replaced.
            if not self._is_in(other, id):
                rows.append(row)
                continue
            earlier = other < number
            if not earlier:
                rows.append(row)
            kept, left = (source, batch.sources[row]) if earlier else (batch.sources[row], source)
            self._repeated(id, kept, left)
        return batch.take(rows)

    def _repeated(self, id: str, kept: str, left: str) -> None:
        self._report.repeated += 1
        name, _, line = left.rpartition(":")
        message = f"id {id!r} was already read at {kept}"
        self._listeners.problem(Problem(name, int(line), message))

    def _is_in(self, number: int, id: str) -> bool:
        """Whether a part has a record of this id."""
        ids, wanted = self._ids_of(number), np.uint64(sum_of(id))
        at = np.searchsorted(ids, wanted)
        return bool(at < len(ids) and ids[at] == wanted)

    def _read_ids(self, number: int) -> "NDArray[np.uint64]":
        with self._folder.local(part_name(number)) as path:
            return read_ids(path)


class _Places:
    """Finds the part that a record is in by its source, ``file:line``."""

    def __init__(self, plan: Plan) -> None:
        self._firsts: dict[str, tuple[list[int], list[int]]] = {}
        for number, pieces in enumerate(plan.parts):
            for piece in pieces:
                name = plan.inputs[piece.input].name
                firsts, parts = self._firsts.setdefault(name, ([], []))
                firsts.append(piece.slice.first if piece.slice else 0)
                parts.append(number)

    def part_of(self, source: str) -> int | None:
        """Tell the part; None if the file is not among the inputs."""
        name, _, line = source.rpartition(":")
        firsts, parts = self._firsts.get(name, ([], []))
        if not firsts or not line.isdecimal():
            return None
        return parts[max(bisect_right(firsts, int(line)) - 1, 0)]
