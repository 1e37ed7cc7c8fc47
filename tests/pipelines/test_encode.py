import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from embcli import Store, encode, load_encoder
from embcli.encoders import MODELS
from embcli.errors import InputError, ModelError, UsageError
from embcli.formats import ReadOptions
from embcli.pipelines import encode as pipeline
from embcli.pipelines.encode import Listeners, preview
from embcli.pipelines.encode_to import Encoding, encode_to


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def contents(path="embcli.db", collection="default"):
    """Records and vectors, to be compared."""
    with Store(path, readonly=True) as store:
        source = store.collection(collection)
        records = {record.id: record for record in source.records()}
        vectors = source.vectors(list(records))
    return records, dict(zip(records, vectors.tolist(), strict=True))


@pytest.fixture
def counted(monkeypatch):
    """Every text that goes through an encoder."""
    from embcli.encoders.static import StaticEncoder

    texts = []
    original = StaticEncoder.encode

    def encode(self, inputs, kind="document"):
        texts.extend(inputs)
        return original(self, inputs, kind)

    monkeypatch.setattr(StaticEncoder, "encode", encode)
    return texts


def test_vectors_are_the_encoders(corpus):
    report = encode([corpus])
    assert (report.records, report.encoded, report.reused, report.total) == (5, 5, 0, 5)
    records, vectors = contents()
    expected = load_encoder("static").encode([record.text for record in records.values()])
    np.testing.assert_array_equal(list(vectors.values()), expected)
    assert records["cat"].meta == {"kind": "pet", "year": 2019}


def test_encoding_again_encodes_nothing(corpus, counted):
    encode([corpus])
    counted.clear()
    report = encode([corpus])
    assert counted == []
    assert (report.encoded, report.reused, report.updated) == (0, 5, 0)


def test_changes_are_encoded_and_metadata_refreshed(home, counted):
    path = write(home / "a.jsonl", {"id": 1, "text": "one"}, {"id": 2, "text": "two", "x": 1})
    encode([path])
    write(path, {"id": 1, "text": "uno"}, {"id": 2, "text": "two", "x": 2}, {"id": 3, "text": "3"})
    counted.clear()
    report = encode([path])
    assert counted == ["uno", "3"]
    assert (report.encoded, report.reused, report.updated) == (2, 1, 2)
    records, vectors = contents()
    assert [records[id].text for id in "123"] == ["uno", "two", "3"]
    assert records["2"].meta == {"x": 2}
    np.testing.assert_array_equal(vectors["1"], load_encoder("static").encode(["uno"])[0])


def test_equal_texts_are_encoded_once(home, counted):
    encode([write(home / "a.jsonl", *({"id": i, "text": "same"} for i in range(5)))])
    assert counted == ["same"]
    assert len(contents()[0]) == 5


def test_a_line_put_in_front_costs_one_encoding(home, counted):
    lines = [f"line {i}" for i in range(300)]
    (home / "a.txt").write_text("\n".join(lines))
    encode(["a.txt"])
    counted.clear()
    (home / "a.txt").write_text("\n".join(["new", *lines]))
    encode(["a.txt"])
    assert counted == ["new"]
    assert contents()[0]["a.txt:2"].text == "line 0"


def test_another_collection_of_the_same_space_reuses_vectors(corpus, counted):
    encode([corpus])
    counted.clear()
    report = encode([corpus], collection="copy")
    assert (counted, report.reused) == ([], 5)
    assert contents() == contents(collection="copy")


def test_problems_are_reported_and_the_rest_is_kept(home):
    (home / "a.jsonl").write_text('{"id": 1, "text": "a"}\nbad\n{"id": 2, "text": " "}\n')
    problems = []
    report = encode(["a.jsonl"], listeners=Listeners(problem=problems.append))
    assert [(p.line, p.kind) for p in problems] == [(2, "malformed"), (3, "empty")]
    assert (report.records, report.skipped, report.malformed) == (1, 2, 1)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to see open files")
