"""Parts on one machine: in this process, or shared among several."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from embcli.encoders import Encoder, EncoderOptions
from embcli.errors import StoreError, counted
from embcli.pipelines.encode import EncodeReport, Listeners
from embcli.pipelines.shards.crew import Crew
from embcli.pipelines.shards.manifest import complete_manifest
from embcli.pipelines.shards.part import PartReport, encode_part, find_part, open_chunker
from embcli.pipelines.shards.plan import Plan


@dataclass
class PartsReport(EncodeReport):
    """What an encode into parts did, in numbers of records.

    Records of parts that were there count as `reused`; `total` is all in the parts that were asked
    for.

    Attributes
    ----------
    parts : int
        Those that were asked for.
    existing : int
        How many of them were there.
    missing : int
        How many others of the folder are not there yet.
    """

    parts: int = 0
    existing: int = 0
    missing: int = 0

    def add(self, plan: Plan, part: PartReport) -> None:
        """Count a part that is there."""
        self.parts += 1
        self.records += part.rows
        self.total += part.rows
        self.skipped += part.skipped
        self.malformed += part.malformed
        if part.existed:
            self.existing += 1
            self.reused += part.rows
            return
        self.encoded += part.encoded
        self.reused += part.rows - part.encoded
        self.truncated += part.truncated
        if plan.recipe.multivector:
            self.tokens += part.vectors
        elif plan.chunking is not None:
            self.chunks += part.vectors

    def __str__(self) -> str:
        existing = f" ({self.existing:,} there before)" if self.existing else ""
        return f"{counted(self.parts, 'part')}{existing}: {super().__str__()}"


class Tally:
    """Adds up what is told of parts, and tells it on.

    Parameters
    ----------
    plan : Plan
    numbers : sequence of int
        The parts that are asked for.
    listeners : Listeners

    Attributes
    ----------
    report : PartsReport
    """

    def __init__(self, plan: Plan, numbers: Sequence[int], listeners: Listeners) -> None:
        self._plan = plan
        self._numbers = numbers
        self._listeners = listeners
        self._started = time.perf_counter()
        self._total = sum(map(self._planned, numbers))
        self._done = 0
        self.report = PartsReport()

    def _planned(self, number: int) -> int:
        """About how many records a part has."""
        most = self._plan.part_records
        return sum(p.slice.count if p.slice else most for p in self._plan.parts[number])

    def pass_over(self, strict: bool) -> list[int]:
        """Take note of the parts that are there, and list the others.

        Those count as missing, too, that `strict` would not have let pass.
        """
        left = []
        for number in self._numbers:
            report = find_part(self._plan, number)
            if report is None or (strict and report.skipped):
                left.append(number)
            else:
                self.add(replace(report, existed=True))
        return left

    def under_way(self, records: int) -> None:
        """Tell how far the part is that is being encoded."""
        self._listeners.progress(self._done + records, self._total, self.report.records + records)

    def add(self, part: PartReport) -> None:
        """Take note of a part that is there."""
        self.report.add(self._plan, part)
        for problem in part.problems:
            self._listeners.problem(problem)
        named = sum(problem.kind == "malformed" for problem in part.problems)
        self._listeners.more(part.skipped - len(part.problems), part.malformed - named)
        self._done += self._planned(part.number)
        self.under_way(0)

    def close(self) -> PartsReport:
        """Complete the manifest if no part is missing, and give the report.

        Raises
        ------
        StoreError
            What is said to be done is not there for this process.
        """
        missing = complete_manifest(self._plan)
        if gone := sorted({*self._numbers} & {*missing}):
            named = ", ".join(map(str, gone[:10])) + (", ..." if len(gone) > 10 else "")
            raise StoreError(
                f"{self._plan.name}: {counted(len(gone), 'part')} said to be done "
                f"{'is' if len(gone) == 1 else 'are'} not there: {named}",
                hint="--to a directory that all processes share",
            )
        self.report.missing = len(missing)
        self.report.seconds = round(time.perf_counter() - self._started, 3)
        return self.report


def shard_of(plan: Plan, shard: tuple[int, int] | None = None) -> list[int]:
    """List the parts of a shard: the first of each `count`, the second, and so on.

    Parameters
    ----------
    plan : Plan
    shard : (number, count), optional
        The number is from 1. All parts if None.
    """
    number, count = shard or (1, 1)
    return list(range(number - 1, len(plan.parts), count))


def encode_parts(
    plan: Plan,
    encoder: Encoder,
    options: EncoderOptions | None = None,
    *,
    numbers: Sequence[int] | None = None,
    workers: int = 1,
    strict: bool = False,
    listeners: Listeners | None = None,
) -> PartsReport:
    """Encode parts that are not there.

    Parameters
    ----------
    plan : Plan
    encoder : Encoder
        Used where there is one worker, and closed.
    options : EncoderOptions, optional
        How to load the model in other processes: as the plan was made with.
    numbers : sequence of int, optional
        Which parts; all if None.
    workers : int
        How many processes. With 1 it is this one.
    strict : bool
        Stop at the first record that cannot be encoded.
    listeners : Listeners, optional

    Returns
    -------
    report : PartsReport

    Raises
    ------
    InputError
        See `encode_part`; or a part killed whoever worked on it, three times.
    StoreError
        What other processes write does not come to where this one looks for it.
    ModelError, UsageError
    """
    numbers = shard_of(plan) if numbers is None else numbers
    listeners = listeners or Listeners()
    tally = Tally(plan, numbers, listeners)
    with closing(encoder):
        if workers == 1:
            chunker = open_chunker(plan, encoder)
            own = replace(listeners, progress=lambda done, total, records: tally.under_way(records))
            for number in numbers:
                tally.add(
                    encode_part(
                        plan, number, encoder, chunker=chunker, strict=strict, listeners=own
                    )
                )
            return tally.close()
    left = tally.pass_over(strict)
    with closing(Crew(plan, options, workers, strict, listeners)) as crew:
        for report in crew.encode(left):
            tally.add(report)
    return tally.close()
