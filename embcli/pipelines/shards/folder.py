"""The folder of parts: a directory, or what fsspec takes for one."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from embcli.errors import InputError, UsageError
from embcli.formats.remote import (
    is_missing,
    is_on_web,
    is_url,
    open_filesystem,
    reaching,
    without_secrets,
)


class Folder(Protocol):
    """What parts are written to and read from. Whatever appears under a name is complete."""

    name: str
    """As it is shown."""
    where: str
    """What `open_folder` takes; there may be a password in it."""

    def read(self, name: str) -> bytes | None:
        """Read a small file; None if it is not there."""

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, in the place of one that is there."""

    def create(self, name: str, content: bytes) -> None:
        """Write a small file, unless another process was first."""

    def try_out(self) -> None:
        """Write a file and delete it.

        Raises
        ------
        UsageError
            It cannot be written.
        """

    def size(self, name: str) -> int | None:
        """Tell how many bytes a file has; None if it is not there."""

    def names(self) -> set[str]:
        """List all files."""

    def draft(self, name: str) -> Path:
        """Name a local file in which another is to be written, for `commit` or `drop`."""

    def commit(self, draft: Path, name: str) -> None:
        """Let a draft appear under its name."""

    def drop(self, draft: Path) -> None:
        """Delete a draft, if it is there."""

    def local(self, name: str) -> Any:
        """Give a block the path of a local file with what a file holds."""


def open_folder(name: str | os.PathLike[str], *, make: bool = False) -> Folder:
    """Open a folder of parts.

    Parameters
    ----------
    name : path or URL
    make : bool
        Make it if it does not exist.

    Raises
    ------
    UsageError
        It cannot be made.
    """
    name = local_path(os.fspath(name))
    return _RemoteFolder(name, make) if is_url(name) else _LocalFolder(name, make)


def local_path(name: str) -> str:
    """Give the path that ``file://`` stands before; anything else as it is."""
    if not name.lower().startswith("file://"):
        return name
    return os.fspath(open_filesystem(name)[1])


def read_json(folder: Folder, name: str, hint: str | None = None) -> dict[str, Any] | None:
    """Read a JSON object; None if there is no such file.

    Parameters
    ----------
    folder : Folder
    name : str
    hint : str, optional
        What to do if it holds something else.

    Raises
    ------
    InputError
        There is, and it holds something else.
    """
    content = folder.read(name)
    if content is None:
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InputError(f"{folder.name}/{name}: this is no JSON object", hint=hint)
    return value


def as_json(value: dict[str, Any]) -> bytes:
    """Write a JSON object."""
    # In ASCII, in which names of files that are not UTF-8 go there and back.
    return json.dumps(value, separators=(",", ":")).encode()


class _LocalFolder:
    def __init__(self, name: str, make: bool) -> None:
        self._path = Path(os.path.abspath(name))
        self.name = self.where = str(self._path)
        if make:
            with self._writing(""):
                self._path.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UsageError(f"cannot write {self._path / name} ({error.strerror})") from error

    def read(self, name: str) -> bytes | None:
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"{self._path / name}: cannot be read ({error.strerror})") from error

    def write(self, name: str, content: bytes) -> None:
        with self._written(name, content) as draft:
            os.replace(draft, self._path / name)

    def create(self, name: str, content: bytes) -> None:
        with self._written(name, content) as draft:
            try:
                os.link(draft, self._path / name)
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                if not (self._path / name).exists():
                    os.replace(draft, self._path / name)

    def try_out(self) -> None:
        with self._written("manifest.json", b""):
            pass

    @contextmanager
    def _written(self, name: str, content: bytes) -> Iterator[Path]:
        draft = self.draft(name)
        with self._writing(name):
            try:
                with draft.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                yield draft
            finally:
                draft.unlink(missing_ok=True)

    def size(self, name: str) -> int | None:
        try:
            return (self._path / name).stat().st_size
        except OSError:
            return None

    def names(self) -> set[str]:
        try:
            return set(os.listdir(self._path))
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read ({error.strerror})") from error

    def draft(self, name: str) -> Path:
        return self._path / f"{name}.{uuid4().hex[:8]}.tmp"

    def commit(self, draft: Path, name: str) -> None:
        with self._writing(name):
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(draft, self._path / name)
        # What processes left that were killed at this file.
        for other in self._path.glob(f"{name}.*.tmp"):
            other.unlink(missing_ok=True)

    def drop(self, draft: Path) -> None:
        draft.unlink(missing_ok=True)

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        yield self._path / name


class _RemoteFolder:
    """A folder of fsspec. What is put there appears when it is complete, or is moved then."""

    def __init__(self, name: str, make: bool) -> None:
        self.where = name.rstrip("/")
        self.name = without_secrets(self.where)
        self._on_web = is_on_web(self.where)
        with reaching(self.name):
            self._files, self._path = open_filesystem(self.where)
            if make:
                self._make()

    def _make(self) -> None:
        with self._writing():
            self._files.makedirs(self._path, exist_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with reaching(self.name):
                yield
        except InputError as error:
            raise UsageError(f"cannot write {error.message}", error.hint) from error

    def _at(self, name: str) -> str:
        # Over HTTP the path is the URL; behind it may stand what lets in.
        path, mark, query = self._path.partition("?") if self._on_web else (self._path, "", "")
        return f"{path.rstrip('/')}/{name}{mark}{query}"

    def read(self, name: str) -> bytes | None:
        with reaching(f"{self.name}/{name}"):
            self._files.invalidate_cache()
            try:
                return bytes(self._files.cat_file(self._at(name)))
            except FileNotFoundError as error:
                if not is_missing(error):
                    raise
                return None

    def write(self, name: str, content: bytes) -> None:
        self._put(name, lambda draft: self._files.pipe_file(draft, content))

    def _put(self, name: str, write: Callable[[str], object]) -> None:
        """Write a file under another name, and move it; leave nothing if that fails."""
        draft = f"{self._at(name)}.{uuid4().hex[:8]}.tmp"
        with reaching(f"{self.name}/{name}"):
            try:
                write(draft)
                self._files.mv(draft, self._at(name))
            except BaseException:
                with suppress(Exception):  # what is told is why it could not be written
                    self._files.rm(draft)
                raise

    def try_out(self) -> None:
        draft = f"{self._at('manifest.json')}.{uuid4().hex[:8]}.tmp"
        with self._writing():
            self._files.pipe_file(draft, b"")
            self._files.rm(draft)

    def create(self, name: str, content: bytes) -> None:
        # Who comes second at the same moment writes the same: plans follow from what was asked.
        if self.size(name) is None:
            self.write(name, content)

    def size(self, name: str) -> int | None:
        with reaching(f"{self.name}/{name}"):
            self._files.invalidate_cache()
            try:
                return int(self._files.size(self._at(name)))
            except FileNotFoundError as error:
                if not is_missing(error):
                    raise
                return None

    def names(self) -> set[str]:
        with reaching(self.name):
            self._files.invalidate_cache()
            found = self._files.ls(self._path, detail=False)
        return {str(path).rpartition("/")[2] for path in found}

    def draft(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix="embcli-part-"), name)

    def commit(self, draft: Path, name: str) -> None:
        self._put(name, lambda uploaded: self._files.put_file(str(draft), uploaded))
        self.drop(draft)

    def drop(self, draft: Path) -> None:
        shutil.rmtree(draft.parent, ignore_errors=True)

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        draft = self.draft(name)
        try:
            with reaching(f"{self.name}/{name}"):
                self._files.get_file(self._at(name), str(draft))
            yield draft
        finally:
            self.drop(draft)
