"""What commands say they need, what there is, and what they take."""

import ast
import json
import os
import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from embcli import Recipe, Record, Store
from embcli.core.cosine import as_unit32, unit32
from embcli.errors import UsageError
from embcli.pipelines import cluster_report, memory
from embcli.pipelines.memory import NEEDS, Need, ask, available
from embcli.pipelines.pairwise import reorder
from embcli.pipelines.subject import open_subject
from tests.conftest import ROOT

RNG = np.random.default_rng(0)
WORDS = ("tide", "loan", "kitten", "anchor", "bond", "harbour")


def stored(n, dim, name="default", db="embcli.db", scale=1.0):
    """Store records around ten directions; few words, as counts of words are bounded anyway."""
    directions = RNG.standard_normal((10, dim))
    vectors = directions[np.arange(n) % 10] + 0.2 * RNG.standard_normal((n, dim))
    vectors = scale * unit32(vectors)
    recipe = Recipe({"model": "made up", "dim": dim, "normalized": scale == 1})
    with Store(db) as store:
        records = [
            Record(f"{name}{i}", f"{WORDS[i % 6]} and {WORDS[i % 5]}", {"topic": i % 10})
            for i in range(n)
        ]
        store.create_collection(name, recipe).add(records, vectors)
    return vectors


def files(root, contents):
    for name, text in contents.items():
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


MACHINE = {"proc/meminfo": "MemTotal: 99 kB\nMemAvailable:    8000000 kB\n"}
STAT = "anon 100\nactive_file 1000000\ninactive_file 2000000\n"
SECOND = {
    "proc/self/cgroup": "0::/slice/job\n",
    "sys/fs/cgroup/slice/memory.max": "5000000000\n",
    "sys/fs/cgroup/slice/memory.current": "1000000000\n",
    "sys/fs/cgroup/slice/memory.stat": STAT,
    "sys/fs/cgroup/slice/job/memory.max": "max\n",
    "sys/fs/cgroup/slice/job/memory.current": "900000000\n",
    "sys/fs/cgroup/slice/job/memory.stat": STAT,
}
FIRST = {
    "proc/self/cgroup": "12:cpu,cpuacct:/job\n4:memory:/job\n0::/x\n",
    "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "3000000000",
    "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "1000000000",
    "sys/fs/cgroup/memory/job/memory.stat": "cache 1\ntotal_active_file 5\ntotal_inactive_file 6\n",
}


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (MACHINE, 8_000_000 << 10),
        (MACHINE | SECOND, 5_000_000_000 - 1_000_000_000 + 3_000_000),
        (MACHINE | FIRST, 2_000_000_000 + 11),
    ],
    ids=["machine", "groups of version 2", "of version 1"],
)
def test_the_least_of_what_machine_and_control_groups_leave(home, contents, expected):
    files(home, contents)
    assert available(str(home)) == expected


def test_a_limit_of_addresses_counts(home, monkeypatch):
    files(home, MACHINE)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1 << 40, 1 << 40))
    assert available(str(home)) == 8_000_000 << 10
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (taken + (1 << 30), 1 << 40))
    assert available(str(home)) == pytest.approx(1 << 30, rel=0.1)


def test_without_any_file_of_the_system_it_is_all_there_is(home):
    assert available(str(home)) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("given", "expected"), [("8G", 8 << 30), ("1.5 GiB", 3 << 29), ("300mb", 300 << 20), ("7", 7)]
)
def test_the_variable_takes_the_place_of_what_is_found(monkeypatch, given, expected):
    monkeypatch.setenv("EMBCLI_MEMORY", given)
    assert available() == expected


def test_a_variable_that_is_no_size_is_refused(run, home, monkeypatch):
    stored(30, 8)
    monkeypatch.setenv("EMBCLI_MEMORY", "much")
    result = run("cluster", "-k", "2")
    assert (result.code, "EMBCLI_MEMORY is a size such as 8G, not 'much'" in result.err) == (
        2,
        True,
    )


@pytest.mark.parametrize("need", NEEDS.values(), ids=NEEDS)
def test_a_sample_is_proposed_that_fits(monkeypatch, need):
    monkeypatch.setenv("EMBCLI_MEMORY", "2G")
    with pytest.raises(UsageError, match=r"this takes about .* of memory") as caught:
        ask([(50_000_000, 384)], need, pytest.fail, option="--sample")
    sample = int(caught.value.hint.removeprefix("--sample "))
    assert len(str(sample).rstrip("0")) <= 2
    assert 0.8 * 0.9 * 2**31 < need.bytes(sample, 384) <= 0.9 * 2**31


