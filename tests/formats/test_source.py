import bz2
import gzip
import lzma

import pytest
import zstandard

from embcli.errors import InputError, UsageError
from embcli.formats.source import Source, expand, open_source

TEXT = b'{"text": "caf\xc3\xa9"}\n' * 5000
COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


def read(path, encoding=None):
    with open_source(Source(path.name, path), encoding) as stream:
        return stream.read()


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("named", [True, False])
def test_compression_is_recognised_by_content(home, suffix, named):
    path = home / f"a.jsonl{suffix if named else ''}"
    path.write_bytes(COMPRESS[suffix](TEXT))
    assert read(path) == TEXT


@pytest.mark.parametrize("suffix", [s for s in COMPRESS if s])
def test_several_compressed_parts_are_one_file(home, suffix):
    path = home / "a"
    path.write_bytes(COMPRESS[suffix](TEXT) * 2)
    assert read(path) == TEXT * 2


@pytest.mark.parametrize("suffix", [s for s in COMPRESS if s])
def test_damaged_compression_is_an_error_after_what_could_be_read(home, suffix):
    path = home / "a"
    incompressible = b"".join(b"%d\n" % (n * 2654435761 % 2**32) for n in range(300_000))
    whole = COMPRESS[suffix](incompressible)
    path.write_bytes(whole[: len(whole) // 2])
    lines = []
    with open_source(Source("a", path)) as stream:
        reading = stream.lines(b"\n")
        with pytest.raises(InputError, match="compressed data is damaged"):
            lines.extend(reading)
    assert lines
    assert b"".join(lines) == incompressible[: sum(map(len, lines))]


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b"\xef\xbb\xbf"),
        ("utf-16-le", b"\xff\xfe"),
        ("utf-16-be", b"\xfe\xff"),
        ("utf-32-le", b"\xff\xfe\0\0"),
        ("utf-32-be", b"\0\0\xfe\xff"),
    ],
)
def test_byte_order_marks_tell_the_encoding_and_vanish(home, encoding, mark):
    text = "café 🍪\n" * 40_000
    (home / "a").write_bytes(mark + text.encode(encoding))
    assert read(home / "a") == text.encode()


def test_utf_16_by_name(home):
    (home / "a").write_bytes("é".encode("utf-16-le"))
    assert read(home / "a", "utf-16-le") == "é".encode()


def test_what_precedes_a_wrong_utf_16_unit_is_kept(home):
    (home / "a").write_bytes(b"\xff\xfe" + "ab\n".encode("utf-16-le") + b"\x00\xdc" + b"x\0")
    lines = []
    with open_source(Source("a", home / "a")) as stream:
        reading = stream.lines(b"\n")
        with pytest.raises(InputError, match="not utf-16"):
            lines.extend(reading)
    assert lines == [b"ab\n"]


def test_unknown_encoding(home):
    (home / "a").write_bytes(b"x")
    with pytest.raises(UsageError, match="no encoding called 'klingon'"):
        read(home / "a", "klingon")


def test_the_sample_is_still_to_be_read(home):
    (home / "a").write_bytes(TEXT)
    with open_source(Source("a", home / "a")) as stream:
        assert TEXT.startswith(stream.sample)
        assert len(stream.sample) > 1000
        assert stream.read() == TEXT
        assert stream.position == len(TEXT)


def names(*arguments):
    return [source.name for source in expand(map(str, arguments)).sources]


def test_directories_are_walked_in_order(home):
    for name in ("d/b.txt", "d/a/z.jsonl.gz", "d/.git/x.txt", "d/.hidden.txt", "d/photo.jpg"):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    expanded = expand(["d"])
    assert [s.name for s in expanded.sources] == ["d/b.txt", "d/a/z.jsonl.gz"]
    assert expanded.scopes == ["d/"]
    assert expanded.ignored == 1
    assert names("d/**/*.*") == ["d/a/z.jsonl.gz", "d/b.txt", "d/photo.jpg"]


def test_one_name_per_file_however_spelled(home):
    (home / "a.txt").write_text("x")
    (home / "sub").mkdir()
    assert names("a.txt", "./a.txt", "sub/../a.txt", home / "a.txt") == ["a.txt"]


def test_a_file_above_this_folder_has_its_full_name(home, monkeypatch):
    (home / "a.txt").write_text("x")
    (home / "sub").mkdir()
    monkeypatch.chdir(home / "sub")
    assert names("../a.txt") == [(home / "a.txt").as_posix()]


def test_a_name_with_glob_characters_that_exists_is_that_file(home):
    (home / "a[1].txt").write_text("x")
    assert names("a[1].txt") == ["a[1].txt"]


@pytest.mark.parametrize("argument", ["none.txt", "*.nothing"])
def test_missing_inputs_are_named(argument):
    with pytest.raises(InputError, match="no such file"):
        expand([argument])


def test_a_directory_without_anything_to_read(home):
    (home / "d").mkdir()
    with pytest.raises(InputError, match=r"d: no file in this directory .* \.jsonl"):
        expand(["d"])
