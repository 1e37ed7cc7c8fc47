"""`embcli encode --to DIR/` and `embcli import DIR`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytest.importorskip("pyarrow")


def write_corpus(path, count):
    rows = [{"id": f"r{n}", "text": f"The cat number {n} sleeps."} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def records(run, collection="default"):
    statement = f"SELECT id, text, meta, source FROM corpus WHERE collection = '{collection}'"
    return sorted(map(str, run("sql", statement).rows))


@pytest.mark.parametrize("target", ["parts/", "memory://command/parts/"])
def test_there_and_back(run, home, target):
    if "://" in target:
        pytest.importorskip("fsspec")
    write_corpus(home / "a.jsonl", 30)
    encode = ("encode", "a.jsonl", "--to", target, "--part-records", "7")
    done = run(*encode, "-f", "json")
    (row,) = json.loads(done.out)
    assert (done.code, row["to"], row["parts"], row["encoded"]) == (0, target, 5, 30)
    assert "5 parts: encoded 30, reused 0" in done.err
    again = run(*encode)
    assert (again.code, again.out) == (0, "")
    assert "5 parts (5 there before): encoded 0, reused 30" in again.err
    done = run("import", target, "-c", "gathered", "-f", "json")
    (row,) = json.loads(done.out)
    assert (done.code, row["gathered"], row["added"], row["total"]) == (0, 5, 30, 30)
    assert "0 of 5 parts, 5 before" in run("import", target, "-c", "gathered").err
    run("encode", "a.jsonl", "-c", "whole")
    assert records(run, "gathered") == records(run, "whole")


def test_shards_of_a_plan(run, home):
    write_corpus(home / "a.jsonl", 30)
    encode = ("encode", "a.jsonl", "--to", "parts/")
    done = run(*encode, "--part-records", "10", "--plan")
    assert (done.code, os.listdir("parts")) == (0, ["manifest.json"])
    assert "planned 3 parts → parts/" in done.err
    assert "(2 of 3 missing)" in run(*encode, "--shard", "2/3").err
    done = run("import", "parts")
    assert done.code == 3
    assert "error: 2 of 3 parts are missing: 0, 2; try: the embcli encode" in done.err
    assert len(records(run)) == 10
    for shard in ("1/3", "3/3", "3/3"):
        assert run(*encode, "--shard", shard).code == 0
    assert json.loads(Path("parts/manifest.json").read_text())["rows"] == 30
    assert run("import", "parts/").code == 0
    assert len(records(run)) == 30


def test_skipped_records_are_named_every_time(run, home):
    lines = [json.dumps({"text": f"text {n}"}) for n in range(60)]
    lines[20:40] = ["{bad"] * 20
    (home / "a.jsonl").write_text("\n".join(lines))
    for _ in range(2):
        done = run("encode", "a.jsonl", "--to", "parts/", "--part-records", "20")
        assert done.code == 3
        assert done.err.count("skipped: a.jsonl:") == 10
        assert "skipped: 10 more" in done.err
        assert "skipped 20" in done.err
    done = run("encode", "a.jsonl", "--to", "parts/", "--strict")
    assert (done.code, "a.jsonl:21: not JSON" in done.err) == (3, True)
    for _ in range(2):
        done = run("import", "parts")
        assert (done.code, done.err.count("skipped: a.jsonl:")) == (3, 10)
        assert "skipped: 10 more" in done.err
        assert "skipped 20" in done.err


def test_repeated_records_are_named_and_the_first_stays(run, home):
    write_corpus(home / "a.jsonl", 110)
    with (home / "a.jsonl").open("a") as file:
        file.write('{"id": "r3", "text": "again"}\n')
    run("encode", "a.jsonl", "--to", "parts/", "--part-records", "50")
    done = run("import", "parts")
    assert done.code == run("encode", "a.jsonl", "-c", "whole").code == 3
    assert "a.jsonl:111: id 'r3' was already read at a.jsonl:4" in done.err
    assert "repeated 1" in done.err
    assert run("show", "r3").rows[0]["text"] == "The cat number 3 sleeps."


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--to", "parts/", "--prune"), "--prune is for the store"),
        (("--to", "parts/", "--storage", "float16"), "--storage is for the store"),
        (("--to", "parts/", "-c", "c"), "--collection is for the store"),
        (("--to", "parts/", "--to-format", "npy"), "--to-format is for a file"),
        (("--to", "parts/", "--force"), "--force is for a file"),
        (("--to", "parts/", "--shard", "0/4"), "expected I/N"),
        (("--to", "parts/", "--shard", "5/4"), "expected I/N"),
        (("--to", "parts/", "--shard", "x"), "expected I/N"),
        (("--to", "parts/", "--plan", "--shard", "1/4"), "--plan only plans"),
        (("--to", "a.npy", "--workers", "2"), "--workers is for encoding into parts"),
        (("--shard", "1/2"), "--shard is for encoding into parts"),
        (("--plan",), "--plan is for encoding into parts"),
        (("--to", "memory://x/parts"), "only parts are written to URLs"),
    ],
)
def test_options_that_make_no_sense_together(run, home, options, words):
    write_corpus(home / "a.jsonl", 3)
    done = run("encode", "a.jsonl", *options)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert done.err.count("\n") == 1
    assert not (home / "parts").exists()


def test_standard_input_is_not_cut(run, home):
    done = run("encode", "-", "--to", "parts/", stdin="a\n")
    assert done.code == 2
    assert "standard input cannot be cut into parts; try: name files" in done.err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_pipes_are_not_cut(run, home):
    os.mkfifo("a.jsonl")  # as <(command) is
    done = run("encode", "a.jsonl", "--to", "parts/")
    assert (done.code, done.out) == (2, "")
    assert "a.jsonl is no file, and cannot be cut into parts; try: name files" in done.err


def test_a_manifest_of_something_else_is_not_simply_to_be_deleted(run, home):
    write_corpus(home / "a.jsonl", 10)
    (home / "web").mkdir()
    (home / "web" / "manifest.json").write_text('{"name": "an app"}')
    for command in (("encode", "a.jsonl", "--to", "web/"), ("import", "web/")):
        done = run(*command)
        assert (done.code, "this is no manifest of an encode" in done.err) == (3, True)
        assert "try: another folder, if it is of something else" in done.err


def test_what_parts_take_is_missed_before_anything_is_read(run, home, monkeypatch):
    write_corpus(home / "a.jsonl", 3)
    monkeypatch.setattr("embcli.core.optional.find_spec", lambda name: None)
    done = run("encode", "a.jsonl", "--to", "parts/")
    assert (done.code, done.err.count("\n")) == (4, 1)
    assert "--to DIR/ takes pyarrow, which is not installed; try: pip install" in done.err
    assert not Path("parts").exists()


def test_nothing_to_encode(run, home):
    (home / "a.jsonl").write_text("")
    done = run("encode", "a.jsonl", "--to", "parts/")
    assert (done.code, "there is no record to encode" in done.err) == (3, True)


def test_what_is_no_directory_of_parts(run, home):
    write_corpus(home / "a.jsonl", 3)
    (home / "other").mkdir()
    done = run("import", "other")
    assert (done.code, "other: is a directory, and no manifest.json is in it" in done.err) == (
        3,
        True,
    )
    assert run("encode", "a.jsonl", "--to", "parts/").code == 0
    done = run("import", "parts", "--model", "static")
    assert (done.code, "--model is for files of vectors" in done.err) == (2, True)
    done = run("import", "parts", "parts")
    assert (done.code, "one directory of parts at a time" in done.err) == (2, True)
    assert run("import", "parts", "-c", "c").code == 0
    run("encode", "a.jsonl", "-c", "h", "-m", "hash")
    done = run("import", "parts", "-c", "h")
    assert (done.code, "is in another space" in done.err) == (2, True)


def test_an_address_that_nothing_is_at(run, home, monkeypatch):
    pytest.importorskip("fsspec")
    done = run("import", "memory://nothing/here/")
    assert (done.code, "there is no manifest.json in it" in done.err) == (3, True)
    assert "files of vectors are not read from URLs" in done.err
    done = run("encode", "memory://nothing/a.jsonl", "--to", "parts/")
    assert (done.code, "no such file or directory" in done.err) == (3, True)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    done = run("encode", "memory://nothing/a.jsonl")
    assert (done.code, "pip install 'embcli[remote]'" in done.err) == (4, True)


def test_a_kind_of_address_whose_package_is_missing(run, home, monkeypatch):
    pytest.importorskip("fsspec")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    done = run("import", "s3://bucket/parts/")
    assert (done.code, "try: pip install s3fs" in done.err) == (4, True), done.err
    message = 'HTTPFileSystem requires "requests" and "aiohttp" to be installed'
    monkeypatch.setattr("fsspec.core.url_to_fs", raising(ImportError(message)))
    done = run("encode", "https://host/a.jsonl")
    assert (done.code, "try: pip install aiohttp" in done.err) == (4, True), done.err


def raising(error):
    def raises(*_):
        raise error

    return raises


def start(*arguments):
    words = [sys.executable, "-m", "embcli", *map(str, arguments)]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def workers_of(process):
    """Processes that were spawned by one."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            command = (status.parent / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if parent == process.pid and b"spawn_main" in command:
            found.append(int(status.parent.name))
    return found


