"""Parts: every record exactly once, as one encode would have it."""

import gzip
import json
import os
import pickle
import random
import shutil
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from embcli import Store
from embcli.errors import InputError, ModelError, UsageError
from embcli.formats import ReadOptions
from embcli.pipelines.encode import EncoderOptions, Listeners, encode
from embcli.pipelines.shards import (
    crew,
    encode_part,
    files,
    find_part,
    gather,
    open_encoder,
    part,
    part_name,
    plan_parts,
    read_part,
    read_plan,
)
from embcli.pipelines.shards.gather import gather_parts
from embcli.pipelines.shards.local import encode_parts, shard_of

pytest.importorskip("pyarrow")


def contents(db, collection="default"):
    """All that is stored of records, by id."""
    rows = {}
    with Store(db, readonly=True) as store:
        found = store.collection(collection)
        for batch in found.batches(100):
            ends = np.cumsum(batch.counts)
            for row, id in enumerate(batch.ids):
                vectors = batch.vectors[ends[row] - batch.counts[row] : ends[row]]
                spans = None if batch.spans is None else batch.spans[row].tolist()
                rows[id] = (
                    batch.texts[row], batch.metas[row], batch.sources[row], batch.hashes[row],
                    spans, vectors,
                )  # fmt: skip
        return rows, found.chunking, found.recipe.hash


def assert_same(ours, theirs):
    (ours, *our_kind), (theirs, *their_kind) = ours, theirs
    assert our_kind == their_kind
    assert ours.keys() == theirs.keys()
    for id, (*facts, vectors) in ours.items():
        *others, expected = theirs[id]
        assert facts == others, id
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-6)


def write_corpus(path, count, first=0):
    with path.open("w") as file:
        for n in range(first, first + count):
            record = {"id": f"r{n}", "text": f"The cat number {n} sleeps on sofa {n % 13}.", "n": n}
            file.write(json.dumps(record) + "\n")


@pytest.fixture
def inputs(home):
    """Files of every kind, with what goes wrong in the middle."""
    write_corpus(home / "a.jsonl", 95)
    lines = [b"first line\r\n", b"\r\n", b"  \r\n", "zweite Zeile: ä\r\n".encode(), b"\xff\r\n"]
    (home / "b.txt").write_bytes(b"\xef\xbb\xbf" + b"".join(lines) + b"last without an end")
    lines = [json.dumps({"id": f"c{n}", "text": f"rate of bond {n}"}) for n in range(40)]
    lines[22], lines[31] = '{"id": "r3", "text": "again"}', "{not JSON"
    (home / "c.jsonl").write_text("\n".join(lines))
    with gzip.open(home / "d.jsonl.gz", "wt") as file:
        file.write('{"text": "packed"}\n')
    (home / "e.csv").write_text("id,text\ne1,a tax\ne2,a law\n")
    return ["a.jsonl", "b.txt", "c.jsonl", "d.jsonl.gz", "e.csv"]


def plan_of(inputs, folder="parts", **options):
    options.setdefault("part_records", 20)
    return plan_parts(inputs, folder, **options)


def test_parts_gathered_equal_one_encode(home, inputs):
    problems, more = [], []
    encode(inputs, db="whole.db", listeners=Listeners(problem=problems.append))
    plan, encoder = plan_of(inputs)
    told, ours = [], []
    listeners = Listeners(problem=told.append, more=lambda *counts: more.append(counts))
    report = encode_parts(plan, encoder, listeners=listeners)
    gathered = gather_parts("parts", listeners=replace(listeners, problem=ours.append))
    assert_same(contents("embcli.db"), contents("whole.db"))
    assert set(ours) == set(problems) > set(told)
    assert (gathered.repeated, gathered.skipped) == (1, report.skipped)
    assert (report.malformed, report.parts) == (2, len(plan.parts))
    assert set(more) == {(0, 0)}
    counts = [sum(p.slice.count for p in part if p.slice) for part in plan.parts]
    assert counts[:7] == [20] * 7
    assert max(counts) == 20
    with Store("embcli.db", readonly=True) as store:
        assert not store.inspect()


