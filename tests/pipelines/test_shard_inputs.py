"""Inputs of parts: that they are still what was planned, and what is kept of their names."""

import errno
import gzip
import json
import os
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from embcli import Store
from embcli.errors import InputError, StoreError, UsageError
from embcli.formats.remote import without_secrets
from embcli.pipelines.encode import Listeners, encode
from embcli.pipelines.shards import crew, encode_part, folder, part_name, plan_parts, read_plan
from embcli.pipelines.shards import pieces as pieces_module
from embcli.pipelines.shards.gather import gather_parts
from embcli.pipelines.shards.local import encode_parts

pytest.importorskip("pyarrow")


def jsonl(word, count=30):
    rows = [{"id": f"r{n}", "text": f"{word} number {n:02d}"} for n in range(count)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(word):
    import io

    import pyarrow as pa
    from pyarrow.parquet import write_table

    buffer = io.BytesIO()
    rows = {"id": [f"r{n}" for n in range(30)], "text": [f"{word} {n:02d}" for n in range(30)]}
    write_table(pa.table(rows), buffer, compression="none")
    return buffer.getvalue()


def table(word):
    return b"id,text\n" + b"".join(f"r{n},{word} {n:02d}\n".encode() for n in range(30))


def packed(word):
    # Stored as it is, so that all words of a length give files of a size.
    return gzip.compress(jsonl(word), compresslevel=0, mtime=0)


KINDS = [("a.jsonl", jsonl), ("a.parquet", parquet), ("a.csv", table), ("a.jsonl.gz", packed)]


def plan_of(inputs, folder="parts", **options):
    return plan_parts(inputs, folder, part_records=10, **options)


@pytest.mark.parametrize(("name", "make"), KINDS)
def test_another_content_of_the_same_size_is_refused(home, name, make):
    path = home / name
    path.write_bytes(make("cat"))
    plan, encoder = plan_of([name])
    encode_part(plan, len(plan.parts) - 1, encoder)
    path.write_bytes(make("dog"))
    assert path.stat().st_size == plan.inputs[0].size
    with pytest.raises(UsageError, match=f"planned for something else .{name}: its content"):
        plan_of([name])
    # Who planned before it changed, or reads the plan, finds out when it comes to it.
    for known in (plan, read_plan("parts")):
        (home / "parts").joinpath(f"part-{0:05d}.json").unlink(missing_ok=True)
        with pytest.raises(InputError, match="is not what it was"):
            encode_part(known, 0, encoder)
    other, _ = plan_of([name], "other")
    assert other.hash != plan.hash
    path.write_bytes(make("cat"))
    assert encode_parts(*plan_of([name])).parts == len(plan.parts)
    assert plan_of([name], "third")[0].hash == plan.hash


def test_damage_in_the_middle_of_parquet_costs_rows_and_not_parts(home):
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile, write_table

    rows = {"id": [f"r{n}" for n in range(3000)], "text": [f"cat {n:04d}" for n in range(3000)]}
    layout = {"row_group_size": 500, "compression": "none", "use_dictionary": False}
    write_table(pa.table(rows), "a.parquet", **layout)
    page = ParquetFile("a.parquet").metadata.row_group(4).column(1).data_page_offset
    content = bytearray((home / "a.parquet").read_bytes())
    content[page : page + 60] = b"\xff" * 60
    (home / "a.parquet").write_bytes(content)
    (home / "b.jsonl").write_bytes(jsonl("dog").replace(b'"r', b'"s'))

    problems = []
    parts = plan_parts(["a.parquet", "b.jsonl"], "parts", part_records=500)
    encode_parts(*parts, listeners=Listeners(problem=problems.append))
    (problem,) = problems
    assert str(problem).startswith("a.parquet:2001: cannot be read (")
    assert gather_parts("parts").records == 2530


def test_what_was_only_touched_is_read_again_and_good(home, monkeypatch):
    (home / "a.parquet").write_bytes(parquet("cat"))
    plan, encoder = plan_of(["a.parquet"])
    read = []
    checksum = pieces_module.checksum
    monkeypatch.setattr(pieces_module, "checksum", lambda s: read.append(s.name) or checksum(s))
    pieces_module._checksum_once.cache_clear()
    encode_part(plan, 0, encoder)
    assert read == []
    os.utime("a.parquet", ns=(1, 1))
    for number in (1, 2):
        encode_part(plan, number, encoder)
    assert read == ["a.parquet"]
    plan_of(["a.parquet"])


def test_what_changes_while_it_is_read_makes_no_part(home, monkeypatch):
    from embcli.pipelines.shards import part

    (home / "a.csv").write_bytes(table("cat"))
    plan, encoder = plan_of(["a.csv"])

    class Reader(part.Reader):
        def __iter__(self):
            yield from super().__iter__()
            (home / "a.csv").write_bytes(table("dog"))
            os.utime("a.csv", ns=(1, 1))

    monkeypatch.setattr(part, "Reader", Reader)
    with pytest.raises(InputError, match="is not what it was"):
        encode_part(plan, 0, encoder)
    assert os.listdir("parts") == ["manifest.json"]


@pytest.mark.parametrize(("name", "make"), KINDS)
def test_another_content_at_a_url_is_refused(home, name, make):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    url = f"memory://changing/{name}"
    try:
        files.pipe(f"/changing/{name}", make("cat"))
        plan, encoder = plan_of([url])
        files.pipe(f"/changing/{name}", make("dog"))
        with pytest.raises(UsageError, match="its content"):
            plan_of([url])
        with pytest.raises(InputError, match="is not what it was"):
            encode_part(plan, 0, encoder)
    finally:
        files.rm("/changing", recursive=True)


class Files(ThreadingHTTPServer):
    """Serves `files`, some of them in ranges; asks for a user if there is one."""

    def __init__(self, files, *, ranges=True, user=None):
        self.files, self.ranges, self.user = files, ranges, user
        self.breaks_off = False
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *reason):
        self.shutdown()
        super().__exit__(*reason)

    def url(self, name, user=""):
        return f"http://{user}127.0.0.1:{self.server_port}/{name}"