@pytest.mark.parametrize("to", [None, "out.jsonl"])
def test_a_run_that_stops_closes_what_it_reads(home, monkeypatch, to):
    """Also while somebody holds the exception, and with it the frames that read."""
    monkeypatch.setattr(pipeline, "_RECORDS_AT_ONCE", 1)
    write(home / "a.jsonl", [], *({"text": f"text {i}"} for i in range(300)))
    start = partial(encode_to, to, Encoding(["a.jsonl"], strict=True)) if to else partial(
        encode, ["a.jsonl"], strict=True
    )  # fmt: skip
    with pytest.raises(InputError) as stopped:
        start()
    links = [link for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert stopped.tb
    assert str(home / "a.jsonl") not in [os.readlink(link) for link in links]


def test_strict_stops_at_the_first_problem_and_keeps_what_came_before(home):
    (home / "a.jsonl").write_text('{"id": 1, "text": "a"}\nbad\n{"id": 2, "text": "b"}\n')
    with pytest.raises(InputError, match=r"a\.jsonl:2: not JSON"):
        encode(["a.jsonl"], strict=True)
    assert contents()[0].keys() == {"1"}


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_repeated_ids_are_reported(home, monkeypatch, batch):
    monkeypatch.setattr(pipeline, "_RECORDS_AT_ONCE", batch)
    rows = [{"id": i % 150, "text": f"text {i}"} for i in range(160)]
    problems = []
    report = encode([write(home / "a.jsonl", *rows)], listeners=Listeners(problem=problems.append))
    assert report.malformed == 10
    assert str(problems[3]) == "a.jsonl:154: id '3' was already read at a.jsonl:4"
    assert contents()[0]["3"].text == "text 3"


@pytest.mark.parametrize("batch", [1, 7, 4096])
def test_the_size_of_batches_changes_nothing(examples, monkeypatch, batch):
    encode([examples / "corpus.jsonl"], collection="a")
    monkeypatch.setattr(pipeline, "_RECORDS_AT_ONCE", batch)
    encode([examples / "corpus.jsonl"], db="other.db", collection="a")
    assert contents(collection="a") == contents("other.db", collection="a")


def test_prune_deletes_what_vanished_from_these_files_only(home):
    a = write(home / "a.jsonl", *({"id": f"a{i}", "text": f"text {i}"} for i in range(3)))
    b = write(home / "b.jsonl", {"id": "b", "text": "other"})
    encode([a, b])
    write(a, {"id": "a1", "text": "text 1"})
    assert encode([a]).total == 4
    assert encode([a], prune=True).pruned == 2
    assert contents()[0].keys() == {"a1", "b"}


def test_prune_of_a_directory_notices_deleted_files(home):
    (home / "d").mkdir()
    for name in "ab":
        (home / "d" / f"{name}.txt").write_text(f"text of {name}")
    (home / "d.txt").write_text("beside the folder")
    encode(["d", "d.txt"])
    (home / "d" / "a.txt").unlink()
    assert encode(["d"], prune=True).pruned == 1
    assert contents()[0].keys() == {"d/b.txt:1", "d.txt:1"}


def test_prune_does_nothing_when_part_could_not_be_read(home):
    path = write(home / "a.jsonl", {"id": 1, "text": "a"}, {"id": 2, "text": "b"})
    encode([path])
    path.write_text('{"id": 1, "text": "a"}\n{"id": 2, "text": "b"\n')
    notes = []
    report = encode([path], prune=True, listeners=Listeners(note=notes.append))
    assert (report.pruned, report.total) == (0, 2)
    assert "nothing pruned, because 1 record had to be skipped" in notes


def test_the_models_own_collection_needs_no_naming(corpus):
    encode([corpus], model="hash")
    assert encode([corpus]).reused == 5
    with pytest.raises(UsageError, match=r"another space .*model: hash → static"):
        encode([corpus], model="static")
    assert {"static", "hash"} <= MODELS.keys()


def test_an_unknown_model_leaves_no_file_behind(home, corpus):
    with pytest.raises(ModelError):
        encode([corpus], model="nonesuch")
    with pytest.raises(InputError):
        encode(["nonesuch.jsonl"])
    assert not (home / "embcli.db").exists()


def test_text_in_which_nothing_can_be_encoded(home, monkeypatch):
    from embcli.encoders.static import StaticEncoder

    def encode_nothing(self, inputs, kind="document"):
        return np.zeros((len(inputs), 256), np.float32)

    monkeypatch.setattr(StaticEncoder, "encode", encode_nothing)
    problems = []
    report = encode(
        [write(home / "a.jsonl", {"id": 1, "text": "?"})],
        listeners=Listeners(problem=problems.append),
    )
    assert (report.records, report.skipped, report.malformed) == (0, 1, 0)
    assert str(problems[0]) == "a.jsonl:1: record '1' has nothing to encode"


def test_a_record_changed_by_another_process_meanwhile(home, monkeypatch):
    """Between looking what is missing and writing, somebody deletes what was there."""
    from embcli.store import Collection

    path = write(home / "a.jsonl", {"id": 1, "text": "a"}, {"id": 2, "text": "b"})
    encode([path])
    missing = Collection.missing
    raced = []

    def missing_then_race(self, records):
        result = missing(self, records)
        if not raced:
            raced.append(True)
            with Store("embcli.db") as other:
                other.collection("default").delete(["2"])
        return result

    monkeypatch.setattr(Collection, "missing", missing_then_race)
    report = encode([path])
    assert (report.records, report.encoded) == (2, 1)
    assert contents()[0].keys() == {"1", "2"}


def test_progress_is_told(corpus):
    seen = []
    encode([corpus], listeners=Listeners(progress=lambda *now: seen.append(now)))
    size = corpus.stat().st_size
    assert seen == [(size, size, 5)]


def test_the_run_is_recorded(corpus):
    encode([corpus])
    with Store("embcli.db", readonly=True) as store:
        (run,) = store.runs()
    assert (run.command, run.collection, run.status) == ("encode", "default", "done")
    assert run.counts["encoded"] == 5
    assert run.arguments["inputs"] == [str(corpus)]


def test_preview_shows_and_stores_nothing(home, corpus):
    problems = []
    records = list(preview([corpus], limit=2, listeners=Listeners(problem=problems.append)))
    assert [record.id for record in records] == ["cat", "dog"]
    assert not (home / "embcli.db").exists()


def test_options_reach_the_reader(home):
    (home / "a.csv").write_text("1;x\n2;y\n")
    encode(["a.csv"], read=ReadOptions(header=False, delimiter=";", id_field="1"))
    assert contents()[0].keys() == {"1", "2"}


def test_half_precision(corpus):
    encode([corpus], storage="float16")
    expected = load_encoder("static").encode(["A cat sleeps on the warm sofa."])[0]
    np.testing.assert_allclose(contents()[1]["cat"], expected, atol=2e-4)
    assert encode([corpus]).reused == 5
