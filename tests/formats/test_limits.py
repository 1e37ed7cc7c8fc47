"""What is too large, or would never end: named and passed over, and never in memory as a whole."""

import bz2
import gzip
import io
import json
import lzma
import time
import tracemalloc
import zipfile
from functools import partial

import numpy as np
import pytest
import zstandard

from embcli.errors import InputError
from embcli.formats import Problem, ReadOptions
from embcli.formats.inputs import Source, expand
from embcli.formats.reader import Reader
from embcli.formats.source import open_source
from embcli.formats.vectors import VectorOptions, open_vectors

MOST = 100
LONG = "x" * 200_000
BOMBS = {
    "gz": partial(gzip.compress, compresslevel=1),
    "bz2": partial(bz2.compress, compresslevel=9),
    "xz": partial(lzma.compress, preset=0),
    "zst": partial(zstandard.compress, level=1),
}


def read(path, **options):
    options = ReadOptions(**{"max_record_bytes": MOST, **options})
    results = list(Reader([Source(path.name, path)], options))
    problems = [result for result in results if isinstance(result, Problem)]
    return [result.text for result in results if not isinstance(result, Problem)], problems


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", f'{{"text": "one"}}\n{{"text": "{LONG}"}}\n{{"text": "two"}}\n'),
        ("a.txt", f"one\n{LONG}\ntwo\n"),
        ("mac.txt", f"one\r{LONG}\rtwo\r"),
        ("a.csv", f"text,n\none,1\n{LONG},2\ntwo,3\n"),
        ("a.tsv", f"text\tn\none\t1\n{LONG}\t2\ntwo\t3\n"),
        ("a.json", f'[{{"text": "one"}},\n{{"text": "{LONG}"}}, {{"text": "two"}}]'),
        ("nested.json", f'["one",\n[["\\"]", "{LONG}"], {{"a": "}}"}}],"two"]'),
        ("data.json", f'{{"data": [{{"text": "one"}},\n"{LONG}",{{"text": "two"}}]}}'),
        ("keys.json", f'{{"a": {{"text": "one"}},\n"b": "{LONG}", "c": {{"text": "two"}}}}'),
    ],
)
def test_a_record_that_is_too_large_is_named_and_the_rest_is_read(home, name, content):
    (home / name).write_text(content, newline="")
    texts, (problem,) = read(home / name)
    assert texts == ["one", "two"]
    assert problem.line == (3 if name in ("a.csv", "a.tsv") else 2)
    assert problem.message.endswith("is larger than 100 bytes")


def test_an_object_that_is_read_whole_is_not_when_it_is_too_large(home):
    (home / "a.json").write_text(json.dumps({"names": ["a text"] * 1000}))
    texts, (problem,) = read(home / "a.json")
    assert not texts
    assert "larger than 100 bytes" in problem.message
    assert len(read(home / "a.json", max_record_bytes=1 << 20)[0]) == 1000


def test_a_whole_file_that_is_too_large(home):
    (home / "a.md").write_text(LONG)
    texts, (problem,) = read(home / "a.md", per="file")
    assert not texts
    assert "the file is larger" in problem.message


def test_the_option(run, home):
    (home / "a.jsonl").write_text(json.dumps(LONG) + '\n"short"\n')
    result = run("encode", "a.jsonl", "--max-record-bytes", "2000")
    assert result.code == 3
    assert "a.jsonl:1: this line is larger than 2,000 bytes (--max-record-bytes)" in result.err
    assert len(run("search", "x").rows) == 1
    (home / "queries.txt").write_text("x" * (1 << 26) + "x")
    result = run("search", "--queries", "queries.txt")
    assert "is larger than 67,108,864 bytes" in result.err
    assert "--max-record-bytes" not in result.err
    for name in ("a.jsonl", "a.csv", "a.md"):
        (home / name).write_text(f'"text"\n"{name}"\n')
        words = ["encode", name, "--per", "file"] if name == "a.md" else ["encode", name]
        assert run(*words, "--max-record-bytes", str(1 << 63)).code == 2
        assert run(*words, "--max-record-bytes", str(1 << 40)).code == 0
    assert run("encode", "a.jsonl").code == 0


