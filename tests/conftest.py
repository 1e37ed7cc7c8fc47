"""The runner, an isolated home, and small corpora."""

import io
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from embcli.cli import main

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"

os.environ["HF_HUB_OFFLINE"] = "1"
# As commands do that share their work among threads, if NumPy is not imported yet.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Nothing in the suite is timed: a machine may be busy with something else.
settings.register_profile("embcli", deadline=None)
settings.load_profile("embcli")


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def rows(self):
        """The lines of stdout as JSON."""
        return [json.loads(line) for line in self.out.split("\n") if line]


class _Stream(io.TextIOWrapper):
    """A standard stream that says whether it is a terminal."""

    tty = False

    def isatty(self):
        return self.tty


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Every test works in an empty folder, with no settings of the user's."""
    monkeypatch.chdir(tmp_path)
    for name in ("EMBCLI_DB", "EMBCLI_DEBUG", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def run(monkeypatch):
    """Run a command line in this process: run("search", "query", stdin=..., tty=...)."""

    def run(*arguments, stdin=b"", tty=False):
        raw = [io.BytesIO(stdin.encode() if isinstance(stdin, str) else stdin)]
        raw += [io.BytesIO(), io.BytesIO()]
        with monkeypatch.context() as patch:
            streams = []
            for name, buffer in zip(("stdin", "stdout", "stderr"), raw, strict=True):
                stream = io.BufferedReader(buffer) if name == "stdin" else buffer
                streams.append(_Stream(stream, encoding="utf-8", newline="\n"))
                streams[-1].tty = tty
                patch.setattr(sys, name, streams[-1])
            code = main([str(argument) for argument in arguments])
            for stream in streams[1:]:
                stream.flush()
        out, err = (buffer.getvalue().decode() for buffer in raw[1:])
        return Result(code, out, err)

    return run


@pytest.fixture
def disk(monkeypatch):
    """Stand in for servers: what memory:// and postgresql:// hold, in memory."""
    from embcli import config, servers
    from tests.servers import memory_server

    disk = memory_server.Disk()
    monkeypatch.setattr(memory_server.Memory, "disk", disk)
    monkeypatch.setattr(config, "SERVERS", (*config.SERVERS, "memory"))
    monkeypatch.setitem(sys.modules, "embcli.servers.memory", memory_server)
    for scheme in ("memory", "postgresql"):
        adapter = ("memory:Memory", "numpy", "nothing")
        monkeypatch.setitem(servers._ADAPTERS, scheme, adapter)
    return disk


@pytest.fixture
def examples(home):
    """A copy of the examples, where the commands shown in help expect them."""
    import shutil

    shutil.copytree(ROOT / "examples", home / "examples")
    return home / "examples"


@pytest.fixture
def corpus(home):
    """Five records on two subjects, as JSON Lines."""
    records = [
        {"id": "cat", "text": "A cat sleeps on the warm sofa.", "kind": "pet", "year": 2019},
        {"id": "dog", "text": "The dog barks at the postman.", "kind": "pet", "year": 2021},
        {"id": "bond", "text": "Bond prices fell as interest rates rose.", "kind": "money"},
        {"id": "bank", "text": "The central bank raised its rate.", "kind": "money", "year": 2022},
        {"id": "tax", "text": "Parliament voted for an income tax.", "kind": "law", "year": 2020},
    ]  # fmt: skip
    path = home / "corpus.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def shared():
    """The folder of real data; tests that need it are skipped in a user's clone."""
    if not SHARED.is_dir():
        pytest.skip("needs the project's shared data folder, which is not part of the repository")
    return SHARED


def store_words(db, collection, words, vectors, metas=None):
    """Make a collection of word vectors as `embcli import` does."""
    import hashlib

    from embcli import Recipe, Record, Store

    recipe = Recipe(
        {
            "model": collection,
            "dim": vectors.shape[1],
            "normalized": False,
            "imported": f"sha256:{hashlib.sha256(vectors.tobytes()).hexdigest()}",
            "maps": [],
        }
    )
    metas = metas or [{}] * len(words)
    with Store(db) as store:
        records = [Record(word, word, meta) for word, meta in zip(words, metas, strict=True)]
        store.create_collection(collection, recipe).add(records, vectors)


@pytest.fixture
def family(home):
    """A store with a collection "words": royalty and gender as two directions, and a third."""
    import numpy as np

    words = ["the", "man", "woman", "king", "queen", "Queen", "apple", "pear"]
    vectors = np.array(
        [
            [1, 1, 1, 1], [0, 2, 1, 0], [0, -2, 1, 0], [3, 2, 1, 0], [3, -2, 1, 0],
            [2, -2, 1, 2], [0, 0.1, 0, 4], [0, -0.1, 0, 5],
        ],
        np.float32,
    )  # fmt: skip
    store_words(home / "embcli.db", "words", words, vectors)
    return home / "embcli.db"


@pytest.fixture(scope="session")
def gnews(tmp_path_factory):
    """A store with 13,784 of the Google News vectors."""
    import numpy as np

    if not SHARED.is_dir():
        pytest.skip("needs the project's shared data folder, which is not part of the repository")
    path = tmp_path_factory.mktemp("gnews") / "words.db"
    with np.load(SHARED / "words" / "gnews13k.npz") as data:
        store_words(path, "gnews", data["words"].tolist(), data["vecs"])
    return path
