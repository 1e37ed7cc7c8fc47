"""Real processes for a twentieth of their price: forks of one that has imported everything.

`python -m tests.faults.launcher` reads requests, a line of JSON each, forks a process for every
command line, and says how each ended. `Launcher` is the other side. What is forked runs
`embcli.cli.run_program` to its end or until it is killed, with files for stdout and stderr.
"""

import gc
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Smaller batches, so that a small job commits often.
SMALL = {
    "embcli.pipelines.encode:_RECORDS_AT_ONCE": 50,
    "embcli.pipelines.align_apply:_RECORDS_AT_ONCE": 50,
    "embcli.formats.vectors.rows:ROWS": 600,
    "embcli.store.text_index:_RECORDS_AT_ONCE": 80,
}


@dataclass(frozen=True)
class Done:
    """How a process ended; `code` is negative for a signal."""

    code: int
    out: str
    err: str
    seconds: float
    events: int


class Launcher:
    """Runs command lines in forks of a process of its own."""

    def __init__(self, shim=None):
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1",
            "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
        }  # fmt: skip
        for name in ("EMBCLI_DB", "EMBCLI_DEBUG", "EMBCLI_TIMEOUT", "COLUMNS"):
            environment.pop(name, None)
        if shim is not None:
            environment["LD_PRELOAD"] = str(shim)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.launcher"],
            cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._folder = tempfile.TemporaryDirectory()

    def start(self, *words, cwd, **request):
        """Begin a command line; return its process id.

        Further keywords: `settings` (module attributes, as in `SMALL`), `environment`, `limits`
        (RLIMIT_ names to numbers), `user` (a number), `statement` or `change` (the number of the
        SQL statement or change of a file at which it kills itself; 0 only counts), `torn` (that
        change is half made), `log` (a file for all changes, with `change`), `kill_after`
        (seconds), `out` (a file for stdout), `hours` (that its clock gains with every look at it).
        """
        request |= {"words": [str(word) for word in words], "cwd": str(cwd)}
        return self._ask(start=request | {"folder": self._folder.name})["pid"]

    def wait(self, pid, timeout=120):
        """Wait for a process."""
        answer = self._ask(wait=pid, timeout=timeout)
        base = Path(self._folder.name, str(pid))
        out, err, events = (
            base.with_suffix(end).read_bytes() if base.with_suffix(end).exists() else b""
            for end in (".out", ".err", ".events")
        )
        for end in (".out", ".err", ".events"):
            base.with_suffix(end).unlink(missing_ok=True)
        return Done(
            answer["code"], out.decode(), err.decode(), answer["seconds"], int(events or b"0")
        )

    def ended(self, pid):
        """Whether a process has ended."""
        return self._ask(ended=pid)["ended"]

    def run(self, *words, cwd, **request):
        """Run a command line to its end."""
        return self.wait(self.start(*words, cwd=cwd, **request))

    def answers(self, commands, cwd):
        """Run command lines one after the other in one process.

        Returns
        -------
        answers : dict
            By name: exit code, stdout and stderr. If the process dies, what was running has the
            signal for its code, and what would have come after it 99.
        """
        pid = self._ask(start={"many": commands, "cwd": str(cwd), "folder": self._folder.name})[
            "pid"
        ]
        done = self.wait(pid)
        found = {
            name: (code, out, err)
            for name, code, out, err in map(json.loads, done.out.splitlines())
        }
        for name in commands:
            if name not in found:
                found[name] = (99 if done.code == 99 else done.code, "", done.err)
                done = Done(99, "", "not run", 0.0, 0)
        return found

    def _ask(self, **request):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        """End it."""
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()
        self._folder.cleanup()