def test_vectors_are_identical_where_batches_are(home):
    write_corpus(home / "a.jsonl", 50)
    encode("a.jsonl", db="whole.db")
    plan, encoder = plan_of(["a.jsonl"], part_records=50)
    encode_parts(plan, encoder)
    gather_parts("parts")
    ours, theirs = contents("embcli.db")[0], contents("whole.db")[0]
    assert all(np.array_equal(ours[id][-1], theirs[id][-1]) for id in theirs)


@pytest.mark.parametrize(
    "options", [{"chunk": "sentences=1"}, {"options": EncoderOptions(pooling="none")}]
)
def test_several_vectors_a_record(home, options):
    texts = ["One. Two cats. Three. " * (n % 5 + 1) for n in range(30)]
    (home / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    encode("a.jsonl", db="whole.db", **options)
    plan, encoder = plan_of(["a.jsonl"], part_records=7, **options)
    report = encode_parts(plan, encoder)
    assert report.chunks + report.tokens == sum(
        find_part(plan, number).vectors for number in range(len(plan.parts))
    )
    # Records lie across what is read at once.
    sizes = [len(b.ids) for n in range(5) for b in read_part(f"parts/{part_name(n)}", 3)]
    assert sum(sizes) == 30
    assert len(sizes) > 5
    gather_parts("parts")
    assert_same(contents("embcli.db"), contents("whole.db"))


def test_long_metadata_are_not_repeated_for_every_chunk(home):
    record = {"id": "r", "text": "word " * 10_000, "html": "x" * 1_000_000}
    (home / "a.jsonl").write_text(json.dumps(record) + "\n")
    plan, encoder = plan_of(["a.jsonl"], model="hash", chunk="characters=20")
    assert encode_parts(plan, encoder).chunks > 2400
    assert gather_parts("parts").added == 1
    with Store("embcli.db", readonly=True) as store:
        (found,) = store.collection("default").get(["r"])
    assert found.meta == {"html": record["html"]}


def test_the_plan_follows_from_inputs_and_options(home, inputs):
    ours, _ = plan_of(inputs, "ours")
    theirs, _ = plan_of(inputs, "theirs")
    assert ours.hash == theirs.hash == read_plan("ours").hash
    assert pickle.loads(pickle.dumps(ours)).hash == ours.hash
    assert ours.parts == theirs.parts == read_plan("theirs").parts
    again, _ = plan_of(inputs, "ours", part_records=None)
    assert again == ours
    assert shard_of(ours, (2, 3)) == list(range(1, len(ours.parts), 3))
    every = [n for i in range(1, 8) for n in shard_of(ours, (i, 7))]
    assert sorted(every) == list(range(len(ours.parts)))


def test_planners_that_race_agree(home):
    write_corpus(home / "a.jsonl", 500)
    hashes, barrier = [], threading.Barrier(8)

    def plan():
        barrier.wait()
        hashes.append(plan_of(["a.jsonl"], part_records=7)[0].hash)

    threads = [threading.Thread(target=plan) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hashes) == 8
    assert set(hashes) == {read_plan("parts").hash}
    assert os.listdir("parts") == ["manifest.json"]


def test_who_loses_the_race_with_another_plan_is_refused(home, monkeypatch):
    write_corpus(home / "a.jsonl", 10)
    plan_of(["a.jsonl"], "other", part_records=3)
    from embcli.pipelines.shards import folder

    def too_late(self, name, content):
        shutil.copy("other/manifest.json", "parts/manifest.json")

    monkeypatch.setattr(folder._LocalFolder, "create", too_late)
    with pytest.raises(UsageError, match="part-records: 3 → 4"):
        plan_of(["a.jsonl"], part_records=4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "hash"}, "model: static → hash"),
        ({"chunk": "sentences=1"}, "chunk: None"),
        ({"read": ReadOptions(line_ids=True)}, "line_ids: False → True"),
        ({"part_records": 30}, "part-records: 20 → 30"),
    ],
)
def test_another_job_is_refused(home, change, words):
    write_corpus(home / "a.jsonl", 50)
    plan_of(["a.jsonl"])
    with pytest.raises(UsageError, match=words):
        plan_of(["a.jsonl"], **change)


