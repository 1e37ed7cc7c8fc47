"""A Ray cluster of three nodes on this machine, and ways to break it.

Run as a script it is the process that has the cluster, and does what it is told on standard input:
Ray leaves files open in it, and starts threads.
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent.parent
_OBJECT_STORE_BYTES = 100 << 20
_CPUS = 2
_PATIENCE = 90.0


class ThreeNodes:
    """A head and two more nodes with two logical CPUs each; Ray Client has a port, too."""

    def __init__(self):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
        self._log = (Path.cwd() / "cluster.log").open("w")
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
            start_new_session=True,
        )
        addresses = self._answer()
        self.address, self.client_address = addresses["gcs"], addresses["client"]

    def _answer(self):
        return json.loads(self._process.stdout.readline())

    def _tell(self, what):
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return self._answer()

    def workers(self):
        """Processes that hold encoders."""
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if "EncodeParts" in " ".join(process.info["cmdline"] or [])
        ]

    def lose_node(self):
        """Kill all processes of a node at once, as if its power had gone."""
        self._tell("lose")

    def add_node(self):
        """Let a new node join."""
        self._tell("add")

    def stop(self):
        self._process.communicate()
        self._log.close()


def start(*arguments):
    """Start a command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "embcli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def wait_until(happened, process=None):
    """Wait for a condition, while a process runs."""
    end = time.monotonic() + _PATIENCE
    while not happened():
        if process is not None and process.poll() is not None:
            out, err = process.communicate()
            raise AssertionError(f"it ended with {process.returncode} too early: {out}{err}")
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def _kill(cluster, node):
    started = [each.process.pid for some in node.all_processes.values() for each in some]
    family = [child for pid in started for child in psutil.Process(pid).children(recursive=True)]
    cluster.remove_node(node, allow_graceful=False)
    for process in family:
        if process.is_running():
            process.kill()


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _serve():
    from ray.cluster_utils import Cluster

    wire = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    size = {"num_cpus": _CPUS, "object_store_memory": _OBJECT_STORE_BYTES}
    port = _free_port()
    head = {**size, "include_dashboard": False, "ray_client_server_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    others = [cluster.add_node(**size) for _ in range(2)]
    cluster.wait_for_nodes()
    answer = {"gcs": cluster.address, "client": f"ray://127.0.0.1:{port}"}
    print(json.dumps(answer), file=wire, flush=True)
    for line in sys.stdin:
        if line == "lose\n":
            _kill(cluster, others.pop())
        else:
            others.append(cluster.add_node(**size))
            cluster.wait_for_nodes()
        print("true", file=wire, flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    _serve()
