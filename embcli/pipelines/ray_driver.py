"""What speaks to Ray, in a process of its own: see `ray_engine`.

Only lines of JSON leave this process through its standard output: whatever Ray and its libraries
write, in Python or not, goes to standard error, which `ray_engine` keeps in a file.
"""

import json
import os
import pickle
import secrets
import sys
import threading
import time
from _thread import interrupt_main
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from embcli.errors import EmbcliError, ModelError, StoreError, counted
from embcli.pipelines.ray_workers import (
    EncodeParts,
    Job,
    Message,
    Pool,
    describe,
    first_line,
    load_ray,
    place,
    shown,
)

CLIENT = "ray://"
# Rounds in which a part may be lost with its worker.
_TRIES = 3
_SECONDS_TO_LEAVE = 10.0
_SECONDS_OF_SILENCE = 600.0
# Vectors never go through Ray.
_OBJECT_STORE_BYTES = 100 << 20


@dataclass
class Rounds:
    """Encodes parts with Ray Data, and those again that were lost with their workers.

    Ray does not try parts again by itself: without an end it would try those that kill their
    worker, and a few times are not enough where a node is gone, since it counts every call that
    finds nobody there.
    """

    job: Job
    pool: Pool
    send: Callable[[Message], None]
    _tries: Counter[int] = field(default_factory=Counter)
    last: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """Encode all parts, or raise what stops that."""
        left = list(self.job.numbers)
        while left:
            done: set[int] = set()
            reason = None
            try:
                for row in self._round(left):
                    self.last = time.monotonic()
                    done.add(row["number"])
                    self.send({"part": row})
                    if row["error"] is not None:
                        return
            except Exception as error:  # noqa: BLE001 (whatever Ray raises)
                reason = _reason(error)
            left = [number for number in left if number not in done]
            if left:
                self._lose(left, reason)

    def _round(self, numbers: list[int]) -> Iterator[Message]:
        data = import_module("ray.data")
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # Parts that were lost are left out, and the others are done.
        context.max_errored_blocks = -1
        # A pool that is smaller than it should be works, too.
        context.wait_for_min_actors_s = -1
        # Blocks that this process puts there need no tasks of Ray's, and so no CPU.
        parts = data.from_items(
            [{"number": number} for number in numbers], override_num_blocks=len(numbers)
        )
        job, pool = self.job, self.pool
        size = min(pool.workers, len(numbers))
        reports = parts.map_batches(
            EncodeParts,
            fn_constructor_args=(job.plan, job.options, job.strict, pool.gpus),
            batch_format="pyarrow",
            batch_size=1,
            # A second part in flight would be lost with the first.
            compute=data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus or None,
            max_restarts=-1,
            max_task_retries=0,
        )
        yield from reports.iter_rows()

    def _lose(self, left: list[int], reason: str | None) -> None:
        self._tries.update(left)
        hopeless = [number for number in left if self._tries[number] >= _TRIES]
        names = ", ".join(map(str, left[:10])) + (", ..." if len(left) > 10 else "")
        why = f" ({reason})" if reason else ""
        if hopeless:
            raise StoreError(
                f"{counted(len(left), 'part')} could not be encoded in {_TRIES} rounds, since "
                f"workers ended or nodes went: {names}{why}",
                hint="fewer --workers if memory is short; the same command does the rest",
            )
        self.send(
            {"note": f"{counted(len(left), 'part')} went with a worker or a node and will be "
                     f"done again: {names}{why}"}
        )  # fmt: skip


def _reason(error: Exception) -> str:
    """Say on one line what Ray raised; know those that no further round mends.

    Raises
    ------
    ModelError
    """
    if "No module named 'embcli" in str(error):
        raise ModelError(
            "a node of the cluster has no embcli, or an older one",
            hint="the same pip install 'embcli[ray]' on every node",
        ) from None
    if "Can't get attribute" in str(error) and "embcli" in str(error):
        raise ModelError(
            f"a node of the cluster has another embcli ({first_line(error)})",
            hint="the same pip install 'embcli[ray]' on every node",
        ) from None
    return f"{type(error).__name__}: {first_line(error)}"


def _lead(job: Job, send: Callable[[Message], None]) -> None:
    """Do the job on the cluster that this process is connected to."""
    ray = load_ray()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    sizes = [(each.get("CPU", 0.0), each.get("GPU", 0.0)) for each in nodes]
    has_gpus = any(devices for _, devices in sizes)
    gpus = (1.0 if has_gpus else 0.0) if job.gpus is None else job.gpus
    pool = place(sizes, job.workers, gpus)
    free = ray.available_resources()
    waits = free.get("CPU", 0.0) < pool.cpus or free.get("GPU", 0.0) < pool.gpus
    if waits:
        send({"note": "others use all of the cluster: workers start when there is room"})
    rounds = Rounds(job, pool, send)
    threading.Thread(target=_watch, args=(rounds, send), daemon=True).start()
    rounds.run()
    send({"done": True})