def until(condition):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError("it did not come to that")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_every_record_once_whatever_is_killed(run, home):
    write_corpus(home / "a.jsonl", 3000)
    parts = home / "parts"
    words = ("encode", "a.jsonl", "--to", "parts/", "--part-records", "20", "--workers", "2")
    job = start(*words)
    until(lambda: list(parts.glob("*.parquet")))
    # A worker, whose part is done by another; then all of them.
    os.kill(until(lambda: workers_of(job))[0], signal.SIGKILL)
    until(lambda: len(list(parts.glob("*.parquet"))) > 20)
    left = workers_of(job)
    job.kill()
    _, errors = job.communicate(timeout=60)
    assert "killed by signal 9" in errors
    # Those without a master end by themselves.
    until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and
                          Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left))  # fmt: skip
    done = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.parquet")}
    assert 20 < len(done) < 150
    again = run(*words[:-2])
    assert again.code == 0
    assert f"150 parts ({len(done)} there before)" in again.err
    assert all((parts / name).stat().st_mtime_ns == time for name, time in done.items())
    # What is said of a part may have been about to be written once more.
    assert not list(parts.glob("*.parquet.*.tmp"))
    assert run("import", "parts").code == 0
    run("encode", "a.jsonl", "-c", "whole")
    assert records(run) == records(run, "whole")
    assert len(records(run)) == 3000


