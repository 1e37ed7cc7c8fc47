"""Every format gives back what was written: ids, texts, metadata, and every bit of a vector."""

import csv
import json
from contextlib import closing

import numpy as np
import pytest

from embcli.errors import InputError
from embcli.formats.vectors import (
    READERS,
    WRITERS,
    VectorBatch,
    VectorOptions,
    find_class,
    open_vectors,
)  # fmt: skip
from embcli.formats.vectors.sniff import sniff

WHOLE = {"npz": ".npz", "safetensors": ".safetensors", "jsonl": ".jsonl", "csv": ".csv",
         "projector": ".tsv", "npy": ".npy"}  # fmt: skip
WORDS = {"word2vec": ".vec", "glove": ".txt", "word2vec-binary": ".bin"}
EXTREMES = np.array(
    [[1e-45, -3.4028235e38, 0.1], [-0.0, 1.1754944e-38, 16777217.0], [1e-5, 123456.79, -7.0]],
    np.float32,
)


def write(path, format, vectors, ids, texts=None, metas=None, recipe=None, step=7):
    writer = find_class(WRITERS, format)(path, vectors.shape[1], len(vectors), recipe or {})
    texts, metas = texts or ids, metas or [{}] * len(ids)
    with closing(writer):
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            places = list(range(len(ids)))[part]
            writer.write(VectorBatch(ids[part], vectors[part], texts[part], metas[part], places))


def read(path, **options):
    batches = list(open_vectors(path, VectorOptions(**options)))
    assert all(isinstance(batch, VectorBatch) for batch in batches), batches
    return VectorBatch(
        [id for b in batches for id in b.ids],
        np.concatenate([batch.vectors for batch in batches]),
        [text for b in batches for text in b.texts],
        [meta for b in batches for meta in b.metas],
        [place for b in batches for place in b.places],
    )


def same(one, other):
    return one.dtype == other.dtype and one.tobytes() == np.ascontiguousarray(other).tobytes()


@pytest.mark.parametrize("format", [*WHOLE, *WORDS])
def test_glove(shared, home, format):
    expected = read(shared / "glove25" / "glove25.vec")
    assert expected.vectors.shape == (11_925, 25)
    path = home / f"out{(WHOLE | WORDS)[format]}"
    write(path, format, expected.vectors, expected.ids, step=5000)
    assert sniff(path) == format
    found = read(path)
    assert found.ids == found.texts == expected.ids
    assert same(found.vectors, expected.vectors)
    few = read(path, limit=3)
    assert few.ids == expected.ids[:3]
    assert same(few.vectors, expected.vectors[:3])


@pytest.mark.parametrize("format", [*WHOLE, *WORDS])
def test_cora(shared, home, format):
    vectors = np.load(shared / "cora" / "cora.npz")["X"].astype(np.float32)
    vectors = (
        vectors if format in ("npy", "npz", "safetensors", "word2vec-binary") else vectors[:200]
    )
    ids = [f"paper{number}" for number in range(len(vectors))]
    path = home / f"out{(WHOLE | WORDS)[format]}"
    write(path, format, vectors, ids, step=1000)
    found = read(path)
    assert found.ids == ids
    assert same(found.vectors, vectors)


@pytest.mark.parametrize("format", WHOLE)
def test_naughty_strings(shared, home, format):
    strings = json.loads((shared / "blns" / "blns.json").read_text())
    texts = [text for text in strings if text]
    ids = [f"{number}:{text}" for number, text in enumerate(texts)]
    metas = [
        {"string": text, "n": number, "x": number / 7, "yes": number % 2 == 0, "none": None,
         "deep": {"list": [text, 1, None]}, "title": "", "5": "5", "true": "true", "id": text}
        for number, text in enumerate(texts)
    ]  # fmt: skip
    metas[3] = {}
    vectors = np.random.default_rng(0).standard_normal((len(ids), 4), np.float32)
    path = home / f"out{WHOLE[format]}"
    write(path, format, vectors, ids, texts, metas)
    found = read(path)
    assert found.ids == ids
    assert found.texts == texts
    assert found.metas == metas
    assert same(found.vectors, vectors)


@pytest.mark.parametrize("format", WORDS)
def test_naughty_words(shared, home, format):
    strings = json.loads((shared / "blns" / "blns.json").read_text())
    banned = "\n\r " if format == "word2vec-binary" else "\n\r"
    # "1 000.00" and a vector cannot be told from "1" and a vector with a number too many.
    words = [w for w in dict.fromkeys(strings) if w and not any(c in w for c in banned)]
    words = [w for w in words if w != "1 000.00"]
    assert len(words) > 250
    assert format == "word2vec-binary" or sum(" " in word for word in words) > 100
    vectors = np.random.default_rng(0).standard_normal((len(words), 4), np.float32)
    path = home / f"out{WORDS[format]}"
    write(path, format, vectors, words)
    found = read(path, format=format)
    assert found.ids == words
    assert same(found.vectors, vectors)


@pytest.mark.parametrize("format", WORDS)
def test_words_that_a_format_cannot_hold(home, format):
    with pytest.raises(InputError, match="line break"):
        write(home / "out", format, EXTREMES, ["a", "b\nc", "d"])
    if format == "word2vec-binary":
        with pytest.raises(InputError, match="space"):
            write(home / "out", format, EXTREMES, ["a", "b c", "d"])


@pytest.mark.parametrize("format", [*WHOLE, *WORDS])
def test_extreme_numbers(home, format):
    path = home / f"out{(WHOLE | WORDS)[format]}"
    write(path, format, EXTREMES, ["a", "b", "c"])
    assert same(read(path).vectors, EXTREMES)


@pytest.mark.parametrize("format", ["npz", "safetensors"])
def test_the_recipe_travels_along(home, format):
    recipe = {"model": "modèle", "dim": 3, "normalized": False, "maps": []}
    write(home / "out", format, EXTREMES, ["a", "b", "c"], recipe=recipe)
    assert open_vectors(home / "out", VectorOptions()).recipe == recipe


def test_every_writer_here_has_a_reader():
    assert {*WHOLE, *WORDS} <= {*READERS} & {*WRITERS}


def test_projector_metadata_of_one_column_has_no_header(home):
    write(home / "vectors.tsv", "projector", EXTREMES, ["a\tb", "c\\d", "e\nf"])
    assert (home / "metadata.tsv").read_text() == "a\\tb\nc\\\\d\ne\\nf\n"
    assert read(home / "vectors.tsv").ids == ["a\tb", "c\\d", "e\nf"]
    assert (home / "vectors.tsv").read_text().split("\n")[2] == "1e-05\t123456.79\t-7.0"
    write(home / "w.tsv", "projector", EXTREMES, ["a", "b", "c"], ["x", "y", "z"])
    assert (home / "w_metadata.tsv").read_text() == "id\ttext\na\tx\nb\ty\nc\tz\n"


def test_csv_is_what_the_standard_library_reads(home):
    texts = ['say "a, b"', "two\nlines", "x\ry"]
    write(home / "out.csv", "csv", EXTREMES, ["a", "b", "c"], texts)
    with open("out.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == texts
    assert [np.float32(row["e0"]) for row in rows] == EXTREMES[:, 0].tolist()
