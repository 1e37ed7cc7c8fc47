"""Disks that are full, files that may not be written, and files that are something else."""

import os
import socket
import subprocess

import pytest

from tests.faults.jobs import HASH
from tests.faults.kit import contents, same, unsound
from tests.faults.launcher import SMALL

NOBODY = 65534
FORMATS = ("table", "json", "ndjson", "csv", "tsv", "ids")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become nobody or to mount")


def one_line(done, code, *words):
    """It ended as it should, with one line that says why."""
    assert done.code == code, done
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in errors[0], errors[0]


@pytest.fixture
def small_disk(home):
    """A file system of a megabyte, and a function that makes it larger."""
    folder = home / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")

    def grow():
        subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)

    yield folder, grow
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("limit", [1 << 12, 1 << 17])
def test_a_store_that_may_not_grow(launcher, corpus, whole, home, limit):
    """RLIMIT_FSIZE: one line, nothing torn, and the same command does the rest."""
    done = launcher.run(
        "encode", corpus, *HASH, cwd=home, limits={"RLIMIT_FSIZE": limit}, settings=SMALL
    )
    one_line(done, 5, "embcli.db")
    assert unsound(home / "embcli.db") is None
    stored = contents(home / "embcli.db").records
    assert stored.keys() < whole.records.keys()
    assert launcher.run("encode", corpus, *HASH, cwd=home).code == 0
    assert same(contents(home / "embcli.db"), whole) is None


def test_a_full_disk_and_then_room(launcher, corpus, whole, small_disk):
    folder, grow = small_disk
    done = launcher.run("encode", corpus, *HASH, "-d", folder / "s.db", cwd=folder, settings=SMALL)
    one_line(done, 5, "the disk is full", "nothing was lost")
    assert unsound(folder / "s.db") is None
    assert len(contents(folder / "s.db").records) < 400
    grow()
    done = launcher.run("encode", corpus, *HASH, "-d", folder / "s.db", cwd=folder)
    assert done.code == 0, done.err
    found = contents(folder / "s.db")
    assert found.records.keys() == whole.records.keys()


@pytest.mark.parametrize(
    "words",
    [
        ("export", "disk/v.npz"), ("export", "disk/v.jsonl"), ("export", "disk/v.npy"),
        ("export", "disk/v.db", "--format", "embcli"), ("export", "disk/v.safetensors"),
        ("export", "disk/v.tsv", "--format", "projector"), ("export", "disk/v.vec"),
        ("backup", "disk/copy.db"), ("search", "x", "-k", "400", "--full", "-o", "disk/hits.json"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_no_half_file_on_a_full_disk(launcher, whole, small_disk, home, words):
    folder, _ = small_disk
    (folder / "filler").write_bytes(bytes((1 << 20) - (1 << 14)))
    done = launcher.run(*words, "-d", "whole.db", cwd=home)
    one_line(done, 5 if ".db" in words[1] else 2, "disk")
    assert [path.name for path in folder.iterdir()] == ["filler"]


@pytest.mark.parametrize("format", FORMATS)
def test_results_that_cannot_be_written(launcher, whole, home, format):
    words = ("search", "x", "-d", "whole.db", "-f", format)
    one_line(launcher.run(*words, cwd=home, out="/dev/full"), 2, "cannot write the results")
    one_line(launcher.run(*words, "-o", "/dev/full", cwd=home), 2, "cannot write /dev/full")


@as_root
@pytest.mark.parametrize(
    ("mode", "folder_mode", "reads", "writes"),
    [
        (0o444, 0o777, 0, "read-only"),
        (0o444, 0o555, 0, "read-only"),
        (0o666, 0o555, 0, "read-only"),
        (0o000, 0o777, 5, ""),
        (0o666, 0o000, 5, ""),
    ],
)
def test_what_nobody_may_do(launcher, whole, home, mode, folder_mode, reads, writes):
    """Reading works wherever the file may be read; writing says what forbids it."""
    folder = home / "theirs"
    folder.mkdir()
    (home / "whole.db").rename(folder / "whole.db")
    (folder / "whole.db").chmod(mode)
    for path in [home, *home.parents][:-1]:
        if not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o001)
    folder.chmod(folder_mode)
    try:
        words = ("search", "x", "-d", folder / "whole.db", "-f", "ids")
        done = launcher.run(*words, cwd="/", user=NOBODY)
        if reads:
            one_line(done, reads, "whole.db")
        else:
            assert (done.code, len(done.out.splitlines()), done.err) == (0, 10, "")
        words = ("collections", "rename", "default", "new", "-d", folder / "whole.db")
        one_line(launcher.run(*words, cwd="/", user=NOBODY), 5, "whole.db", writes)
    finally:
        folder.chmod(0o755)
    assert same(contents(folder / "whole.db"), whole) is None


def _fifo(path):
    os.mkfifo(path)


def _socket(path):
    server = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(path.parent)  # names of sockets are short
    server.bind(path.name)
    os.chdir(here)
    server.close()


def _folder(path):
    path.mkdir()


@pytest.mark.parametrize(
    "make", [_fifo, _socket, _folder, None], ids=["fifo", "socket", "folder", "device"]
)
@pytest.mark.parametrize(
    "words", [("search", "x"), ("encode", "corpus.jsonl"), ("collections", "list"), ("vacuum",)]
)
def test_stores_that_are_no_files(launcher, corpus, home, make, words):
    """Nothing hangs, nothing is written into nowhere."""
    path = "/dev/null" if make is None else home / "odd.db"
    if make is not None:
        make(path)
    one_line(launcher.run(*words, "-d", path, cwd=home), 5, str(path))


@pytest.mark.parametrize("words", [("search", "x"), ("encode", "corpus.jsonl"), ("vacuum",)])
def test_a_store_in_a_folder_that_is_not_there(launcher, corpus, home, words):
    done = launcher.run(*words, "-d", home / "none" / "s.db", cwd=home)
    one_line(done, 5, "none/s.db")
    assert not (home / "none").exists()