SBATCH = r"""#!/bin/bash
# Stands in for sbatch: runs every task of an array at once, and keeps what it was asked.
echo "$*" >> asked
for word; do
    case $word in
        --array=1-*) count=${word#--array=1-} ;;
        --wrap) wrap=yes ;;
    esac
    last=$word
done
if [ -n "${wrap:-}" ]; then bash -c "$last"; exit; fi
for task in $(seq "$count"); do
    SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_COUNT=1 bash "$last" || exit 1
done
echo 4711
"""


@pytest.fixture
def slurm(home):
    """Run the example with what stands in for Slurm."""
    programs = home / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text(SBATCH)
    (programs / "embcli").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m embcli "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)

    def slurm(**variables):
        return subprocess.run(
            ["bash", ROOT / "examples" / "slurm.sbatch"],
            env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", **variables},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return slurm


def test_the_example_for_slurm_runs(run, home, slurm):
    corpus = home / "it's my corpus.jsonl"
    shutil.copy(ROOT / "examples" / "corpus.jsonl", corpus)
    done = slurm(TASKS="2", MODEL="hash", CORPUS=corpus.name, PARTS="it's $HOME parts")
    assert done.returncode == 0, done.stderr
    asked = (home / "asked").read_text().splitlines()
    assert "--array=1-2" in asked[0]
    assert "--dependency=afterany:" in asked[1]
    assert len(records(run)) == len(corpus.read_text().splitlines())


def test_a_task_of_slurm_ends_well_only_if_its_parts_are_there(home, slurm):
    write_corpus(home / "a.jsonl", 30)
    words = {"MODEL": "hash", "CORPUS": "a.jsonl", "PARTS": "p"}
    assert slurm(**words, TASKS="1").returncode == 0
    task = {**words, "SLURM_ARRAY_TASK_ID": "1", "TASKS": "1"}
    # A record that is skipped is no failure.
    with (home / "a.jsonl").open("a") as file:
        file.write("{bad\n")
    done = slurm(**task | {"PARTS": "q"})
    assert (done.returncode, "a.jsonl:31: not JSON" in done.stderr) == (0, True)
    # An input that is not there is one, and has the same exit code.
    assert slurm(**task | {"CORPUS": "gone.jsonl", "PARTS": "r"}).returncode == 3


def test_parts_are_no_input_of_another_encode(run, home):
    write_corpus(home / "a.jsonl", 30)
    (home / "web").mkdir()
    (home / "web" / "manifest.json").write_text('{"id": "m", "text": "of something else"}')
    encode = ("encode", ".", "--to", "parts/", "--part-records", "10")
    assert run(*encode).code == 0
    # Another folder is made, and the first one is made once more.
    assert run("encode", ".", "--to", "others/", "--part-records", "7").code == 0
    done = run(*encode)
    assert "4 parts (4 there before)" in done.err
    assert "passed over 2 folders of parts that an encode made" in done.err
    assert run("encode", ".").code == 0
    assert run("encode", "**/*.json*", "-c", "pattern").code == 0
    assert records(run) == records(run, "pattern")
    assert len(records(run)) == 31
    for argument in ("parts", "parts/*.json"):
        done = run("encode", argument, "-c", "none")
        assert (done.code, "there are only parts that an encode made" in done.err) == (3, True)
    # Who names one wants it.
    assert "30" not in run("encode", "parts/part-00000.parquet", "-c", "named").err.split("new")[0]
    assert len(records(run, "named")) == 10


@pytest.mark.parametrize("names", [("in/a.jsonl", "b.jsonl"), ("in", "b.jsonl"), ("in/*.jsonl",)])
def test_inputs_in_the_folder_of_parts_are_not_passed_over_in_silence(run, home, names):
    (home / "in").mkdir()
    write_corpus(home / "in" / "a.jsonl", 30)
    write_corpus(home / "b.jsonl", 10)
    done = run("encode", *names, "--to", "in/")
    assert (done.code, done.out) == (2, "")
    assert f"in/a.jsonl is in {home / 'in'}, which is to be a folder of parts alone" in done.err
    assert os.listdir("in") == ["a.jsonl"]


def test_parts_at_urls_are_no_input_of_another_encode(run, home):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    write_corpus(home / "a.jsonl", 30)
    try:
        files.pipe("/inputs/a.jsonl", (home / "a.jsonl").read_bytes())
        assert run("encode", "memory://inputs/", "--to", "memory://inputs/parts/").code == 0
        done = run("encode", "memory://inputs/")
        assert (done.code, "passed over 1 folder of parts" in done.err) == (0, True)
        assert len(records(run)) == 30
    finally:
        files.rm("/inputs", recursive=True)


def test_nothing_good_makes_no_collection(run, home):
    write_corpus(home / "a.jsonl", 30)
    run("encode", "a.jsonl", "--to", "parts/")
    path = home / "parts" / "part-00000.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    done = run("import", "parts", "-c", "c")
    assert (done.code, "its checksum differs" in done.err) == (3, True)
    assert run("collections", "list").rows == []


def test_no_secret_is_told_or_kept(run, home):
    for package in ("fsspec", "aiohttp"):
        pytest.importorskip(package)
    done = run("encode", "http://me:hush@127.0.0.1:9/a.jsonl?sig=hush", "--to", "parts/")
    assert (done.code, "http://127.0.0.1:9/a.jsonl: cannot be reached" in done.err) == (3, True)
    assert "hush" not in done.err


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_interrupted_workers_leave_no_drafts(home):
    write_corpus(home / "a.jsonl", 60000)
    words = ("encode", "a.jsonl", "--to", "parts/", "--part-records", "20000", "--workers", "2")
    job = start(*words)
    until(lambda: list((home / "parts").glob("part*.tmp")))
    os.kill(job.pid, signal.SIGINT)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 130, errors
    assert not list((home / "parts").glob("*.tmp"))
