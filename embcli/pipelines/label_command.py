"""Names of clusters from any program."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Lock

from embcli.core.matching import Advance
from embcli.errors import UsageError
from embcli.output import plain, shortened
from embcli.pipelines.pairwise import Note

TIMEOUT = 60.0
# Most characters of a label, of an example that is handed over, and of what a program complains.
_LABEL, _EXAMPLE, _COMPLAINT = 80, 500, 200
# What shells exit with when there is no such program, or it is not one.
_NO_PROGRAM = (126, 127)
# So often, in seconds, it is looked whether a program is still wanted.
_PAUSE = 0.05


@dataclass(frozen=True)
class Request:
    """What a program is told about a cluster.

    Attributes
    ----------
    number : int
    size : int
        Records.
    keywords, examples : sequence of str
        Best first.
    """

    number: int
    size: int
    keywords: Sequence[str]
    examples: Sequence[str]

    def text(self) -> str:
        """Write it as it is handed over: a line of keywords, and a line an example."""
        lines = [f"Keywords: {', '.join(map(plain, self.keywords))}", "", "Examples:"]
        lines += [f"- {shortened(plain(example), _EXAMPLE)}" for example in self.examples]
        return "\n".join(lines) + "\n"


def ask(
    command: str,
    clusters: Sequence[Request],
    *,
    timeout: float = TIMEOUT,
    jobs: int = 1,
    note: Note = lambda message: None,
    advance: Advance = lambda done, total, count: None,
) -> list[str | None]:
    """Let a program name clusters, one at a time.

    Parameters
    ----------
    command : str
        Run by the shell (``sh -c``), so that quotes and pipes work, once for every cluster. Its
        standard input is ``Request.text``, UTF-8; the environment has ``EMBCLI_CLUSTER``, the
        number, and ``EMBCLI_SIZE``, how many records there are. The first line of
        standard output that is not blank is the label, cut to 80 characters.
    clusters : sequence of Request
    timeout : float
        Seconds, after which a program is killed with all that it started.
    jobs : int
        So many run at once.
    note : callable
        Told of every cluster that got no label, and why.
    advance : callable
        Told how many clusters are done, of how many.

    Returns
    -------
    labels : list of str or None
        None where there is none: the program could not be run, took too long, failed, or had
        nothing to say.

    Raises
    ------
    UsageError
        The command is blank, or `timeout` or `jobs` is not above 0.

    Notes
    -----
    If the shell cannot find or run the program (exit codes 126 and 127), no other cluster is tried,
    and there is one note. What runs is killed if this is interrupted.
    """
    if not command.strip():
        raise UsageError("the command that names clusters is blank")
    if not timeout > 0 or jobs < 1:
        raise UsageError(
            "the command that names clusters takes a timeout above 0, and a job or more"
        )
    asked = _Round(command, timeout, len(clusters), note, advance)
    # The first alone: it says whether there is such a program.
    labels = [asked.label(one) for one in clusters[:1]]
    pool = ThreadPoolExecutor(jobs)
    try:
        labels += pool.map(asked.label, clusters[1:])
    except BaseException:
        asked.stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return labels


class _FailedError(Exception):
    """A program gave no label; the message says why."""


class _MissingError(Exception):
    """There is no such program."""


class _Round:
    """The clusters of one run, and whether to go on."""

    def __init__(
        self, command: str, timeout: float, total: int, note: Note, advance: Advance
    ) -> None:
        self.stop = Event()
        self._command, self._timeout, self._total = command, timeout, total
        self._note, self._advance = note, advance
        self._done = 0
        self._lock = Lock()

    def label(self, cluster: Request) -> str | None:
        """Ask for one label; None, and a note, if there is none."""
        if self.stop.is_set():
            return None
        label, why = None, ""
        try:
            label = self._answer(cluster)
        except _MissingError as failure:
            self.stop.set()
            self._note(f"{failure}; no cluster is named by it")
        except _FailedError as failure:
            why = str(failure)
        with self._lock:
            if why and not self.stop.is_set():
                self._note(f"no label for cluster {cluster.number}: {why}")
            self._done += 1
            self._advance(self._done, self._total, self._done)
        return label

    def _answer(self, cluster: Request) -> str:
        environment = os.environ | {
            "EMBCLI_CLUSTER": str(cluster.number),
            "EMBCLI_SIZE": str(cluster.size),
        }
        try:
            process = subprocess.Popen(  # noqa: S602 (it is the user's own command line)
                self._command,
                shell=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # so that all of a pipe can be killed
            )
        except OSError as error:
            raise _FailedError(f"the command cannot be run ({error.strerror})") from error
        try:
            out, err = self._said(process, cluster.text().encode("utf-8", "replace"))
        except BaseException:
            _kill(process)
            raise
        return _label(process.returncode, out.decode("utf-8", "replace"), _last_line(err))

    def _said(self, process: "subprocess.Popen[bytes]", text: bytes) -> tuple[bytes, bytes]:
        """Wait for a program's output, as long as it may take and is still wanted."""
        end = time.monotonic() + self._timeout
        given: bytes | None = text
        while True:
            try:
                return process.communicate(given, timeout=_PAUSE)
            except subprocess.TimeoutExpired:
                given = None  # has been handed over, or is being
            if self.stop.is_set():
                raise _FailedError("interrupted")
            if time.monotonic() > end:
                raise _FailedError(f"the command took longer than {self._timeout:g} s")


def _label(code: int, out: str, complaint: str) -> str:
    """Read a label, or raise what kept the program from giving one."""
    because = f": {complaint}" if complaint else ""
    if code in _NO_PROGRAM:
        raise _MissingError(f"the shell cannot run the command{because}")
    if code:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise _FailedError(f"the command {how}{because}")
    for line in out.splitlines():
        if label := plain(line):
            return shortened(label, _LABEL)
    raise _FailedError(f"the command wrote nothing{because}")


def _last_line(err: bytes) -> str:
    lines = filter(None, map(plain, err.decode("utf-8", "replace").splitlines()))
    return shortened((list(lines) or [""])[-1], _COMPLAINT)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a program with all that it started, and forget what it wrote."""
    # Before it is waited for, so that its number cannot be another's by now.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    process.wait()
