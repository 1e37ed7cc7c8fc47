"""Files elsewhere, named by URLs, through fsspec: ``s3://bucket/corpus.jsonl``, ``https://...``."""

import errno
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any

from embcli.errors import EmbcliError, InputError, ModelError, UnreadableError, UsageError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_URLS = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]*://[^\s'"<>()]+""")
_WEB = ("http", "https")
# What filesystems call that which changes whenever a file does, the surest first.
_MARKS = (
    "ETag", "etag", "md5Hash", "Content-MD5", "Digest", "checksum", "mtime", "modified",
    "LastModified", "Last-Modified", "last_modified", "updated", "created",
)  # fmt: skip
_BLOCK = 1 << 22


def is_url(name: str | os.PathLike[str]) -> bool:
    """Whether a name is a URL, and not a path."""
    return _URL.match(os.fspath(name)) is not None


def is_on_web(url: str) -> bool:
    """Whether a URL is read over HTTP."""
    return _scheme(url) in _WEB


def without_secrets(name: str | os.PathLike[str]) -> str:
    """Leave out of a URL what may be secret: passwords, and in HTTP users, queries and fragments.

    A path stays as it is.
    """
    name = os.fspath(name)
    if not is_url(name):
        return name
    scheme, _, rest = name.partition("://")
    on_web = is_on_web(name)
    if on_web:
        rest = re.split("[?#]", rest, maxsplit=1)[0]
    authority, slash, path = rest.partition("/")
    user, _, host = authority.rpartition("@")
    # Others have names of containers there.
    if on_web or ":" in user:
        authority = host
    return f"{scheme}://{authority}{slash}{path}"


def _reason(error: BaseException | None) -> str:
    """Say on a line what a filesystem raised, which likes to repeat the URL."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return _URLS.sub(lambda found: without_secrets(found[0]), line)[:200]


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def open_filesystem(url: str) -> tuple[Any, str]:
    """Find what reads and writes a URL.

    Returns
    -------
    filesystem : fsspec.AbstractFileSystem
    path : str
        What the URL is called there.

    Raises
    ------
    ModelError
        fsspec, or the package for this kind of URL, is not installed.
    UsageError
        There is no such kind of URL.
    """
    try:
        url_to_fs = import_module("fsspec.core").url_to_fs
    except ImportError as error:
        raise ModelError(
            "reading and writing URLs needs the package 'fsspec', which is not installed",
            hint="pip install 'embcli[remote]'",
        ) from error
    scheme = _scheme(url)
    try:
        filesystem, path = url_to_fs(url)
    except ImportError as error:
        package = error.name or _package(str(error))
        raise ModelError(
            f"{scheme}:// needs the package {package!r}, which is not installed",
            hint=f"pip install {package}",
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{without_secrets(url)}: no such kind of URL ({_reason(error)})"
        ) from error
    return filesystem, str(path)


def _package(message: str) -> str:
    """Tell which package fsspec asks for: ``Install s3fs to access S3``.

    Or ``HTTPFileSystem requires "requests" and "aiohttp" to be installed``: the last one is it.
    """
    found = re.search(r"[Ii]nstall (?:the )?[\"'`]?([A-Za-z0-9_.-]+)", message)
    quoted = re.findall(r'"([A-Za-z0-9_.-]+)"', message)
    return found[1] if found else (quoted or ["fsspec"])[-1]


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn what any filesystem raises into `UnreadableError`.

    Raises
    ------
    UnreadableError
    """
    try:
        yield
    except EmbcliError:
        raise
    except FileNotFoundError as error:
        raise UnreadableError(f"{without_secrets(url)}: {_why_not_found(error)}") from error
    except Exception as error:
        name = without_secrets(url)
        raise UnreadableError(f"{name}: cannot be reached ({_reason(error)})") from error


def is_missing(error: FileNotFoundError) -> bool:
    """Whether it is the file that is not there.

    Over HTTP fsspec says so of servers, too, and of what they refuse.
    """
    cause = error.__cause__
    on_web = isinstance(cause, Exception) and type(cause).__module__.startswith("aiohttp")
    return not on_web or getattr(cause, "status", None) in (404, 410)


def _why_not_found(error: FileNotFoundError) -> str:
    if is_missing(error):
        return "no such file or directory"
    return f"cannot be reached ({_reason(error.__cause__)})"


def open_url(url: str) -> io.BufferedReader:
    """Open a URL for reading.

    Raises
    ------
    InputError
    """
    with reaching(url):
        filesystem, path = open_filesystem(url)
        if is_on_web(url) and not _gives_ranges(url):
            # This server gives a file only from its beginning to its end.
            file = _File(filesystem.open(path, "rb", block_size=0), seekable=False)
        else:
            file = _File(filesystem.open(path, "rb"))
        return io.BufferedReader(file, _BLOCK)


@lru_cache(maxsize=256)
def _gives_ranges(url: str) -> bool:
    """Whether a server gives a file from any place on, which is found out by asking for its end."""
    filesystem, path = open_filesystem(url)
    size = filesystem.info(path).get("size")
    if not size:
        return False
    try:
        with filesystem.open(path, "rb") as file:
            file.seek(size - 1)
            return len(file.read(1)) == 1
    except Exception:  # noqa: BLE001 (each says it in its own way)
        return False


class _File(io.RawIOBase):
    """A file of fsspec, all of whose failures are `OSError` s."""

    def __init__(self, file: Any, *, seekable: bool = True) -> None:
        self._file = file
        self._seekable = seekable and bool(file.seekable())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._seekable

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if not self._seekable:
            raise io.UnsupportedOperation("seek")
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._file.read(len(buffer))
        except OSError as error:
            raise error if error.strerror else OSError(errno.EIO, _reason(error)) from error
        except Exception as error:
            raise OSError(errno.EIO, _reason(error)) from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def size_of(url: str) -> int:
    """Tell how many bytes a URL has, 0 if that is not known."""
    with reaching(url):
        filesystem, path = open_filesystem(url)
        return int(filesystem.size(path) or 0)


def mark_of(url: str) -> str:
    """Tell what changes whenever a URL's content does: an entity tag, or else a time.

    It is empty if there is nothing of the kind.
    """
    with reaching(url):
        filesystem, path = open_filesystem(url)
        filesystem.invalidate_cache()
        found = filesystem.info(path)
        return next((f"{key} {found[key]}" for key in _MARKS if found.get(key)), "")


def read_beginning(url: str, size: int) -> bytes:
    """Read the first bytes of a small file; none if it is not there or cannot be read."""
    filesystem, path = open_filesystem(url)
    try:
        return bytes(filesystem.cat_file(path, start=0, end=size))[:size]
    except Exception:  # noqa: BLE001 (each filesystem has its own)
        return b""


def find_files(url: str) -> list[str]:
    """Find the files that a URL means: itself, those below it, or those that match its pattern.

    Returns
    -------
    urls : list of str
        Sorted.
    """
    with reaching(url):
        filesystem, path = open_filesystem(url)
        if is_on_web(url):  # a question mark is no pattern there
            return [url]
        if any(sign in path for sign in "*?["):
            found = [name for name in filesystem.glob(path) if filesystem.isfile(name)]
        elif filesystem.isdir(path):
            found = filesystem.find(path)
        elif filesystem.exists(path):
            return [url]
        else:
            raise InputError(f"{without_secrets(url)}: no such file or directory")
        return sorted(str(filesystem.unstrip_protocol(name)) for name in found)
