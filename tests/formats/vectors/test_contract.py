"""What every format owes: a file that is written is read back as it was."""

import json
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from embcli.formats.vectors import (
    READERS,
    UNCOUNTED,
    WRITERS,
    VectorBatch,
    VectorOptions,
    files_beside,
    find_class,
)
from embcli.formats.vectors.writing import write_vectors

# Formats of words and vectors and nothing else.
WORDS = ("word2vec", "word2vec-binary", "glove")
# Formats that tell what the vectors mean.
WITH_RECIPE = ("npz", "safetensors", "parquet", "arrow", "hdf5", "embcli")
RECIPE = {"model": "made up", "dim": 3, "normalized": False, "maps": [], "weights": "é"}
METAS = [
    {"year": 2020, "title": 'a\tb\nc"d', "open": True, "score": 0.1, "tags": ["x", "y"]},
    {"year": -(2**62), "open": False, "score": 3, "tags": [], "nothing": None},
    {},
    {"year": 1, "id": "not the id", "text": "not the text", "vector": [1], "": "no name"},
    {"big": 2**80, "mixed": "x", "deep": {"a": [1, {"b": None}]}, "score": -1e300},
    {"mixed": 5, "empty": "", "é": "😀", "list": [1, "a", None], "meta": {"a": 1}},
]
IDS = ["a", "b b", "ç", "1", "😀", "x/y"]


@pytest.fixture(params=[name for name in WRITERS if name in READERS])
def format(request):
    module, _, _ = WRITERS[request.param].partition(":")
    if find_spec(f"embcli.formats.vectors.{module}") is None:
        pytest.skip(f"no module {module} here")
    if module in ("arrow_writers", "hdf5"):
        pytest.importorskip({"arrow_writers": "pyarrow", "hdf5": "h5py"}[module])
    return request.param


def write(format, path, *batches, recipe=RECIPE, counted=True):
    rows = sum(len(batch.ids) for batch in batches)
    dim = batches[0].vectors.shape[1]
    settings = {**recipe, "dim": dim}
    count = rows if counted else None
    assert write_vectors(path, format, batches, dim=dim, count=count, recipe=settings) == rows


def ids_for(format):
    """Ids that a format can hold: a space ends a word in some."""
    return [id.replace(" ", "_") for id in IDS] if format in WORDS else IDS


def reader(format, path, **options):
    if format == "npy":
        options["sidecar"] = path.with_name(f"{path.name}.jsonl")
    return find_class(READERS, format)(path, VectorOptions(format=format, **options))


def joined(batches):
    batches = list(batches)
    assert all(isinstance(batch, VectorBatch) for batch in batches), batches
    columns = ("ids", "texts", "metas", "places")
    ids, texts, metas, places = (
        [value for batch in batches for value in getattr(batch, name)] for name in columns
    )
    return VectorBatch(ids, np.concatenate([b.vectors for b in batches]), texts, metas, places)


def batch(ids, vectors, texts=None, metas=None):
    n = len(ids)
    places = list(range(1, n + 1))
    return VectorBatch(ids, vectors, texts or [""] * n, metas or [{}] * n, places)


def told_apart(value):
    """Make Python tell true from 1; whole numbers may come back as floats that are the same."""
    if isinstance(value, dict):
        return {key: told_apart(item) for key, item in value.items()}
    if isinstance(value, list):
        return [told_apart(item) for item in value]
    return str(value) if isinstance(value, bool) else value


def rows(whole, start, end):
    return VectorBatch(
        whole.ids[start:end], whole.vectors[start:end], whole.texts[start:end],
        whole.metas[start:end], whole.places[start:end],
    )  # fmt: skip


