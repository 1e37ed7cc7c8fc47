"""Processes that share parts; each holds an encoder."""

import os
import signal
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from embcli.encoders import EncoderOptions, is_quick
from embcli.errors import EmbcliError, InputError, counted
from embcli.pipelines.encode import Listeners
from embcli.pipelines.shards.part import PartReport, encode_part, open_chunker, open_encoder
from embcli.pipelines.shards.plan import Plan, check_is_shared

_THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS",
)  # fmt: skip
_MOST_ATTEMPTS = 3
_SECONDS_TO_END = 5.0


@dataclass
class _Worker:
    process: BaseProcess
    number: int
    part: int | None = None


@dataclass
class Crew:
    """Processes that each hold an encoder and take one part after the other."""

    plan: Plan
    options: EncoderOptions | None
    size: int
    strict: bool
    listeners: Listeners
    _workers: dict[Connection, _Worker] = field(default_factory=dict)
    _waiting: deque[int] = field(default_factory=deque)
    _deaths: Counter[int | None] = field(default_factory=Counter)
    _reasons: dict[int | None, str] = field(default_factory=dict)

    def encode(self, numbers: Sequence[int]) -> Iterator[PartReport]:
        """Encode parts, in whatever order they are ready.

        Raises
        ------
        InputError
            A part killed every worker that took it, or none came so far as to take one.
        """
        self._waiting.extend(numbers)
        for number in range(min(self.size, len(numbers))):
            self._hire(number)
        while self._workers:
            for connection in wait([*self._workers]):
                assert isinstance(connection, Connection)
                try:
                    message = connection.recv()
                except (EOFError, OSError):
                    message = None
                if isinstance(message, EmbcliError):
                    raise message
                if isinstance(message, PartReport):
                    yield message
                if message is None or isinstance(message, str):
                    self._replace(connection, message)
                else:
                    self._give(connection)
        if self._waiting:
            raise InputError(f"no worker could begin ({self._reasons[None]})", hint="--workers 1")
        if lost := {part: why for part, why in self._reasons.items() if self._is_given_up(part)}:
            which = ", ".join(f"{part} ({why})" for part, why in sorted(lost.items(), key=str))
            raise InputError(
                f"{counted(len(lost), 'part')} of {len(numbers):,} could not be encoded: {which}",
                hint="fewer --workers, or smaller --batch-tokens",
            )

    def _is_given_up(self, part: int | None) -> bool:
        return part is not None and self._deaths[part] >= _MOST_ATTEMPTS

    def _give(self, connection: Connection) -> None:
        """Give a worker the next part, or send it home."""
        if not self._waiting:
            self._dismiss(connection)
            return
        self._workers[connection].part = self._waiting.popleft()
        with suppress(OSError):  # it is dead, and is buried in the next round
            connection.send(self._workers[connection].part)

    def _replace(self, connection: Connection, reason: str | None) -> None:
        """Let another worker do what one died of, but not for ever."""
        worker = self._workers[connection]
        ended = self._bury(connection)
        part, reason = worker.part, reason or ended
        self._deaths[part] += 1
        self._reasons[part] = reason
        at = "before it began" if part is None else f"at part {part}"
        self.listeners.note(f"worker {worker.number + 1} died {at} ({reason})")
        if part is not None and not self._is_given_up(part):
            self._waiting.append(part)
        if self._waiting and self._deaths[None] < _MOST_ATTEMPTS:
            self._hire(worker.number)

    def _hire(self, number: int) -> None:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self.plan, self.options, number, self.strict)
        process = context.Process(target=_work, args=arguments, daemon=True)
        with _shared_threads(self.size):
            process.start()
        theirs.close()  # so that ours is at its end when the process is
        self._workers[ours] = _Worker(process, number)

    def _bury(self, connection: Connection) -> str:
        """Say how a worker ended that did not mean to."""
        process = self._workers.pop(connection).process
        connection.close()
        process.join()
        code = process.exitcode or 0
        return f"killed by signal {-code}" if code < 0 else f"ended with {code}"

    def _dismiss(self, connection: Connection) -> None:
        process = self._workers.pop(connection).process
        with suppress(OSError):
            connection.send(None)
        connection.close()
        process.join()

    def close(self) -> None:
        """End all processes, whatever they are at."""
        for worker in self._workers.values():
            worker.process.terminate()
        for connection, worker in self._workers.items():
            connection.close()
            worker.process.join(_SECONDS_TO_END)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()


@contextmanager
def _shared_threads(workers: int) -> Iterator[None]:
    """Let processes that are started in the block have their share of the processors."""
    ours = [name for name in _THREADS if name not in os.environ]
    share = (
        max(1, len(os.sched_getaffinity(0)) // workers)
        if hasattr(os, "sched_getaffinity")
        else max(1, (os.cpu_count() or 1) // workers)
    )
    os.environ.update(dict.fromkeys(ours, str(share)))
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def _work(
    connection: Connection,
    plan: Plan,
    options: EncoderOptions | None,
    number: int,
    strict: bool,
) -> None:
    """Take parts out of a pipe until there is no more, or nobody at the other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever hired this process ends it
    signal.signal(signal.SIGTERM, _leave)
    with suppress(EOFError, OSError):
        try:
            check_is_shared(plan)
            device = _device(plan, options, number)
            with closing(open_encoder(plan, options, device=device)) as encoder:
                chunker = open_chunker(plan, encoder)
                connection.send(True)
                while (part := connection.recv()) is not None:
                    report = encode_part(plan, part, encoder, chunker=chunker, strict=strict)
                    connection.send(report)
        except EmbcliError as error:
            connection.send(error)
        except Exception as error:  # noqa: BLE001 (a worker has nobody else to tell)
            reason = str(error).splitlines()[0][:200] if str(error) else "no more is known"
            connection.send(f"{type(error).__name__}: {reason}")


def _leave(number: int, _: object) -> None:
    """End as from an exception, so that nothing half-written stays."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def _device(plan: Plan, options: EncoderOptions | None, number: int) -> str | None:
    """Choose the device of a worker: they take turns."""
    wanted = None if options is None else options.device
    if wanted is not None and "," in wanted:
        names = wanted.split(",")
        return names[number % len(names)].strip()
    if wanted not in (None, "auto", "cuda") or is_quick(plan.recipe):
        return wanted
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{number % count}" if count else wanted
