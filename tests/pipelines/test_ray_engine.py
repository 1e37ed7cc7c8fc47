"""What is decided before Ray is asked, and in what order parts are given up."""

import importlib.util
import sys

import pytest

from embcli.errors import StoreError, UsageError
from embcli.pipelines import ray_engine
from embcli.pipelines.ray_driver import Rounds
from embcli.pipelines.ray_workers import Pool, describe, place

ENCODE = ("encode", "corpus.jsonl", "--to", "parts/", "--engine", "ray")
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs Ray, which is not installed"
)


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "expected"),
    [
        ([(4, 0)], None, 0, Pool(3, 1, 0)),
        ([(2, 0), (2, 0), (2, 0)], None, 0, Pool(5, 1, 0)),
        # Workers that are fewer get more CPUs; one CPU stays free on whatever node.
        ([(8, 0)], 2, 0, Pool(2, 3, 0)),
        ([(8, 0), (8, 0)], 2, 0, Pool(2, 7, 0)),
        ([(8, 0), (2, 0)], 2, 0, Pool(2, 4, 0)),
        ([(8, 0), (2, 0)], 1, 0, Pool(1, 8, 0)),
        # A head that is for nothing else.
        ([(0, 0), (4, 0)], None, 0, Pool(3, 1, 0)),
        ([(16, 4)], None, 1.0, Pool(4, 1, 1.0)),
        ([(16, 4)], None, 0.5, Pool(8, 1, 0.5)),
        ([(16, 4), (16, 0)], None, 1.0, Pool(4, 1, 1.0)),
        ([(16, 4)], None, 2.0, Pool(2, 1, 2.0)),
        ([(4, 8)], None, 1.0, Pool(3, 1, 1.0)),
        ([(16, 3)], None, 0.1, Pool(15, 1, 0.1)),
        ([(64, 3)], None, 0.1, Pool(30, 1, 0.1)),
    ],
)
def test_workers_fit_their_nodes_and_leave_a_cpu(nodes, workers, gpus, expected):
    pool = place(nodes, workers, gpus)
    assert pool == expected
    assert sum(cpus for cpus, _ in nodes) - pool.workers * pool.cpus >= 1


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "hint"),
    [
        ([(4, 0)], 4, 0, "--workers 3"),
        ([(2, 0), (2, 0)], 5, 0, "--workers 3"),
        ([(16, 2)], 3, 1.0, "--workers 2"),
        ([(1, 0)], None, 0, "a cluster with more CPUs or GPUs"),
        ([(8, 0)], None, 1.0, "a cluster with more CPUs or GPUs"),
        ([], None, 0, "a cluster with more CPUs or GPUs"),
    ],
)
def test_more_than_fit_are_refused_with_how_many_do(nodes, workers, gpus, hint):
    with pytest.raises(UsageError) as caught:
        place(nodes, workers, gpus)
    assert caught.value.hint == hint


class Scripted(Rounds):
    """Rounds in which given parts come back."""

    def __init__(self, numbers, script):
        self.told = []
        job = type("Job", (), {"numbers": tuple(numbers)})()
        super().__init__(job, Pool(1, 1, 0), self.told.append)
        self.script = list(script)
        self.asked = []

    def _round(self, numbers):
        self.asked.append(numbers)
        for number in self.script.pop(0):
            if isinstance(number, Exception):
                raise number
            yield {"number": number, "error": None}


def test_parts_that_were_lost_are_asked_for_again():
    rounds = Scripted([0, 1, 2, 3], [[0, 3], [OSError("a node went\nand more")], [2, 1]])
    rounds.run()
    assert rounds.asked == [[0, 1, 2, 3], [1, 2], [1, 2]]
    notes = [message["note"] for message in rounds.told if "note" in message]
    assert notes == [
        "2 parts went with a worker or a node and will be done again: 1, 2",
        "2 parts went with a worker or a node and will be done again: 1, 2 (OSError: a node went)",
    ]
    done = [message["part"]["number"] for message in rounds.told if "part" in message]
    assert sorted(done) == [0, 1, 2, 3]


def test_a_part_that_is_lost_three_times_is_given_up():
    rounds = Scripted([0, 1], [[0], [], []])
    with pytest.raises(StoreError, match=r"1 part could not be encoded in 3 rounds.*: 1$"):
        rounds.run()
    assert rounds.asked == [[0, 1], [1], [1]]


def test_what_went_wrong_is_put_into_words():
    assert describe(UsageError("no", hint="yes")) == {
        "kind": "UsageError", "message": "no", "hint": "yes",
    }  # fmt: skip
    assert describe(ValueError("\n one \n two"))["message"] == "ValueError: one"
    assert describe(ValueError())["message"] == "ValueError: no reason is given"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--address", "http://x"), "--address http://x: this is no address of a Ray cluster"),
        (("--address", "ray://"), "--address ray://: this is no address"),
        (("--address", "host:port"), "--address host:port: this is no address"),
        (("--shard", "1/2"), "--shard is for array jobs"),
        (("--plan",), "--plan is for array jobs"),
        (("--device", "cuda:1"), "--device cuda:1: Ray says which devices a worker takes"),
        (("--gpus-per-worker", "1"), "--gpus-per-worker: this model runs on the CPU"),
        (("--workers", "1000"), "--workers 1000: this machine has "),
    ],
)
@needs_ray
def test_what_makes_no_sense_is_refused(run, corpus, arguments, message):
    result = run(*ENCODE, *arguments, "-q")
    assert result.code == 2
    assert result.err.startswith(f"error: {message}")
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("--to", "parts/", "--address", "auto"), "--engine ray"),
        (("--to", "parts/", "--gpus-per-worker", "0"), "--engine ray"),
        (("--engine", "ray"), "--to DIR/"),
        (("--to", "vectors.npy", "--engine", "ray"), "--to DIR/"),
    ],
)
def test_options_of_ray_are_for_ray_and_for_parts(run, corpus, arguments, hint):
    result = run("encode", "corpus.jsonl", *arguments, "-q")
    assert result.code == 2
    assert result.err.endswith(f"; try: {hint}\n")


@needs_ray
def test_nobody_at_the_address_is_said_at_once(run, corpus):
    result = run(*ENCODE, "--address", "127.0.0.1:9", "-q")
    assert result.code == 5
    assert result.err == (
        "error: no Ray cluster at 127.0.0.1:9 (Connection refused); "
        "try: ray status, on its head node\n"
    )


@needs_ray
@pytest.mark.slow
def test_what_answers_and_is_no_cluster_is_not_waited_for(run, corpus, monkeypatch):
    import socket

    monkeypatch.setattr(ray_engine, "_SECONDS_TO_CONNECT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        result = run(*ENCODE, "--address", address, "-q")
    assert result.code == 5
    assert result.err.startswith(f"error: no Ray cluster at {address} answers within 1 s")


def test_without_ray_it_is_said_how_to_get_it(run, corpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run(*ENCODE, "-q")
    assert result.code == 4
    assert result.err == (
        "error: --engine ray needs the package 'ray', which is not installed; "
        "try: pip install 'embcli[ray]'\n"
    )


def test_where_nothing_is_missing_ray_is_not_started(run, corpus):
    assert run("encode", "corpus.jsonl", "--to", "parts/").code == 0
    result = run(*ENCODE, "--address", "127.0.0.1:9")
    if importlib.util.find_spec("ray") is not None:
        assert result.code == 0
        assert result.err.startswith("1 part (1 there before)")
