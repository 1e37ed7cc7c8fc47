"""Parts of an encode, shared out over a Ray cluster by Ray Data.

Ray spreads numbers of parts over workers, each of which holds an encoder; a worker writes its part
to the folder itself, and a row comes back that says so. Vectors never go through Ray.

Ray is spoken to by a process of its own (`ray_driver`): Ray writes to both standard streams, from
C++ as well; it waits for minutes for clusters that do not answer, deaf to signals; and it ends the
process when it loses one.
"""

import json
import pickle
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import IO, Any
from urllib.parse import urlsplit

from embcli import errors
from embcli.config import debug
from embcli.encoders import EncoderOptions, is_quick
from embcli.errors import EmbcliError, ModelError, StoreError, UsageError, counted
from embcli.pipelines.encode import Listeners
from embcli.pipelines.ray_driver import CLIENT, usable_cpus
from embcli.pipelines.ray_workers import Job, Message, shown
from embcli.pipelines.shards import PartReport, Plan, find_part
from embcli.pipelines.shards.local import PartsReport, Tally, shard_of

_START = "from embcli.pipelines.ray_driver import main; main()"
_SECONDS_TO_IMPORT = 120.0
_SECONDS_TO_CONNECT = 15.0
# Ray Client has a process started for each of its users; it gives up by itself after 30 s.
_SECONDS_FOR_CLIENT = 45.0
_SECONDS_TO_START = 90.0
_SECONDS_TO_LEAVE = 15.0
# What another node wrote is there at once, but NFS keeps what it knows of a directory for a minute.
_SECONDS_TO_APPEAR = 90.0
_PORTS = {"gcs": 6379, "client": 10001}


@dataclass(frozen=True)
class RayOptions:
    """Where parts are encoded, and by how many.

    Attributes
    ----------
    address : str, optional
        "auto" for the cluster of this machine, ``host:6379`` or ``ray://host:10001``; a cluster
        of this machine alone is started and stopped if None.
    workers : int, optional
        As many as there is room for if None.
    gpus : float, optional
        GPUs for each worker: 1 if the cluster has any, if None.
    """

    address: str | None = None
    workers: int | None = None
    gpus: float | None = None


def encode_parts_with_ray(
    plan: Plan,
    options: EncoderOptions,
    cluster: RayOptions,
    *,
    strict: bool = False,
    listeners: Listeners | None = None,
) -> PartsReport:
    """Encode the parts that are not there on a Ray cluster.

    Parameters
    ----------
    plan : Plan
        Its folder, its inputs and its model are to be found on every node under the same names.
    options : EncoderOptions
        How to load and run the model, as it was planned with.
    cluster : RayOptions
    strict : bool
        Stop at the first record that cannot be encoded.
    listeners : Listeners, optional

    Returns
    -------
    report : PartsReport

    Raises
    ------
    ModelError
        Ray is not installed, or a node has not the model or the embcli of the plan.
    StoreError
        The cluster cannot be reached, or was lost; parts that are done stay.
    UsageError
        There is no room for so many workers.
    InputError
        What `encode_part` raises.
    """
    check_ray(cluster)
    cluster = replace(cluster, gpus=_gpus(plan, options, cluster.gpus))
    listeners = listeners or Listeners()
    tally = Tally(plan, shard_of(plan), listeners)
    left = tally.pass_over(strict)
    for report in _encode(plan, left, options, cluster, strict, listeners):
        tally.add(report)
    return tally.close()


def _gpus(plan: Plan, options: EncoderOptions, wanted: float | None) -> float | None:
    """Tell how many GPUs each worker needs; None if as many as there are, up to 1."""
    device = options.device or "auto"
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"--device {device}: Ray says which devices a worker takes",
            hint="--device cuda --gpus-per-worker 1",
        )
    if is_quick(plan.recipe) or device == "cpu":
        if wanted:
            raise UsageError("--gpus-per-worker: this model runs on the CPU")
        return 0.0
    return 1.0 if wanted is None and device == "cuda" else wanted


def _encode(
    plan: Plan,
    numbers: Sequence[int],
    options: EncoderOptions,
    cluster: RayOptions,
    strict: bool,
    listeners: Listeners,
) -> Iterator[PartReport]:
    """Give the reports of parts as they are done, in any order."""
    if not numbers:
        return
    if cluster.address is not None:
        _check_answers(cluster.address)
    driver = _Driver(
        Job(plan, tuple(numbers), options, strict, cluster.address, cluster.workers, cluster.gpus)
    )
    try:
        for message in driver.messages():
            if "note" in message:
                listeners.note(message["note"])
            elif "error" in message:
                raise _restored(message["error"])
            elif "part" in message:
                yield _checked(plan, message["part"])
    finally:
        driver.close()