def test_what_is_much_is_said_and_what_is_little_is_not(monkeypatch):
    said = []
    for there, n in (("64G", 100_000), ("64G", 1_000_000), ("500M", 100_000)):
        monkeypatch.setenv("EMBCLI_MEMORY", there)
        ask([(n, 384)], Need(1, 0), said.append)
    assert said == [
        "this takes about 1.4 GiB of memory (vectors: 1,000,000 × 384); 64.0 GiB are available",
        "this takes about 146 MiB of memory (vectors: 100,000 × 384); 500 MiB are available",
    ]
    monkeypatch.setattr(memory, "available", lambda: None)
    ask([(1_000_000, 384), (2, 3)], Need(1, 0), said.append)
    assert said[2] == "this takes about 1.4 GiB of memory (vectors: 1,000,000 × 384 and 2 × 3)"


@pytest.mark.parametrize(
    "words",
    [
        ["cluster", "-k", "2"],
        ["cluster", "-M", "leiden"],
        ["plot", "-o", "map.png"],
        ["plot", "--kind", "scree", "-o", "map.png"],
        ["neighbors"],
        ["dedup"],
        ["match", "default", "default"],
        ["separability"],
        ["diagnose"],
        ["align", "fit", "-s", "default", "-t", "default", "-n", "m"],
        ["align", "select", "-k", "3"],
        ["clusters", "outliers"],
        ["eval", "words", "words.txt"],
    ],
    ids=" ".join,
)
def test_commands_that_hold_all_vectors_refuse_what_there_is_no_memory_for(
    run, home, monkeypatch, words
):
    stored(60, 12)
    Path("words.txt").write_text("default1 default2 5.0\n")
    if words[0] == "clusters":
        run("cluster", "-k", "2")
    monkeypatch.setenv("EMBCLI_MEMORY", "8K")
    result = run(*words)
    assert result.code == 2, result
    assert result.err.splitlines()[-1].startswith("error: this takes about ")
    assert "of memory (vectors: 60 × 12" in result.err
    assert "8 KiB are available" in result.err


