"""A Milvus server to test with: Milvus Lite over TCP, or the one that EMBCLI_TEST_MILVUS names."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from importlib.util import find_spec

import pytest


class LiteServer:
    """Milvus Lite in a process of its own, on a free port of this machine."""

    def __init__(self, folder):
        self._folder = folder
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"milvus://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        arguments = ["server", "--data-dir", self._folder / "data", "--host", "127.0.0.1"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "milvus_lite", *arguments, "--port", str(self.port)],
                stdout=log,
                stderr=log,
            )
        for _ in range(300):
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        self.stop()
        pytest.fail(f"Milvus Lite did not start: {(self._folder / 'log').read_text()[-2000:]}")

    def stop(self):
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def _needed():
    for package in ("pymilvus", "milvus_lite"):
        if find_spec(package) is None:
            pytest.skip(f"needs the package {package}: pip install 'embcli[engines]'")


@pytest.fixture(scope="session")
def milvus(tmp_path_factory):
    """The URL of a server."""
    given = os.environ.get("EMBCLI_TEST_MILVUS")
    if given:
        yield given
        return
    _needed()
    folder = tmp_path_factory.mktemp("milvus")
    server = LiteServer(folder)
    yield server.url
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own_milvus(tmp_path):
    """A server that may be stopped."""
    _needed()
    server = LiteServer(tmp_path)
    yield server
    server.stop()