@pytest.mark.parametrize("kind", BOMBS)
def test_what_a_small_file_becomes_is_never_in_memory(home, kind):
    """Millions of one character, of which a block of bzip2 makes all at once, on one line."""
    count = 100_000_000 if kind == "zst" else 30_000_000
    (home / "bomb").write_bytes(BOMBS[kind](b"a\n" + b"b" * count + b"\nc\n"))
    assert (home / "bomb").stat().st_size < 200_000
    tracemalloc.start()
    texts, (problem,) = read(home / "bomb", format="text", max_record_bytes=1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert texts == ["a", "c"]
    assert problem.line == 2
    assert peak < (60 << 20 if kind == "zst" else 15 << 20)


def test_memory_that_a_header_asks_for(home):
    """LZMA's header may ask for a dictionary of 4 GiB."""
    data = bytearray(lzma.compress(b"text\n", format=lzma.FORMAT_ALONE))
    data[1:5] = (0x80000000).to_bytes(4, "little")
    (home / "a.lzma").write_bytes(data)
    with (
        pytest.raises(InputError, match="limit"),
        open_source(Source("a.lzma", home / "a.lzma")) as stream,
    ):
        stream.read()


def test_quotes_that_never_close_are_not_read_again_for_ever(home):
    """Every line ends within quotes wherever one begins to read: it took the square of them."""
    (home / "a.csv").write_text("id,text\n" + 'x","\n' * 20_000)
    start = time.process_time()
    texts, problems = read(home / "a.csv", max_record_bytes=1 << 26)
    assert time.process_time() - start < 10
    assert not texts
    assert len(problems) > 1000


def test_lines_of_a_row_that_is_too_large_are_no_records(home):
    """Neither of one in the middle, nor of one that ends the file; two fields may have lines."""
    lines = "\n".join(f"fake{n},no record" for n in range(200))
    row = f'1,"x ""quoted""\n{lines}"'
    for content in (
        f"id,text\n0,one\n{row}\n2,two\n", f"text,n,more\none,1,\n1,{row}\ntwo,2,\n",
        f"text,id\none,1\ntwo,2\n{row}", f'text,a,b\none,,\n{row},"{lines}"\ntwo,,\n',
    ):  # fmt: skip
        (home / "a.csv").write_text(content)
        texts, (problem,) = read(home / "a.csv", max_record_bytes=1024, text_fields=("text",))
        assert texts == ["one", "two"]
        assert problem.message == "this row is larger than 1,024 bytes"
    (home / "a.csv").write_text(f'id,text\n1,"x\n{lines}\n')
    texts, (problem, *_) = read(home / "a.csv", max_record_bytes=1024)
    assert "a quoted field is never closed (lines 64 to 202 are passed over)" in problem.message
    assert 0 < len(texts) < 70


def member(dtype, shape, by_columns=False, zeros=0):
    """An array as a file, of which only the header and some zeros are there."""
    file = io.BytesIO()
    header = {"descr": np.dtype(dtype).str, "fortran_order": by_columns, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(zeros)


VECTORS = member("<f4", (3, 2), zeros=24)
MANY = 20_000_000
ARCHIVES = {
    "ids": ({"vectors": VECTORS, "ids": member("<U100000000", (3,))}, "strings of 400,000,000"),
    "dim": ({"vectors": member("<f4", (2, 200_000_000))}, "vectors of 200,000,000 components"),
    "columns": (
        {"vectors": member("<f4", (MANY, 2), by_columns=True, zeros=8 * MANY)},
        "in Fortran order, which is read as a whole",
    ),
    "header": (
        {"vectors": b"\x93NUMPY\2\0" + (1 << 26).to_bytes(4, "little") + bytes(1 << 26)},
        "a header of 67,108,864 bytes",
    ),
    "recipe": ({"vectors": VECTORS, "recipe": member("<U10000000", (), zeros=1 << 25)}, None),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_what_a_small_archive_becomes_is_never_in_memory(home, name):
    members, message = ARCHIVES[name]
    with zipfile.ZipFile("a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for each, content in members.items():
            archive.writestr(f"{each}.npy", content)
    assert (home / "a.npz").stat().st_size < 1 << 20

    def read():
        return list(open_vectors("a.npz", VectorOptions(format="npz")))

    tracemalloc.start()
    if message is None:
        assert len(read()[0].ids) == 3
    else:
        with pytest.raises(InputError, match=message):
            read()
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_wide_columns_are_read_a_few_at_a_time(home):
    """Texts of an array are as wide as the longest."""
    texts = ["x" * 20_000, *map(str, range(2000))]
    arrays = {"vectors": np.ones((2001, 2), "<f4"), "texts": np.array(texts)}
    np.savez_compressed("a.npz", **arrays)
    del arrays
    tracemalloc.start()
    found = [text for batch in open_vectors("a.npz", VectorOptions()) for text in batch.texts]
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()
    assert found == texts


def test_a_header_of_many_columns(home):
    names = ",".join(f"c{n}" for n in range(50_000))
    (home / "a.csv").write_text(f"text,{names}\n")
    start = time.process_time()
    assert read(home / "a.csv", max_record_bytes=1 << 26) == ([], [])
    assert time.process_time() - start < 5


def test_patterns_do_not_go_in_circles(home):
    """Three links to the folder itself: 3 to the power of 40 ways."""
    (home / "sub").mkdir()
    (home / "sub" / "a.txt").write_text("a")
    (home / "b.txt").write_text("b")
    for name in ("one", "two", "sub/three"):
        (home / name).symlink_to(home)
    (home / "nowhere.txt").symlink_to(home / "nowhere.txt")
    # Neither by `**` nor by what stands behind it.
    for pattern in ("**/*/a.txt", "**/one/*.txt", "**/one/sub/a.txt", "**/*/**/three/*.txt"):
        found = expand([pattern], may_be_empty=True).sources
        assert [source.name for source in found] == (
            ["sub/a.txt"] if pattern == "**/*/a.txt" else []
        )
    assert [source.name for source in expand(["one/*.txt"]).sources] == ["one/b.txt"]
    for pattern in (
        "**/*.txt",
        "**//*.txt",
        "**//**//*.txt",
        "**",
        "**/**/*.txt",
        f"{home}/**/*.txt",
    ):
        assert [source.name for source in expand([pattern]).sources] == ["b.txt", "sub/a.txt"]
    assert [source.name for source in expand(["sub/**"]).sources] == ["sub/a.txt"]
    assert [source.name for source in expand([str(home)]).sources] == ["b.txt", "sub/a.txt"]