def test_other_inputs_are_refused(home):
    write_corpus(home / "a.jsonl", 50)
    write_corpus(home / "b.jsonl", 5)
    plan_of(["a.jsonl", "b.jsonl"])
    with pytest.raises(UsageError, match=r"b\.jsonl: \d+ bytes → none"):
        plan_of(["a.jsonl"])
    with pytest.raises(UsageError, match="in another order"):
        plan_of(["b.jsonl", "a.jsonl"])
    write_corpus(home / "b.jsonl", 6)
    with pytest.raises(UsageError, match=r"b\.jsonl: \d+ bytes → \d+ bytes"):
        plan_of(["a.jsonl", "b.jsonl"])


def test_an_input_that_changed_under_the_plan_is_refused(home):
    write_corpus(home / "a.jsonl", 50)
    plan, encoder = plan_of(["a.jsonl"])
    encode_part(plan, 0, encoder)
    path = home / "a.jsonl"
    path.write_text(path.read_text().replace("number 33 ", "number 99 "))
    with pytest.raises(InputError, match=r"a\.jsonl is not what it was"):
        encode_part(plan, 1, encoder)
    encode_part(plan, 2, encoder)
    assert find_part(plan, 1) is None
    assert not [name for name in os.listdir("parts") if name.endswith(".tmp")]


def test_only_what_is_missing_is_encoded(home, monkeypatch):
    write_corpus(home / "a.jsonl", 200)
    plan, encoder = plan_of(["a.jsonl"])
    encode_parts(plan, encoder)
    before = {name: (home / "parts" / name).stat().st_mtime_ns for name in os.listdir("parts")}
    parts = home / "parts"
    (parts / part_name(1)).unlink()
    with (parts / part_name(2)).open("r+b") as file:
        file.truncate(1000)
    (parts / "part-00003.json").write_text("{")
    (parts / "part-00004.json").write_text("{}")
    described = json.loads((parts / "part-00000.json").read_text())
    for number, change in enumerate(
        ({"number": 6}, {"bytes": "5"}, {"problems": [{}]}, {"notes": None}, {"seconds": []}), 5
    ):
        (parts / f"part-{number:05d}.json").write_text(
            json.dumps(described | {"number": number} | change)
        )
    (parts / f"{part_name(1)}.0badcafe.tmp").write_bytes(b"left by one that was killed")
    plan, encoder = plan_of(["a.jsonl"])
    report = encode_parts(plan, encoder)
    assert (report.existing, report.encoded, report.reused) == (1, 180, 20)
    assert sorted(os.listdir("parts")) == sorted(before)
    assert (parts / part_name(0)).stat().st_mtime_ns == before[part_name(0)]
    assert json.loads((parts / "manifest.json").read_text())["complete"] is True
    gather_parts("parts")
    assert len(contents("embcli.db")[0]) == 200


def test_a_part_of_something_else_is_refused(home):
    write_corpus(home / "a.jsonl", 40)
    for folder, model in (("parts", "static"), ("other", "hash")):
        plan, encoder = plan_of(["a.jsonl"], folder, model=model)
        encode_parts(plan, encoder)
    for name in (part_name(1), "part-00001.json"):
        shutil.copy(f"other/{name}", f"parts/{name}")
    plan, encoder = plan_of(["a.jsonl"])
    with pytest.raises(UsageError, match=r"part-00001\.parquet is a part of something else"):
        encode_part(plan, 1, encoder)
    problems = []
    report = gather_parts("parts", listeners=Listeners(problem=problems.append))
    assert (report.gathered, report.refused, report.added) == (1, 1, 20)
    assert "something else" in str(problems[0])


def test_a_copy_of_another_part_is_no_part(home):
    write_corpus(home / "a.jsonl", 40)
    encode_parts(*plan_of(["a.jsonl"]))
    for ending in ("parquet", "json"):
        shutil.copy(f"parts/part-00000.{ending}", f"parts/part-00001.{ending}")
    assert gather_parts("parts").missing == [1]
    assert encode_parts(*plan_of(["a.jsonl"])).existing == 1
    assert gather_parts("parts").total == 40


def test_an_encoder_of_another_space_or_version_is_refused(home, monkeypatch):
    write_corpus(home / "a.jsonl", 4)
    plan, _ = plan_of(["a.jsonl"])
    other = plan_of(["a.jsonl"], "other", model="hash")[1]
    with pytest.raises(ModelError, match="is not the one that"):
        encode_part(plan, 0, other)
    assert open_encoder(plan).recipe().hash == plan.recipe.hash
    monkeypatch.setattr("embcli.__version__", "99.0")
    with pytest.raises(ModelError, match=r"and this is 99\.0"):
        open_encoder(plan)
    with pytest.raises(UsageError, match=r"embcli: .* → 99\.0"):
        plan_of(["a.jsonl"])


