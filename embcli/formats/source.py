"""Sources as streams of bytes: compression and byte order marks undone."""

import bz2
import codecs
import io
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, Any, Protocol, cast

from xxhash import xxh3_128

from embcli.errors import InputError, UnreadableError, UsageError
from embcli.formats import MAX_RECORD_BYTES, too_large
from embcli.formats.inputs import Source
from embcli.formats.remote import open_url

SAMPLE_BYTES = 1 << 16
_SUMMED_AT_ONCE = 1 << 20
# A kilobyte may become a megabyte with gzip, 32 with Zstandard, and any number with the others,
# which therefore give what they make in steps.
_COMPRESSED_BYTES_AT_ONCE = 1 << 12
_ZSTANDARD_BYTES_AT_ONCE = 1 << 9
_STEP = 1 << 20
# A header of LZMA may ask for 4 GiB; what the strongest preset of xz takes is a quarter of this.
_LZMA_MEMORY = 1 << 28

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


_WIDE = {encoding for _, encoding in _BOMS} - {"utf-8"}
_NOT_BY_LINE = ("punycode", "idna", "utf-7", "unicode_escape", "raw_unicode_escape")


class ByteStream:
    """An open source, decompressed, in UTF-8 or a single-byte encoding, without its mark.

    Attributes
    ----------
    name : str
    encoding : str
        What the bytes are encoded in. UTF-16 and UTF-32 arrive as UTF-8.
    sample : bytes
        The beginning; reading is not affected.
    longest : int
        Bytes of a line that are held in memory.
    first_line : int
        Number of the first line; above 1 where it is some lines out of the middle of a file.
    can_be_cut : bool
        Bytes are those of the source, which can be read from anywhere on.
    marked : int
        Bytes of the mark.
    """

    def __init__(
        self,
        source: Source,
        raw: io.BufferedReader,
        encoding: str | None,
        longest: int = MAX_RECORD_BYTES,
        size_option: str = "",
    ) -> None:
        self.name = source.name
        self.longest = longest
        self.first_line = 1
        self._size_option = size_option
        self._raw = raw
        stream = _decompressed(raw)
        self.can_be_cut = stream is raw and raw.seekable()
        with self.reading():
            head = stream.peek(SAMPLE_BYTES)
            mark, marked = next(((m, e) for m, e in _BOMS if head.startswith(m)), (b"", None))
            self.marked = len(stream.read(len(mark)))
            self.encoding = _choose_encoding(encoding, marked)
            if self.encoding in _WIDE:
                stream = io.BufferedReader(_ToUtf8(stream, self.encoding), SAMPLE_BYTES)
                self.encoding = "utf-8"
                self.can_be_cut = False
            self._stream = stream
            self.sample = stream.peek(SAMPLE_BYTES)[:SAMPLE_BYTES]

    @classmethod
    def of_lines(
        cls,
        name: str,
        raw: io.BufferedReader,
        encoding: str,
        first_line: int,
        longest: int,
        size_option: str,
    ) -> "ByteStream":
        """Open some lines, which end in LF, out of the middle of a file.

        Nothing is guessed from how they begin: neither compression nor a mark, and `sample` is
        empty.
        """
        self = cls.__new__(cls)
        self.name, self.encoding, self.sample = name, encoding, b""
        self.longest, self._size_option = longest, size_option
        self.first_line, self.can_be_cut, self.marked = first_line, True, 0
        self._raw = self._stream = raw
        return self

    @property
    def position(self) -> int:
        """How many bytes of the source have been read, before decompression."""
        try:
            return self._raw.tell()
        except OSError:
            return 0

    def too_large(self, what: str) -> str:
        """Say that something is larger than `longest`."""
        return too_large(what, self.longest, self._size_option)

    def lines(self, newline: bytes) -> Iterator[bytes]:
        """Lines with their ends, as long as they can be read.

        Of one that is longer than `longest` comes one byte more than that, and the rest is passed
        over.
        """
        with self.reading():
            if newline != b"\n":
                yield from self._lines_by(newline)
                return
            most = self.longest + 1
            for line in iter(partial(self._stream.readline, most), b""):
                yield line
                if len(line) == most:
                    part = line
                    while part and not part.endswith(b"\n"):
                        part = self._stream.readline(SAMPLE_BYTES)

    def _lines_by(self, newline: bytes) -> Iterator[bytes]:
        held: list[bytes] = []  # of a line that has not ended
        length = 0
        while chunk := self._stream.read(SAMPLE_BYTES):
            *ended, rest = chunk.split(newline)
            for part in ended:
                yield b"".join([*held, part, newline])[: self.longest + 1]
                held, length = [], 0
            if rest and length <= self.longest:
                held.append(rest)
                length += len(rest)
        if held:
            yield b"".join(held)[: self.longest + 1]

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes, or all of them."""
        with self.reading():
            return self._stream.read(size)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Translate what can go wrong with the bytes themselves into InputError."""
        import zstandard

        damaged = (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)
        try:
            yield
        except damaged as error:
            raise InputError(f"the compressed data is damaged here ({error})") from error
        except UnicodeDecodeError as error:
            raise InputError(f"not {error.encoding} from here on ({error.reason})") from error
        except OSError as error:
            if error.errno is None:  # bz2 says "Invalid data stream" this way
                raise InputError(f"the compressed data is damaged here ({error})") from error
            raise UnreadableError(f"cannot be read ({error.strerror})") from error