def check_ray(cluster: RayOptions) -> None:
    """Find out whether Ray can be used, without importing it.

    Raises
    ------
    ModelError
        It is not installed.
    UsageError
        The address is none, or this machine has no room for so many workers.
    """
    for package in ("ray", "pyarrow"):
        if find_spec(package) is None:
            raise ModelError(
                f"--engine ray needs the package {package!r}, which is not installed",
                hint="pip install 'embcli[ray]'",
            )
    if cluster.address not in (None, "auto"):
        _host_and_port(cluster.address)
    most = usable_cpus()
    if cluster.address is None and (cluster.workers or 1) > most:
        raise UsageError(
            f"--workers {cluster.workers}: this machine has {counted(most, 'CPU')}",
            hint=f"--workers {most}, or --address of a cluster",
        )


def _host_and_port(address: str) -> tuple[str, int]:
    rest = address.removeprefix(CLIENT)
    port = _PORTS["client" if address.startswith(CLIENT) else "gcs"]
    try:
        parts = urlsplit(f"//{rest}")
        if "://" in rest or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError
        return parts.hostname, parts.port or port
    except ValueError:
        raise UsageError(
            f"--address {shown(address)}: this is no address of a Ray cluster",
            hint="auto, host:6379 or ray://host:10001",
        ) from None


def _check_answers(address: str) -> None:
    """Refuse at once where nobody listens: Ray would try for minutes."""
    if address == "auto":
        return
    host, port = _host_and_port(address)
    try:
        socket.create_connection((host, port), _SECONDS_TO_CONNECT).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            f"no Ray cluster at {shown(address)} ({reason})", hint="ray status, on its head node"
        ) from None


def _checked(plan: Plan, row: Message) -> PartReport:
    """Read the report of a part that a worker says is done."""
    where = f"on node {row['node']}"
    if row["error"] is not None:
        raise _restored(json.loads(row["error"]), where)
    end = time.monotonic() + _SECONDS_TO_APPEAR
    while (report := find_part(plan, row["number"])) is None and time.monotonic() < end:
        time.sleep(0.5)
    if report is None:
        raise StoreError(
            f"part {row['number']} was written {where}, and is not in {plan.name} here",
            hint="--to a directory that all nodes share, or a URL such as s3://bucket/parts/",
        )
    return report


def _restored(described: Message, where: str = "") -> EmbcliError:
    """Make the exception again that `ray_driver.describe` put into words."""
    kind = getattr(errors, described["kind"])
    message = f"{where}: {described['message']}" if where else described["message"]
    error: EmbcliError = kind(message, hint=described["hint"])
    return error


class _Driver:
    """The process that speaks to Ray."""

    def __init__(self, job: Job) -> None:
        self._address = job.address
        self._log: IO[bytes] = tempfile.TemporaryFile()
        self._process = subprocess.Popen(  # noqa: S603 (this Python)
            [sys.executable, "-P", "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # Ctrl-C is for this process, which then ends the other in good order.
            start_new_session=True,
        )
        self._arrived: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        with suppress(BrokenPipeError):  # what it died of is told by `messages`
            self._stdin.write(pickle.dumps(job))
            self._stdin.flush()

    @property
    def _stdin(self) -> Any:
        return self._process.stdin

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._arrived.put(json.loads(line))
        self._arrived.put(None)

    def messages(self) -> Iterator[Message]:
        """Give what it tells, until it is done.

        Raises
        ------
        StoreError
            It does not come through to the cluster in time, or has ended.
        """
        limit = _SECONDS_TO_CONNECT
        if self._address is None:
            limit = _SECONDS_TO_START
        elif self._address.startswith(CLIENT):
            limit = _SECONDS_FOR_CLIENT
        for seconds in (_SECONDS_TO_IMPORT, limit):
            message = self._next(seconds)
            if "error" in message:
                yield message
                return
        while "done" not in (message := self._next(None)):
            yield message

    def _next(self, limit: float | None) -> Message:
        try:
            message = self._arrived.get(timeout=limit)
        except queue.Empty:
            self._process.kill()
            place = f"at {shown(self._address)}" if self._address else "on this machine"
            raise StoreError(
                f"no Ray cluster {place} answers within {limit:.0f} s",
                hint="ray status, on its head node; RAY_AUTH_MODE=token if it asks for a token",
            ) from None
        if message is None:
            raise StoreError(
                f"Ray gave up: {self._last_words()}",
                hint="the same command does the rest; EMBCLI_DEBUG=1 shows all that Ray said",
            )
        return message

    def _last_words(self) -> str:
        self._log.seek(0)
        text = self._log.read().decode(errors="replace")
        if debug():
            sys.stderr.write(text)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        code = self._process.wait(_SECONDS_TO_LEAVE)
        return lines[-1][:300] if lines else f"its process ended with code {code}"

    def close(self) -> None:
        """End it, in good order if it can be had within some seconds."""
        with suppress(BrokenPipeError):
            self._stdin.close()
        try:
            self._process.wait(_SECONDS_TO_LEAVE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._reader.join(_SECONDS_TO_LEAVE)
            self._log.close()