def compiled(source, target):
    """Compile the shim; return its path, or None where there is no C compiler."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    words = [compiler, "-shared", "-fPIC", "-O1", "-o", str(target), str(source), "-ldl"]
    try:
        done = subprocess.run(words, capture_output=True)
    except OSError:
        return None
    return target if done.returncode == 0 else None


# What follows runs in the launcher's process.

_PRELOADED = (
    "embcli.commands.encode", "embcli.pipelines.encode", "embcli.pipelines.search",
    "embcli.pipelines.import_", "embcli.pipelines.align_apply", "embcli.pipelines.dedup",
    "embcli.pipelines.export", "embcli.pipelines.ranking", "embcli.encoders.static",
    "embcli.encoders.hashing", "embcli.store.schema", "embcli.store.sql",
    "embcli.formats.vectors.numpy_files", "sqlite_utils.db", "tokenizers", "safetensors.numpy",
)  # fmt: skip


def _child(request):
    base = os.path.join(request["folder"], str(os.getpid()))
    os.chdir(request["cwd"])
    ends = (os.devnull, request.get("out") or f"{base}.out", f"{base}.err")
    for number, name in enumerate(ends):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT
        os.dup2(os.open(name, flags, 0o666), number)
    os.environ.update(request.get("environment", {}))
    for name, value in request.get("settings", {}).items():
        module, _, attribute = name.partition(":")
        setattr(import_module(module), attribute, value)
    if request.get("hours"):
        _shift_clock(request["hours"])
    count = _armed(request)
    if request.get("limits"):
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for name, value in request["limits"].items():
            resource.setrlimit(getattr(resource, name), (value, value))
    if request.get("user"):
        os.setgroups([])
        os.setgid(request["user"])
        os.setuid(request["user"])
    if "many" in request:
        _answer(request["many"])
    sys.argv = ["embcli", *request["words"]]
    code = 99
    try:
        from embcli.cli import run_program

        run_program()
    except SystemExit as stop:
        code = stop.code
    finally:
        if count is not None:
            number = count()
            with open(f"{base}.events", "w") as file:
                file.write(str(number))
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)


def _answer(commands):
    """Run command lines, and write what each says as a line of JSON."""
    from embcli.cli import main

    results = os.fdopen(os.dup(1), "w")
    for name, words in commands.items():
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        with redirect_stdout(out), redirect_stderr(err):
            code = main(words)
        out.flush()
        err.flush()
        said = out.buffer.getvalue()
        if words[0] == "export" and os.path.exists(words[1]):
            with open(words[1], "rb") as file:
                said = file.read()
        digest = hashlib.sha256(said).hexdigest()
        line = [name, code, digest, err.buffer.getvalue().decode()]
        results.write(json.dumps(line) + "\n")
        results.flush()
    os._exit(0)


def _armed(request):
    """Have the process kill itself where it is asked to; return what counts until then."""
    if "change" in request:
        import ctypes

        shim = ctypes.CDLL(None)
        if "log" in request:
            shim.faults_log(request["log"].encode())
        shim.faults_arm(request["change"], int(request.get("torn", False)))

        def count():
            shim.faults_disarm()
            return shim.faults_seen()

        return count
    if "statement" in request:
        import sqlite3

        seen = [0]

        def on_statement(sql):
            seen[0] += 1
            if seen[0] == request["statement"]:
                os.kill(os.getpid(), signal.SIGKILL)

        connect = sqlite3.connect

        def traced(*arguments, **keywords):
            connection = connect(*arguments, **keywords)
            connection.set_trace_callback(on_statement)
            return connection

        sqlite3.connect = traced
        return lambda: seen[0]
    return None


def _shift_clock(hours):
    """Have `datetime.now` run backwards from call to call."""
    import datetime as module

    import embcli.store.store as store

    calls = [0]

    class Datetime(module.datetime):
        @classmethod
        def now(cls, tz=None):
            calls[0] += 1
            return super().now(tz) + module.timedelta(hours=hours * calls[0])

    store.datetime = Datetime


def _serve():
    for name in _PRELOADED:
        import_module(name)
    from embcli.cli import _command
    from embcli.encoders.hashing import HashEncoder

    _command()
    HashEncoder.__init__.__defaults__ = (32, 3, 5)  # small stores
    _warm_up()
    gc.freeze()
    running = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            asked = request["start"]
            pid = os.fork()
            if pid == 0:
                _child(asked)
            running[pid] = (time.monotonic(), asked.get("kill_after"))
            answer = {"pid": pid}
        elif "ended" in request:
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            answer = {"ended": os.waitid(os.P_PID, request["ended"], flags) is not None}
        else:
            answer = _end(request["wait"], request["timeout"], *running.pop(request["wait"]))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _warm_up():
    """Import what commands import when they need it: nobody may not read Python's own modules."""
    from embcli.cli import main

    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        db, records = os.path.join(folder, "s.db"), os.path.join(folder, "r.jsonl")
        with open(records, "w") as file:
            file.write('{"id": "a", "text": "a b"}\n{"id": "b", "text": "c d"}\n')
        with redirect_stdout(nowhere), redirect_stderr(nowhere):
            for words in (
                ("encode", records, "-m", "hash"), ("search", "a b"), ("search", "a", "--hybrid"),
                ("show", "a"), ("collections", "rename", "default", "default"),
                ("search", "a", "-d", "/none"),
            ):  # fmt: skip
                main([words[0], *words[1:], *(() if "-d" in words else ("-d", db))])


def _end(pid, timeout, began, kill_after):
    import select

    handle = os.pidfd_open(pid)
    try:
        if kill_after is not None:
            rest = max(0.0, began + kill_after - time.monotonic())
            if not select.select([handle], [], [], rest)[0]:
                os.kill(pid, signal.SIGKILL)
        if not select.select([handle], [], [], timeout)[0]:
            os.kill(pid, signal.SIGABRT)
    finally:
        os.close(handle)
    _, status = os.waitpid(pid, 0)
    seconds = time.monotonic() - began
    return {"code": os.waitstatus_to_exitcode(status), "seconds": seconds}


if __name__ == "__main__":
    _serve()