@contextmanager
def open_source(
    source: Source,
    encoding: str | None = None,
    longest: int = MAX_RECORD_BYTES,
    size_option: str = "",
) -> Iterator[ByteStream]:
    """Open a source for reading; see `ByteStream`.

    Raises
    ------
    InputError
        It cannot be opened, or its compression is not what its first bytes promise.
    UsageError
        There is no such encoding.
    """
    if source.path is None and source.url is None:
        if sys.stdin is None:
            raise InputError("standard input is closed")
        stdin = cast(io.BufferedReader, sys.stdin.buffer)
        yield ByteStream(source, stdin, encoding, longest, size_option)
        return
    with open_bytes(source) as raw:
        yield ByteStream(source, raw, encoding, longest, size_option)


def open_bytes(source: Source) -> io.BufferedReader:
    """Open a file or URL for reading as it is.

    Raises
    ------
    InputError
    """
    if source.url is not None:
        return open_url(source.url)
    assert source.path is not None
    try:
        return source.path.open("rb")
    except OSError as error:
        raise UnreadableError(f"cannot be opened ({error.strerror})") from error


@contextmanager
def named(source: Source) -> Iterator[None]:
    """Say which file it is that cannot be read.

    Raises
    ------
    UnreadableError
    """
    try:
        yield
    except UnreadableError as error:
        message = error.message.removeprefix(f"{source.name}: ")
        raise UnreadableError(f"{source.name}: {message}", error.hint) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise UnreadableError(f"{source.name}: cannot be read ({reason})") from error


def checksum(source: Source) -> str:
    """Take the checksum of a file or URL as it is: XXH3, 128 bits.

    Raises
    ------
    UnreadableError
    """
    digest = xxh3_128()
    with named(source), open_bytes(source) as raw:
        while chunk := raw.read(_SUMMED_AT_ONCE):
            digest.update(chunk)
    return digest.hexdigest()


def _decompressed(buffered: io.BufferedReader) -> io.BufferedReader:
    """Undo compression, recognised by its first bytes rather than by the file's name."""
    head = buffered.peek(8)
    for magic, decompressor in _DECOMPRESSORS.items():
        if head.startswith(magic):
            at_once = _ZSTANDARD_BYTES_AT_ONCE if magic == _ZSTD else _COMPRESSED_BYTES_AT_ONCE
            return io.BufferedReader(_Decompressed(buffered, decompressor, at_once), SAMPLE_BYTES)
    return buffered


class _Decompressor(Protocol):
    """What the decompressors of the standard library and of zstandard have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class _InSteps:
    """A decompressor of bz2 or LZMA that gives a megabyte at a time."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole

    @property
    def eof(self) -> bool:
        return bool(self._whole.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._whole.unused_data)

    @property
    def needs_input(self) -> bool:
        return bool(self._whole.needs_input)

    def decompress(self, data: bytes, /) -> bytes:
        return bytes(self._whole.decompress(data, _STEP))


def _zstd() -> _Decompressor:
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj()


def _lzma() -> _Decompressor:
    return _InSteps(lzma.LZMADecompressor(memlimit=_LZMA_MEMORY))


_ZSTD = b"\x28\xb5\x2f\xfd"
_DECOMPRESSORS: dict[bytes, Callable[[], _Decompressor]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=16 + zlib.MAX_WBITS),
    b"BZh": lambda: _InSteps(bz2.BZ2Decompressor()),
    b"\xfd7zXZ\0": _lzma,
    b"\x5d\0\0": _lzma,
    _ZSTD: _zstd,
}


class _Decompressed(io.RawIOBase):
    """Decompress a stream of one or more parts, delivering all that precedes any damage.

    The file objects of gzip and bz2 throw away what they have when they come upon damage, and
    that of zstandard takes a truncated file for a complete one.
    """

    def __init__(
        self, stream: IO[bytes], decompressor: Callable[[], _Decompressor], at_once: int
    ) -> None:
        self._stream = stream
        self._new = decompressor
        self._at_once = at_once
        self._current = decompressor()
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready:
            if not getattr(self._current, "needs_input", True) and not self._current.eof:
                self._ready = memoryview(self._current.decompress(b""))
                continue
            data = self._stream.read(self._at_once)
            if self._current.eof:
                data = (self._current.unused_data + data).lstrip(b"\0")
                if not data:
                    return 0
                self._current = self._new()
            elif not data:
                raise EOFError("it ends too early")
            self._ready = memoryview(self._current.decompress(data))
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


def _choose_encoding(named: str | None, marked: str | None) -> str:
    """Reconcile what the user says with what the byte order mark says."""
    if named is None:
        return marked or "utf-8"
    try:
        codec = codecs.lookup(named)
        "a".encode(named)
    except (LookupError, ValueError):
        codec = None
    if codec is None or codec.name in _NOT_BY_LINE:
        raise UsageError(f"no encoding of text called {named!r}", hint="--encoding utf-8")
    if codec.name in ("utf-16", "utf-32"):
        return marked if marked and marked.startswith(codec.name) else f"{codec.name}-le"
    return "utf-8" if codec.name == "utf-8-sig" else codec.name


class _ToUtf8(io.RawIOBase):
    """Recode a stream into UTF-8; what comes before a wrong byte is still delivered."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ready = memoryview(b"")
        self._failed: UnicodeDecodeError | None = None
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready and not self._ended:
            if self._failed:
                raise self._failed
            chunk = self._stream.read(SAMPLE_BYTES)
            self._ended = not chunk
            try:
                text = self._decoder.decode(chunk, final=self._ended)
            except UnicodeDecodeError as error:
                self._failed, self._ended = error, False
                text = error.object[: error.start].decode(error.encoding)
            self._ready = memoryview(text.encode())
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size
