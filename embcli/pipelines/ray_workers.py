"""What Ray's workers do, and how many of them there is room for."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from embcli.encoders import EncoderOptions
from embcli.errors import EmbcliError, UsageError, counted
from embcli.pipelines.shards import (
    Plan,
    encode_part,
    open_chunker,
    open_encoder,
)
from embcli.pipelines.shards.plan import check_is_shared

Message = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What is to be done, and where; see `ray_engine.RayOptions`."""

    plan: Plan
    numbers: tuple[int, ...]
    options: EncoderOptions
    strict: bool
    address: str | None
    workers: int | None
    gpus: float | None


@dataclass(frozen=True)
class Pool:
    """Workers of one size, as `place` fits them in."""

    workers: int
    cpus: int
    gpus: float


def place(
    nodes: Sequence[tuple[float, float]], workers: int | None = None, gpus: float = 0.0
) -> Pool:
    """Decide how many workers a cluster takes, and how many CPUs each gets.

    Parameters
    ----------
    nodes : sequence of (float, float)
        CPUs and GPUs of each node, as Ray counts them.
    workers : int, optional
        How many are asked for; as many as there is room for, with a CPU each, if None.
    gpus : float
        GPUs of each; below 1, several share one.

    Returns
    -------
    pool : Pool
        With as many CPUs for each as let so many workers fit.

    Raises
    ------
    UsageError
        So many do not fit.

    Notes
    -----
    A CPU of the cluster stays free: where workers hold all of them, a task of Ray Data that needs
    one waits for ever, and says nothing.
    """
    total = sum(cpus for cpus, _ in nodes)

    def room(each: int) -> int:
        on_nodes = sum(
            int(min(cpus // each, devices / gpus + 1e-9 if gpus else cpus))
            for cpus, devices in nodes
        )
        return max(0, min(on_nodes, int(total - 1) // each))

    most = room(1)
    wanted = most if workers is None else workers
    if not most or wanted > most:
        have = f"{counted(int(total), 'CPU')} on {counted(len(nodes), 'node')}"
        if gpus:
            have += f" and {sum(devices for _, devices in nodes):g} GPUs"
        raise UsageError(
            f"{counted(max(wanted, 1), 'worker')} cannot run on this cluster: it has {have}, "
            f"of which one CPU must stay free for Ray's own tasks",
            hint=f"--workers {most}" if most else "a cluster with more CPUs or GPUs",
        )
    cpus = 1
    while not gpus and workers is not None and room(cpus + 1) >= wanted:
        cpus += 1
    return Pool(wanted, cpus, gpus)


class EncodeParts:
    """A worker: holds the encoder, and encodes parts whose numbers come in batches of one.

    What went wrong is a row like any other. An exception would be tried again by Ray, and would
    come back wrapped in its own.
    """

    def __init__(self, plan: Plan, options: EncoderOptions, strict: bool, gpus: float) -> None:
        self._plan = plan
        self._strict = strict
        self._failure: Message | None = None
        # Ray has set OpenMP's threads to the CPUs of this worker; tokenizers count by themselves.
        os.environ.setdefault("RAYON_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
        try:
            check_is_shared(plan)
            # Ray shows a worker only those GPUs that are its own; one without any may see all.
            device = "cuda" if gpus else "cpu"
            self._encoder = open_encoder(plan, options, device=device)
            self._chunker = open_chunker(plan, self._encoder)
        except Exception as error:  # noqa: BLE001 (whatever a model's own code raises)
            self._failure = describe(error)

    def __call__(self, batch: Any) -> Any:
        """Encode a part, and tell how that went in a table of one row."""
        import pyarrow as pa

        number = batch["number"][0].as_py()
        row: Message = {"number": number, "node": _node(), "pid": os.getpid(), "error": None}
        row |= {"rows": 0, "sum": "", "seconds": 0.0}
        failure = self._failure
        if failure is None:
            try:
                report = encode_part(
                    self._plan, number, self._encoder, chunker=self._chunker, strict=self._strict
                )
                row |= {"rows": report.rows, "sum": report.sum, "seconds": report.seconds}
            except Exception as error:  # noqa: BLE001 (as above)
                failure = describe(error)
        row["error"] = None if failure is None else json.dumps(failure)
        schema = pa.schema(
            {
                "number": pa.int64(), "node": pa.string(), "pid": pa.int64(),
                "error": pa.string(), "rows": pa.int64(), "sum": pa.string(),
                "seconds": pa.float64(),
            }
        )  # fmt: skip
        return pa.Table.from_pylist([row], schema)


def load_ray() -> Any:
    """Import Ray: half a second, and many packages."""
    return import_module("ray")


def _node() -> str:
    ray = load_ray()
    context = ray.get_runtime_context()
    return f"{ray.util.get_node_ip_address()} ({context.get_node_id()[:8]})"


def describe(error: BaseException) -> Message:
    """Put an exception into words that can be sent."""
    if isinstance(error, EmbcliError):
        return {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    return {
        "kind": EmbcliError.__name__,
        "message": f"{type(error).__name__}: {first_line(error)}",
        "hint": None,
    }


def shown(text: str) -> str:
    """Leave the users and passwords of addresses out of a text."""
    return re.sub(r"[^\s/@'\"]+@", "", text)


def first_line(error: BaseException) -> str:
    """Give the first line of what an exception says that has anything on it."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next(filter(None, lines), "no reason is given")