def test_whoever_reads_all_vectors_asks_before():
    """Each call of `Collection.matrix`, but for the one that reads some at a time."""
    for file in (ROOT / "embcli" / "pipelines").glob("*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            source = ast.unparse(function)
            where = f"{file.stem}.{function.name}"
            if ".matrix(" in source and where not in ("cluster_report._parts", "match.load"):
                assert "ask(" in source, where


def test_analogies_of_means_of_chunks_ask(run, home, monkeypatch):
    Path("a.txt").write_text("king queen\n")
    for name in ("king", "man", "woman", "queen"):
        Path(f"{name}.txt").write_text(f"{name} {name} " * 5)
    run("encode", *(f"{n}.txt" for n in ("king", "man", "woman", "queen")), "--per", "file",
        "--chunk", "characters=20")  # fmt: skip
    words = ["analogy", "king.txt - man.txt + woman.txt"]
    assert run(*words).rows[0]["id"] == "queen.txt"
    monkeypatch.setenv("EMBCLI_MEMORY", "1K")
    result = run(*words)
    assert (result.code, "this takes about " in result.err) == (2, True)


def test_outliers_are_asked_for_before_the_work(run, home, monkeypatch):
    stored(400, 12)
    monkeypatch.setenv("EMBCLI_MEMORY", "30K")
    words = ["cluster", "-k", "2", "--sample", "30"]
    result = run(*words, "--show", "outliers")
    assert (result.code, "this takes about " in result.err) == (2, True)
    assert run("clusters", "list").rows == []
    assert run(*words).code == 0


def test_a_sample_that_no_command_takes_is_not_proposed(monkeypatch):
    monkeypatch.setenv("EMBCLI_MEMORY", "2K")
    with pytest.raises(UsageError) as caught:
        ask([(60, 12)], NEEDS["kmeans"], pytest.fail, option="--sample")
    assert caught.value.hint == "fewer records, or more memory"


@pytest.mark.parametrize("given", ["9" * 400, "\u0668G", "1e400"])
def test_sizes_beyond_all_measure_are_none(monkeypatch, given):
    monkeypatch.setenv("EMBCLI_MEMORY", given)
    with pytest.raises(UsageError, match="is a size such as 8G"):
        available()


def test_the_sample_that_is_proposed_is_taken(run, home, monkeypatch):
    stored(60, 12)
    monkeypatch.setenv("EMBCLI_MEMORY", "10K")
    refused = run("cluster", "-k", "2").err
    proposed = refused.rsplit("try: ", 1)[1].split()
    assert proposed[0] == "--sample"
    result = run("cluster", "-k", "2", *proposed)
    assert (result.code, "2 clusters of 60 records" in result.err) == (0, True)


def test_clusters_of_a_sample_take_in_the_others_by_their_means(run, home, monkeypatch):
    vectors = stored(400, 12, scale=3.0)
    monkeypatch.setattr(cluster_report, "_VECTORS_AT_ONCE", 70)
    result = run("cluster", "-k", "10", "--sample", "100", "--label", "topic", "--levels", "3")
    assert result.code == 0
    assert "found among 100 records at random" in result.err
    assert "10 clusters of 400 records" in result.err
    assert sum(row["size"] for row in result.rows) == 400
    with Store("embcli.db", readonly=True) as store:
        source = store.collection("default")
        clustering = source.clusterings.get("kmeans")
        members = source.clusterings.members(clustering)
        coarse = source.clusterings.members(source.clusterings.get("kmeans-3"))
    assert clustering.arguments["found among"] == 100
    assert len(members.keys) == len(coarse.keys) == 400
    with open_subject("embcli.db", "default", sample=100) as subject:
        drawn = np.searchsorted(members.keys, subject.keys)
    unit = unit32(vectors)
    labels = members.clusters
    means = np.stack([unit[drawn][labels[drawn] == each].sum(axis=0) for each in range(10)])
    cosines = unit @ unit32(means).T
    others = np.setdiff1d(np.arange(400), drawn)
    assert (cosines[others].argmax(axis=1) == labels[others]).all()
    # Records of one direction are in one cluster, whether they were drawn or not.
    assert all(len(np.unique(labels[topic::10])) == 1 for topic in range(10))


def test_a_sample_that_holds_everything_is_none(run, home):
    stored(60, 12)
    result = run("cluster", "-k", "2", "--sample", "60")
    assert (result.code, "at random" in result.err) == (0, False)
    assert "found among" not in run("clusters", "list").rows[0]["arguments"]


def test_rows_are_put_into_another_order_in_place():
    vectors = RNG.standard_normal((50, 70)).astype(np.float32)
    order = RNG.permutation(50)
    expected = vectors[order]
    reorder(vectors, order)
    assert (vectors == expected).all()


def test_vectors_of_length_1_are_not_copied():
    vectors = RNG.standard_normal((40_000, 20)).astype(np.float32)
    unit = unit32(vectors)
    assert as_unit32(unit) is unit
    assert (as_unit32(vectors) == unit).all()
    assert as_unit32(unit.astype(np.float64)).dtype == np.float32
    almost = unit.copy()
    almost[-1] *= np.float32(1.000001)
    assert as_unit32(almost) is not almost
    before = vectors.copy()
    as_unit32(vectors)
    assert (vectors == before).all()
    assert unit32(vectors, out=vectors) is vectors
    assert (vectors == unit).all()


def peak_of(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_sample_is_read_alone(home):
    stored(4000, 128)

    def read(**options):
        with open_subject("embcli.db", "default", **options):
            pass

    read(sample=10)  # imports
    whole = peak_of(read)
    assert whole > 4000 * 128 * 4
    assert peak_of(lambda: read(sample=200)) < whole / 4


METHODS = {
    "pca": ["plot", "-M", "pca", "-o", "a.png", "--color", "none"],
    "dedup": ["dedup", "-f", "ids"],
}


@pytest.mark.long
@pytest.mark.parametrize("need", METHODS)
def test_processes_take_no_more_than_they_say(home, need):
    """Private memory of processes of their own; a third of what is said, at least."""
    sizes, dim, private = (20_000, 60_000), 384, []
    for n in sizes:
        os.makedirs(str(n))
        stored(n, dim, db=f"{n}/embcli.db")
        command = [sys.executable, "-m", "embcli", *METHODS[need], "-q"]
        watched = [sys.executable, "-I", "-S", str(ROOT / "benchmarks" / "watched.py")]
        done = subprocess.run(
            [*watched, *command], cwd=str(n), env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            check=True,
        )  # fmt: skip
        report = json.loads(done.stderr.rstrip("\n").rpartition("\n")[2])
        assert report["code"] in (0, 1), done.stderr
        private.append(report["private"] * (1 << 20))
    taken = private[1] - private[0]
    said = NEEDS[need].bytes(sizes[1], dim) - NEEDS[need].bytes(sizes[0], dim)
    assert said / 3 < taken < 1.2 * said, f"said {said:,}, took {taken:,.0f}"
