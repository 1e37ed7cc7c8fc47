"""Files that appear when they are complete."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from embcli.errors import UsageError


@contextmanager
def complete_files(
    target: str | os.PathLike[str], beside: Iterable[Path] = (), *, force: bool = False
) -> Iterator[Path]:
    """Write a file, and maybe others beside it, that appear when the block ends well.

    Parameters
    ----------
    target : path
        A device or a pipe gets the bytes when they are complete.
    beside : iterable of path
        Files that will be written, too.
    force : bool
        Replace files that are there.

    Yields
    ------
    path : Path
        To be written: the name of the target in a temporary folder, where other files may be
        written too. The folder is beside the target, so that moving costs nothing.

    Raises
    ------
    UsageError
        A file is there, or the system refuses to write.
    """
    goal = Path(os.path.realpath(target))
    special = goal.exists() and not goal.is_file()
    try:
        for path in (Path(target), *beside):
            _check(path, force)
        if special and [*beside]:
            raise UsageError(f"this format makes several files, which {target} cannot take")
        parent = None if special else goal.parent
        folder = Path(tempfile.mkdtemp(prefix=f".{goal.name}.", suffix=".part", dir=parent))
        try:
            yield folder / goal.name
            if special:
                _pour(folder / goal.name, goal)
                return
            # The target itself comes last.
            for path in sorted(folder.iterdir(), key=lambda path: path.name == goal.name):
                _forget_log(goal.with_name(path.name))
                os.replace(path, goal.with_name(path.name))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except BrokenPipeError:
        raise
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot write {os.fspath(target)} ({reason})") from error


def _check(path: Path, force: bool) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a directory")
    if path.is_file() and not force:
        raise UsageError(f"{path} is there already", hint="another name, or --force")


def _forget_log(database: Path) -> None:
    """Remove what a killed writer left beside a database that is about to be replaced.

    SQLite would take it for the log of the new one, and put the old pages into that.
    """
    log = Path(f"{database}-wal")
    if not log.exists():
        return
    # Into the database, which is then whole until it is replaced; closing removes the log.
    with suppress(sqlite3.Error), closing(sqlite3.connect(database)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for ending in ("-wal", "-shm"):
        Path(f"{database}{ending}").unlink(missing_ok=True)


def _pour(path: Path, goal: Path) -> None:
    with path.open("rb") as source, goal.open("wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
