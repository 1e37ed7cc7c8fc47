import bz2
import gzip
import lzma

import pytest
import zstandard

from embcli.errors import InputError, UsageError
from embcli.formats.inputs import Source
from embcli.formats.source import open_source

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


def test_a_small_file_that_becomes_large(home):
    # Each step copies what it delivers, not all that is left.
    (home / "a").write_bytes(zstandard.compress(b"0123456789\n" * 3_000_000))
    assert len(read(home / "a")) == 33_000_000


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


@pytest.mark.parametrize("named", ["utf-16", "UTF16", "utf-32"])
@pytest.mark.parametrize("order", ["le", "be"])
def test_a_family_is_named_and_a_mark_tells_the_order(home, named, order):
    exact = ("utf-32-" if "32" in named else "utf-16-") + order
    (home / "a").write_bytes(("\ufeffé" * 3).encode(exact))
    assert read(home / "a", named) == ("é" + "\ufeffé" * 2).encode()


def test_utf_16_without_a_mark_is_little_endian(home):
    (home / "a").write_bytes("é".encode("utf-16-le"))
    assert read(home / "a", "utf-16") == "é".encode()


@pytest.mark.parametrize(
    "name", ["klingon", "rot13", "base64", "hex", "zip", "undefined", "punycode", "\udcff", ""]
)
def test_what_is_no_encoding_of_text(home, name):
    (home / "a").write_bytes(b"x")
    with pytest.raises(UsageError, match="no encoding of text called"):
        read(home / "a", name)


def test_the_sample_is_still_to_be_read(home):
    (home / "a").write_bytes(TEXT)
    with open_source(Source("a", home / "a")) as stream:
        assert TEXT.startswith(stream.sample)
        assert len(stream.sample) > 1000
        assert stream.read() == TEXT
        assert stream.position == len(TEXT)