@pytest.mark.parametrize("counted", [True, False])
def test_records_come_back_as_they_were(home, format, counted):
    tiny, most = np.finfo(np.float32).tiny, np.finfo(np.float32).max
    vectors = np.array(
        [[0.1, -0.0, 1], [tiny, most, -most], [1e-45, 1 / 3, 2], [0, 0, 0], [1, 2, 3], [np.pi] * 3],
        np.float32,
    )
    texts = ["one", "", "two\nlines\ttab", "NULL", "😀 \u2028", " spaces "]
    ids = ids_for(format)
    whole = batch(ids, vectors, texts, METAS)
    path = home / "vectors.x"
    write(format, path, rows(whole, 0, 2), rows(whole, 2, 6), counted=counted)
    assert {path, *files_beside(path, format)} == {*home.iterdir()}
    opened = reader(format, path)
    assert (opened.dim, opened.count in (6, None)) == (3, True)
    found = joined(opened)
    assert found.ids == ids
    assert found.vectors.dtype == np.float32
    assert found.vectors.tobytes() == vectors.tobytes()
    if format not in WORDS:
        assert found.texts == texts
        assert list(map(told_apart, found.metas)) == list(map(told_apart, METAS))
    if format in WITH_RECIPE:
        assert opened.recipe == RECIPE


def test_only_the_first_records(home, format):
    whole = batch([f"w{n}" for n in range(20)], np.arange(60, dtype=np.float32).reshape(20, 3))
    write(format, home / "vectors.x", whole)
    found = joined(reader(format, home / "vectors.x", limit=7))
    assert found.ids == whole.ids[:7]
    np.testing.assert_array_equal(found.vectors, whole.vectors[:7])


def test_files_made_at_once_are_files_made_in_batches(home, format):
    if format in UNCOUNTED and format != "faiss":
        pytest.skip("the parts of the file may lie otherwise")
    whole = batch(ids_for(format), np.arange(18, dtype=np.float32).reshape(6, 3))
    for name, parts in (("one", [(0, 6)]), ("two", [(0, 1), (1, 6)])):
        (home / name).mkdir()
        write(format, home / name / "vectors.x", *(rows(whole, *part) for part in parts))
    one, two = (
        {path.name: path.read_bytes() for path in (home / name).iterdir()}
        for name in ("one", "two")
    )
    if format != "npz":  # archives note the time
        assert one == two


def test_glove(home, shared, format):
    with (shared / "glove25" / "glove25.bin").open("rb") as file:
        count, dim = map(int, file.readline().split())
        words, vectors = [], np.empty((count, dim), np.float32)
        for row in range(count):
            word = b"".join(iter(lambda: file.read(1), b" "))
            words.append(word.lstrip(b"\n").decode())
            vectors[row] = np.frombuffer(file.read(4 * dim), "<f4")
    whole = batch(words, vectors, words)
    write(format, home / "glove.x", rows(whole, 0, 5000), rows(whole, 5000, count))
    found = joined(reader(format, home / "glove.x"))
    assert found.ids == words
    assert found.vectors.tobytes() == vectors.tobytes()
    assert found.texts == words


def test_cora(home, shared, format):
    data = np.load(shared / "cora" / "cora.npz")
    # All of them where that takes no time.
    features = data["X"][: None if format in UNCOUNTED else 200]
    whole = batch([str(n) for n in range(len(features))], features)
    write(format, home / "cora.x", whole)
    found = joined(reader(format, home / "cora.x"))
    assert found.vectors.tobytes() == features.tobytes()
    assert found.ids == whole.ids


def test_naughty_strings(home, shared, format):
    strings = json.loads((shared / "blns" / "blns.json").read_text())
    texts = list(dict.fromkeys(text for text in strings if text and "\0" not in text))
    if format in WORDS:  # a word is what stands before the numbers, on one line
        texts = [text for text in texts if text.isalnum()]
    vectors = np.random.default_rng(0).standard_normal((len(texts), 2)).astype(np.float32)
    whole = replace(batch(texts, vectors, texts), metas=[{"s": text} for text in texts])
    write(format, home / "blns.x", whole)
    found = joined(reader(format, home / "blns.x"))
    assert found.ids == texts
    assert found.texts == texts
    assert found.vectors.tobytes() == vectors.tobytes()
    if format not in WORDS:
        assert found.metas == whole.metas