def _watch(rounds: Rounds, send: Callable[[Message], None]) -> None:
    """Say when nothing has come for long."""
    told = rounds.last
    while True:
        time.sleep(1)
        if time.monotonic() - max(told, rounds.last) > _SECONDS_OF_SILENCE:
            told = time.monotonic()
            minutes = int((told - rounds.last) // 60)
            send({"note": f"no part was finished in {minutes} minutes; try: ray status"})


class _Leader:
    """Leads the job from within the cluster: Ray Data does not work through Ray Client."""

    def __init__(self, job: Job) -> None:
        self._messages: deque[Message] = deque()
        self._thread = threading.Thread(target=self._run, args=(job,), daemon=True)
        self._thread.start()

    def _run(self, job: Job) -> None:
        try:
            _lead(job, self._messages.append)
        except Exception as error:  # noqa: BLE001 (is sent on)
            self._messages.append({"error": describe(error)})

    def take(self, wait: float) -> list[Message]:
        """Give what there is to tell; an empty list after some seconds without anything."""
        end = time.monotonic() + wait
        while not self._messages and time.monotonic() < end:
            time.sleep(0.05)
        return [self._messages.popleft() for _ in range(len(self._messages))]


def _lead_from_within(job: Job, send: Callable[[Message], None]) -> None:
    ray = load_ray()
    try:
        leader = ray.remote(num_cpus=0)(_Leader).remote(job)
        while True:
            for message in ray.get(leader.take.remote(2.0)):
                send(message)
                if "done" in message or "error" in message:
                    return
    except ray.exceptions.RayError as error:
        reason = _reason(error)
    raise StoreError(
        f"what led the work on the cluster has gone ({reason})",
        hint="the same command does the rest",
    )


def _connect(job: Job) -> None:
    """Join a cluster, or start one on this machine.

    Raises
    ------
    StoreError
        There is none.
    ModelError
        It has another Ray or Python.
    """
    ray = load_ray()
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if job.address is None:
            ray.init(
                address="local",
                # One more than there are, so that workers get all there are.
                num_cpus=usable_cpus() + 1,
                object_store_memory=_OBJECT_STORE_BYTES,
                include_dashboard=False,
                **common,
            )
        else:
            ray.init(address=job.address, **common)
    except ConnectionError as error:
        if job.address == "auto":
            raise StoreError(
                "no Ray cluster runs on this machine",
                hint="ray start --head, or no --address for a run on this machine alone",
            ) from None
        words = shown(" ".join(str(error).split()))[:300]
        raise StoreError(
            f"no Ray cluster at {shown(job.address or '')} ({words})",
            hint="ray status, on its head node",
        ) from None
    except RuntimeError as error:
        if "ersion mismatch" in str(error):
            words = " ".join(str(error).split())
            raise ModelError(words, hint="the cluster's versions of Ray and Python") from None
        raise StoreError(f"Ray does not start: {first_line(error)}") from None
    except ray.exceptions.RayError as error:  # of a token, for one
        raise StoreError(
            f"no Ray cluster at {shown(job.address or '')}: {shown(first_line(error))}"
        ) from None


def usable_cpus() -> int:
    """Count the CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def _settle_environment(address: str | None) -> None:
    """Set what Ray reads when it is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    if address is None:
        # Ray listens beyond this machine, and obeys whoever knows the token. Without one here it
        # would put one into the user's home, and clusters started later would ask for that.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    elif address.startswith(CLIENT):
        # Drivers find out by themselves what the cluster of their machine asks for.
        named = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
        if named or (Path.home() / ".ray" / "auth_token").exists():
            os.environ.setdefault("RAY_AUTH_MODE", "token")


def _leave_with(parent: Any) -> None:
    """End in good order when the other end of standard input is closed, by hook or by crook."""
    parent.read()
    interrupt_main()
    time.sleep(_SECONDS_TO_LEAVE)
    os._exit(1)


def main() -> None:
    """Run the job that standard input holds."""
    wire = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def send(message: Message) -> None:
        with lock:
            wire.write(json.dumps(message) + "\n")
            wire.flush()

    code = 0
    try:
        job: Job = pickle.load(sys.stdin.buffer)  # noqa: S301 (from the process that started this)
        threading.Thread(target=_leave_with, args=(sys.stdin.buffer,), daemon=True).start()
        _settle_environment(job.address)
        ray = load_ray()
        try:
            send({"ready": True})
            _connect(job)
            send({"connected": True})
            through_client = (job.address or "").startswith(CLIENT)
            (_lead_from_within if through_client else _lead)(job, send)
        finally:
            ray.shutdown()
    except EmbcliError as error:
        send({"error": describe(error)})
    except (KeyboardInterrupt, BrokenPipeError):
        code = 1
    sys.stderr.flush()
    # Nothing that Ray's threads still do is waited for.
    os._exit(code)