class Answer(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, body):
        path, _, query = self.path.partition("?")
        content = self.server.files.get(path.lstrip("/"))
        code = 200 if content is not None else 404
        if self.server.user and self.server.user != query:
            code, content = 403, b""
        content = content or b""
        asked = self.headers.get("Range", "")
        if asked and self.server.ranges and code == 200:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            code, content = 206, content[int(first) : int(last) + 1]
        self.send_response(code)
        # This says nothing, and this one lies: what counts is what is done.
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", str(zlib.crc32(content)) if code == 200 else "of a range")
        self.end_headers()
        if body:
            self.wfile.write(content[: len(content) // 2] if self.server.breaks_off else content)


@pytest.fixture
def served():
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    return {"a.jsonl": jsonl("cat"), "b.jsonl": jsonl("dog")}


@pytest.mark.parametrize(("ranges", "parts"), [(True, 3), (False, 1)])
def test_only_servers_that_give_ranges_have_files_cut(served, ranges, parts):
    notes = []
    with Files(served, ranges=ranges) as server:
        url = server.url("a.jsonl")
        plan, encoder = plan_of([url], listeners=Listeners(note=notes.append))
        assert len(plan.parts) == parts
        encode_parts(plan, encoder)
    assert (f"{url} cannot be cut: it is one part" in notes) is not ranges
    assert gather_parts("parts").added == 30


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize(("name", "make"), KINDS)
def test_what_breaks_off_makes_no_part(served, name, make, ranges):
    if name == "a.parquet" and not ranges:
        pytest.skip("Parquet is not read from beginning to end")
    with Files({name: make("cat")}, ranges=ranges) as server:
        plan, encoder = plan_of([server.url(name)])
        server.breaks_off = True
        with pytest.raises(InputError, match=f"{name}: cannot be re"):
            encode_part(plan, 0, encoder)
        assert os.listdir("parts") == ["manifest.json"]
        server.breaks_off = False
        encode_parts(plan, encoder)
    assert gather_parts("parts").added == 30


@pytest.mark.parametrize(("name", "make"), KINDS)
def test_what_cannot_be_opened_is_not_planned(home, monkeypatch, name, make):
    (home / name).write_bytes(make("cat"))
    really_open = Path.open

    def refuse(path, *arguments, **named):
        # Root may read whatever there is.
        if Path(path).name == name:
            raise PermissionError(errno.EACCES, "Permission denied")
        return really_open(path, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        patch.setattr("pyarrow.parquet.ParquetFile", refuse)
        with pytest.raises(InputError, match=rf"{name}: cannot be \w+ \(.*Permission denied"):
            plan_of([name])
    encode_parts(*plan_of([name]))
    assert gather_parts("parts").added == 30


def test_secrets_of_urls_are_kept_nowhere(home, served):
    notes, problems = [], []
    served["a.jsonl"] += b"{bad\n"
    listeners = Listeners(note=notes.append, problem=problems.append)
    with Files(served, user="X-Sig=hush") as server:
        urls = [server.url(f"{name}?X-Sig=hush") for name in ("a.jsonl", "b.jsonl")]
        names = [server.url(name) for name in ("a.jsonl", "b.jsonl")]
        plan, encoder = plan_of(urls, listeners=listeners)
        assert [input.name for input in plan.inputs] == names
        encode_parts(plan, encoder, listeners=listeners)
        assert encode_parts(*plan_of(urls)).existing == len(plan.parts)
        encode(urls, listeners=listeners)
        wrong = server.url("a.jsonl?X-Sig=hush-hush")
        with pytest.raises(InputError, match=r"a\.jsonl: cannot be reached \(403") as caught:
            plan_of([wrong], "other")
        problems.append(caught.value)
        # Without the command line, nothing knows the way in.
        os.remove("parts/part-00000.json")
        with pytest.raises(InputError, match="403") as caught:
            encode_part(read_plan("parts"), 0, encoder)
        problems.append(caught.value)
    with Store("embcli.db", readonly=True) as store:
        (record,) = store.collection("default").get(["r3"])
        assert record.source == f"{names[0]}:4"
    assert problems
    told = "\n".join([*notes, *map(str, problems)])
    assert "hush" not in told
    for path in [*home.rglob("*.json"), *home.rglob("*.parquet"), *home.glob("embcli.db*")]:
        assert b"hush" not in path.read_bytes(), path


def test_urls_that_differ_in_their_query_alone_are_two_inputs(served):
    with Files(served | {"get": jsonl("cat", 10)}) as server:
        urls = [server.url(f"get?file={n}.jsonl") for n in (1, 2)]
        plan, _ = plan_of(urls)
        first = server.url("get")
        assert [input.name for input in plan.inputs] == [first, f"{first}#2"]
        assert [input.source.format for input in plan.inputs] == ["jsonl", "jsonl"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:pw@host/a.jsonl?x=1#y", "http://host/a.jsonl"),
        ("https://token@host:8080/a@b.jsonl", "https://host:8080/a@b.jsonl"),
        ("https://host?x=/a@b", "https://host"),
        ("s3://key:secret@bucket/a?.jsonl", "s3://bucket/a?.jsonl"),
        ("abfs://box@account.dfs.core.windows.net/a", "abfs://box@account.dfs.core.windows.net/a"),
        ("a@b:c?d", "a@b:c?d"),
    ],
)
def test_what_is_left_out_of_urls(url, shown):
    assert without_secrets(url) == shown


def test_a_server_that_is_not_there_is_not_called_a_missing_file(home):
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    with pytest.raises(InputError, match=r"a\.jsonl: cannot be reached \(.*onnect"):
        plan_of(["http://127.0.0.1:9/a.jsonl"])


@pytest.mark.skipif(os.name == "nt", reason="names there are Unicode")
def test_names_that_are_not_utf8(home):
    name = os.fsdecode(b"a\xff.jsonl")
    try:
        (home / name).write_bytes(jsonl("cat"))
    except OSError:
        pytest.skip("this file system takes none")
    encode([name], db="whole.db")
    plan, encoder = plan_of([name])
    encode_parts(plan, encoder)
    assert encode_parts(*plan_of([name])).existing == 3
    gather_parts("parts")
    sources = []
    for db in ("embcli.db", "whole.db"):
        with Store(db, readonly=True) as store:
            sources.append([record.source for record in store.collection("default").get(["r7"])])
    assert sources == [["a\\xff.jsonl:8"]] * 2


def test_workers_that_do_not_share_the_folder_are_refused(home):
    fsspec = pytest.importorskip("fsspec")
    (home / "a.jsonl").write_bytes(jsonl("cat"))
    try:
        plan, encoder = plan_of(["a.jsonl"], "memory://mine/alone/", model="hash")
        with pytest.raises(StoreError, match="is not there as it was planned"):
            encode_parts(plan, encoder, workers=2)
    finally:
        fsspec.filesystem("memory").rm("/mine", recursive=True)


def test_parts_that_do_not_come_here_are_an_error(home, monkeypatch):
    (home / "a.jsonl").write_bytes(jsonl("cat"))
    plan, encoder = plan_of(["a.jsonl"], model="hash")
    encode = crew.Crew.encode

    def lossy(self, numbers):
        for report in encode(self, numbers):
            os.remove(f"parts/{part_name(report.number)}")
            yield report

    monkeypatch.setattr(crew.Crew, "encode", lossy)
    with pytest.raises(StoreError, match="3 parts said to be done are not there: 0, 1, 2"):
        encode_parts(plan, encoder, workers=2)


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_read(home, monkeypatch):
    (home / "a.jsonl").write_bytes(jsonl("cat"))
    monkeypatch.setattr("embcli.pipelines.shards.plan.cut", None)
    for name in ("/proc/here/", "file:///proc/here/"):
        with pytest.raises(UsageError, match="cannot write /proc/here"):
            plan_of(["a.jsonl"], name)
    fsspec = pytest.importorskip("fsspec")
    memory = type(fsspec.filesystem("memory"))

    def refused(self, *_, **__):
        raise PermissionError("access denied")

    monkeypatch.setattr(memory, "pipe_file", refused)
    with pytest.raises(UsageError, match=r"cannot write memory://no/entry.* \(access denied\)"):
        plan_of(["a.jsonl"], "memory://no/entry/")


def test_uploads_that_fail_leave_nothing(home, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    (home / "a.jsonl").write_bytes(jsonl("cat"))
    try:
        plan, encoder = plan_of(["a.jsonl"], "memory://failing/parts/")
        move = type(files).mv

        def mv(self, source, target, **options):
            if target.endswith(".parquet"):
                raise PermissionError("quota")
            return move(self, source, target, **options)

        monkeypatch.setattr(type(files), "mv", mv)
        with pytest.raises(InputError, match="quota"):
            encode_part(plan, 0, encoder)
        names = {name.rpartition("/")[2] for name in files.ls("/failing/parts", detail=False)}
        assert names == {"manifest.json", "part-00000.json"}
    finally:
        files.rm("/failing", recursive=True)


def test_a_folder_named_as_a_url_of_this_machine(home):
    (home / "texts").mkdir()
    (home / "texts" / "a.jsonl").write_bytes(jsonl("cat"))
    (home / "link").symlink_to("texts")
    for name in (f"file://{home}/texts/parts/", "link/parts"):
        plan, encoder = plan_of(["texts"], name)
        assert [input.name for input in plan.inputs] == ["texts/a.jsonl"]
        encode_parts(plan, encoder)
    assert gather_parts(f"file://{home}/link/parts").added == 30


def test_processes_that_end_a_part_together_agree_on_what_it_is(home, monkeypatch):
    (home / "a.jsonl").write_bytes(jsonl("cat"))
    plan, encoder = plan_of(["a.jsonl"])
    commit = folder._LocalFolder.commit
    bytes_of = []

    def interleaved(self, draft, name):
        # Another has said meanwhile what its file is, whose bytes differ, and comes first with it.
        monkeypatch.setattr(folder._LocalFolder, "commit", commit)
        report = json.loads((home / "parts" / "part-00000.json").read_text())
        other = report | {"sum": "0" * 32, "seconds": 77.0}
        (home / "parts" / "part-00000.json").write_text(json.dumps(other))
        bytes_of.append(report["bytes"])
        commit(self, draft, name)

    monkeypatch.setattr(folder._LocalFolder, "commit", interleaved)
    encode_part(plan, 0, encoder)
    encode_parts(plan, encoder)
    assert bytes_of == [json.loads((home / "parts" / "part-00000.json").read_text())["bytes"]]
    report = gather_parts("parts")
    assert (report.gathered, report.refused) == (3, 0)


def test_who_loses_the_draft_to_a_faster_process_does_not_say_what_is_there(home, monkeypatch):
    (home / "a.jsonl").write_bytes(jsonl("cat"))
    plan, encoder = plan_of(["a.jsonl"])
    write, encode = folder._LocalFolder.write, encoder.encode

    def overtaken(self, name, content):
        monkeypatch.setattr(folder._LocalFolder, "write", write)
        # On another processor the last bits are others.
        monkeypatch.setattr(encoder, "encode", lambda texts: np.nextafter(encode(texts), 1))
        assert not encode_part(plan, 0, encoder).existed
        monkeypatch.setattr(encoder, "encode", encode)
        write(self, name, content)

    monkeypatch.setattr(folder._LocalFolder, "write", overtaken)
    assert encode_part(plan, 0, encoder).existed
    encode_parts(plan, encoder)
    report = gather_parts("parts")
    assert (report.gathered, report.refused) == (3, 0)


def test_a_part_in_the_place_of_the_one_in_the_manifest_is_refused(home):
    (home / "a.jsonl").write_bytes(jsonl("cat"))
    encode_parts(*plan_of(["a.jsonl"]))
    manifest = json.loads((home / "parts" / "manifest.json").read_text())
    manifest["sums"][1] = "0" * 32
    (home / "parts" / "manifest.json").write_text(json.dumps(manifest))
    problems = []
    report = gather_parts("parts", listeners=Listeners(problem=problems.append))
    assert (report.gathered, report.refused) == (2, 1)
    assert "is not the one in manifest.json; try: the embcli encode" in str(problems[0])
    encode_parts(*plan_of(["a.jsonl"]))
    assert gather_parts("parts").gathered == 1