def test_strict_stops_and_leaves_no_part(home):
    (home / "a.jsonl").write_text('{"text": "good"}\n{bad\n')
    plan, encoder = plan_of(["a.jsonl"])
    with pytest.raises(InputError, match=r"a\.jsonl:2: not JSON"):
        encode_parts(plan, encoder, strict=True)
    assert os.listdir("parts") == ["manifest.json"]
    encode_parts(*plan_of(["a.jsonl"]))
    with pytest.raises(InputError, match=r"a\.jsonl:2: not JSON"):
        encode_parts(*plan_of(["a.jsonl"]), strict=True)


def test_parts_themselves_are_no_input(home):
    (home / "texts").mkdir()
    write_corpus(home / "texts" / "a.jsonl", 30)
    for _ in range(2):
        plan, encoder = plan_of(["texts"], "texts/parts")
        assert [input.name for input in plan.inputs] == ["texts/a.jsonl"]
        encode_parts(plan, encoder)


def test_parts_gathered_one_by_one_in_any_order(home):
    write_corpus(home / "a.jsonl", 180)
    lines = (home / "a.jsonl").read_text().splitlines()
    # What is in the first and second part comes again in the third.
    lines[125] = '{"id": "r5", "text": "again five"}'
    lines[150] = '{"id": "r70", "text": "again seventy"}'
    (home / "a.jsonl").write_text("\n".join(lines))
    encode("a.jsonl", db="whole.db")
    plan, encoder = plan_of(["a.jsonl"], part_records=60)
    encode_part(plan, 2, encoder)
    report = gather_parts("parts")
    assert (report.missing, report.added) == ([0, 1], 60)
    assert report.missing_parts() == "2 of 3 parts are missing: 0, 1"
    encode_part(plan, 0, encoder)
    report = gather_parts("parts")
    assert (report.missing, report.existing, report.repeated) == ([1], 1, 1)
    encode_part(plan, 1, encoder)
    assert gather_parts("parts").repeated == 1
    assert_same(contents("embcli.db"), contents("whole.db"))
    last = gather_parts("parts")
    assert (last.existing, last.records, last.missing) == (3, 0, [])


def test_records_of_an_earlier_encode_are_replaced(home):
    write_corpus(home / "a.jsonl", 40)
    encode("a.jsonl")
    # The same file, turned round: places of old and new records differ.
    lines = (home / "a.jsonl").read_text().splitlines()
    (home / "a.jsonl").write_text("\n".join(reversed(lines)).replace("sofa", "bed"))
    encode("a.jsonl", db="whole.db")
    encode_parts(*plan_of(["a.jsonl"]))
    report = gather_parts("parts")
    assert (report.replaced, report.repeated) == (40, 0)
    assert_same(contents("embcli.db"), contents("whole.db"))


def test_what_is_in_other_places_now_costs_a_look_at_each_part(home, monkeypatch):
    write_corpus(home / "a.jsonl", 200)
    lines = (home / "a.jsonl").read_text().splitlines(keepends=True)
    encode_parts(*plan_parts(["a.jsonl"], "before", part_records=5))
    gather_parts("before")
    random.Random(1).shuffle(lines)
    (home / "a.jsonl").write_text("".join(lines))
    encode_parts(*plan_parts(["a.jsonl"], "parts", part_records=5))
    looked_at = []

    def read_ids(path):
        looked_at.append(path.name)
        return really(path)

    really = gather.read_ids
    monkeypatch.setattr(gather, "read_ids", read_ids)
    report = gather_parts("parts")
    assert (report.total, report.added, report.repeated) == (200, 0, 0)
    assert 20 < len(looked_at) == len(set(looked_at))


def test_a_damaged_part_is_refused_and_the_others_gathered(home):
    write_corpus(home / "a.jsonl", 60)
    encode_parts(*plan_of(["a.jsonl"]))
    path = home / "parts" / part_name(1)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    problems = []
    report = gather_parts("parts", listeners=Listeners(problem=problems.append))
    assert (report.gathered, report.refused, report.added) == (2, 1, 40)
    assert "part-00001.parquet: this is not what was written" in str(problems[0])


