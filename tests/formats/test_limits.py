"""What is too large, or would never end: named and passed over, and never in memory as a whole."""

import bz2
import gzip
import json
import lzma
import time
import tracemalloc
from functools import partial

import pytest
import zstandard

from embcli.errors import InputError
from embcli.formats import Problem, ReadOptions
from embcli.formats.inputs import Source, expand
from embcli.formats.reader import Reader
from embcli.formats.source import open_source

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
    assert "is larger than 100 bytes (encode --max-record-bytes)" in problem.message


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
    assert "a.jsonl:1: this line is larger than 2,000 bytes" in result.err
    assert len(run("search", "x").rows) == 1
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
    for pattern in ("**/*.txt", "**", "**/**/*.txt", f"{home}/**/*.txt"):
        assert [source.name for source in expand([pattern]).sources] == ["b.txt", "sub/a.txt"]
    assert [source.name for source in expand(["sub/**"]).sources] == ["sub/a.txt"]
    assert [source.name for source in expand([str(home)]).sources] == ["b.txt", "sub/a.txt"]