def test_a_manifest_that_was_changed_is_refused(home):
    write_corpus(home / "a.jsonl", 10)
    encode_parts(*plan_of(["a.jsonl"]))
    path = home / "parts" / "manifest.json"
    manifest = json.loads(path.read_text())
    for change in ({"part_records": 21}, {"inputs": None}, {"parts": [[{}]]}):
        path.write_text(json.dumps(manifest | change))
        with pytest.raises(InputError, match="not the manifest that was written"):
            read_plan("parts")
    path.write_text(json.dumps(manifest | {"format": 2}))
    with pytest.raises(InputError, match="format 2, and this embcli reads 1"):
        read_plan("parts")
    for content, words in (
        ("[]", "no JSON object"), ("", "no JSON object"), ("{}", "no manifest of an encode"),
        (json.dumps(manifest)[:99], "no JSON object"),
    ):  # fmt: skip
        path.write_text(content)
        with pytest.raises(InputError, match=words) as caught:
            read_plan("parts")
        assert "delete it and give the same embcli encode again" in caught.value.hint
    path.unlink()
    assert encode_parts(*plan_of(["a.jsonl"])).existing == 1


def test_urls_in_and_out(home):
    fsspec = pytest.importorskip("fsspec")
    write_corpus(home / "a.jsonl", 50)
    files = fsspec.filesystem("memory")
    files.pipe("/in/a.jsonl", (home / "a.jsonl").read_bytes())
    files.pipe("/in/b.jsonl.gz", gzip.compress(b'{"id": "z", "text": "packed"}\n'))
    try:
        inputs = ["memory://in/*", f"file://{home}/a.jsonl"]
        plan, encoder = plan_of(inputs, "memory://parts/")
        assert [i.name for i in plan.inputs] == [
            "memory:///in/a.jsonl", "memory:///in/b.jsonl.gz", f"file://{home}/a.jsonl",
        ]  # fmt: skip
        encode_parts(plan, encoder)
        assert encode_parts(*plan_of(inputs, "memory://parts/")).existing == len(plan.parts)
        assert not [name for name in files.ls("/parts", detail=False) if name.endswith(".tmp")]
        report = gather_parts("memory://parts/")
        assert (report.added, report.repeated) == (51, 50)
        assert gather_parts("memory://parts/").existing == len(plan.parts)
        encode(inputs, db="whole.db")
        assert_same(contents("embcli.db"), contents("whole.db"))
        files.pipe("/both/a.jsonl", b'{"text": "one"}')
        for _ in range(2):
            plan, encoder = plan_of(["memory://both/"], "memory://both/parts/")
            assert [input.name for input in plan.inputs] == ["memory:///both/a.jsonl"]
            encode_parts(plan, encoder)
        with pytest.raises(InputError, match="no such file"):
            plan_of(["memory://in/gone.jsonl"], "memory://other/")
        with pytest.raises(UsageError, match="no such kind of URL"):
            plan_of(["nosuch://in/a.jsonl"])
    finally:
        files.rm("/in", recursive=True)
        files.rm("/both", recursive=True)
        files.rm("/parts", recursive=True)


def test_a_server_that_gives_no_ranges(home):
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    write_corpus(home / "a.jsonl", 30)

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.jsonl"
        notes = []
        plan, encoder = plan_of([url], listeners=Listeners(note=notes.append))
        encode_parts(plan, encoder)
        with pytest.raises(InputError, match=r"gone\.jsonl: no such file"):
            plan_of([url.replace("/a.", "/gone.")], "other")
        # A folder whose URL is signed.
        signed = url.replace("/a.jsonl", "/parts/?token=secret")
        assert gather_parts(signed, db="signed.db").added == 30
        server.shutdown()
    assert notes[0] == f"{url} cannot be cut: it is one part"
    assert gather_parts("parts").added == 30


def test_a_part_is_a_file_that_can_be_imported(home):
    from embcli.pipelines.import_ import import_vectors

    write_corpus(home / "a.jsonl", 10)
    encode_parts(*plan_of(["a.jsonl"]))
    import_vectors(["parts/part-00000.parquet"])
    with Store("embcli.db", readonly=True) as store:
        (record,) = store.collection("default").get(["r7"])
        assert record.meta == {"n": 7, "source": "a.jsonl:8", "hash": record.hash}
        assert store.collection("default").recipe.hash == read_plan("parts").recipe.hash


def test_workers_share_the_parts(home):
    write_corpus(home / "a.jsonl", 120)
    (home / "b.jsonl").write_text("{bad\n")
    plan, encoder = plan_of(["a.jsonl", "b.jsonl"], model="hash")
    problems = []
    report = encode_parts(plan, encoder, workers=2, listeners=Listeners(problem=problems.append))
    assert (report.encoded, report.malformed, report.missing) == (120, 1, 0)
    assert len(problems) == 1
    encode(["a.jsonl", "b.jsonl"], db="whole.db", model="hash")
    gather_parts("parts")
    assert_same(contents("embcli.db"), contents("whole.db"))


def deadly(connection, plan, options, number, strict):
    """Stands in for a worker: part 1 kills it."""
    connection.send(True)
    encoder = open_encoder(plan)
    while (part := connection.recv()) is not None:
        if part == 1:
            os.kill(os.getpid(), 9)
        connection.send(encode_part(plan, part, encoder))


def stillborn(connection, plan, options, number, strict):
    """Stands in for a worker that cannot load its model."""
    connection.send("MemoryError: no room")


def test_workers_that_cannot_begin_are_not_hired_for_ever(home, monkeypatch):
    write_corpus(home / "a.jsonl", 60)
    plan, encoder = plan_of(["a.jsonl"], model="hash")
    monkeypatch.setattr(crew, "_work", stillborn)
    notes = []
    with pytest.raises(InputError, match=r"no worker could begin \(MemoryError: no room\)"):
        encode_parts(plan, encoder, workers=2, listeners=Listeners(note=notes.append))
    assert 3 <= sum("died before it began" in note for note in notes) <= 4


def test_a_part_that_kills_every_worker_is_named_and_the_others_are_done(home, monkeypatch):
    write_corpus(home / "a.jsonl", 60)
    plan, encoder = plan_of(["a.jsonl"], model="hash")
    monkeypatch.setattr(crew, "_work", deadly)
    notes = []
    with pytest.raises(InputError, match=r"1 part of 3 could not be .*: 1 \(killed by signal 9\)"):
        encode_parts(plan, encoder, workers=2, listeners=Listeners(note=notes.append))
    assert sum("died at part 1 (killed by signal 9)" in note for note in notes) == 3
    assert [n for n in range(3) if find_part(plan, n)] == [0, 2]


def test_a_full_disk_is_named(home, monkeypatch):
    write_corpus(home / "a.jsonl", 10)
    plan, encoder = plan_of(["a.jsonl"])

    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.PartFile, "close", full)
    with pytest.raises(UsageError, match=r"part-00000\.parquet \(No space left on device\)"):
        encode_part(plan, 0, encoder)
    assert os.listdir("parts") == ["manifest.json"]


def test_who_is_slower_at_a_part_keeps_to_what_is_there(home, monkeypatch):
    write_corpus(home / "a.jsonl", 10)
    plan, encoder = plan_of(["a.jsonl"])
    write = part._write

    def overtaken(*arguments):
        monkeypatch.setattr(part, "_write", write)
        report = write(*arguments)
        assert not encode_part(plan, 0, encoder).existed
        return report

    monkeypatch.setattr(part, "_write", overtaken)
    report = encode_part(plan, 0, encoder)
    assert report.existed
    assert report == replace(find_part(plan, 0), existed=True)
    assert gather_parts("parts").added == 10


def test_real_texts_are_searched_as_if_encoded_at_once(home, shared):
    from embcli.pipelines.search import search

    corpus = shared / "beir" / "cranfield" / "corpus.jsonl"
    encode(corpus, db="whole.db", chunk="sentences=3")
    encode_parts(*plan_of([corpus], chunk="sentences=3", part_records=97))
    report = gather_parts("parts")
    assert report.parts == -(-len(corpus.read_bytes().splitlines()) // 97)
    assert_same(contents("embcli.db"), contents("whole.db"))
    query = "boundary layer of a slender body at supersonic speed"
    ours, theirs = (
        [(hit.id, round(hit.score, 5)) for hit in search(query, db=db, k=20)[0]]
        for db in ("embcli.db", "whole.db")
    )
    assert ours == theirs
