"""Which files are meant: paths, directories, glob patterns and standard input."""

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from embcli.errors import InputError, counted
from embcli.formats import Problem
from embcli.formats.remote import (
    find_files,
    is_url,
    mark_of,
    read_beginning,
    size_of,
    without_secrets,
)

FORMATS_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".markdown": "text",
}
IMAGE = "image"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
COMPRESSIONS = (".gz", ".bz2", ".xz", ".lzma", ".zst")
STDIN = "stdin"
_MANIFEST = "manifest.json"
_MANIFEST_BYTES = 128
OF_PARTS = re.compile(r"manifest\.json|part-\d{5,}\.(json|parquet)")


@dataclass(frozen=True)
class Source:
    """An input: a file, a URL, or standard input when `path` and `url` are None.

    The name of a URL is without what may be secret in it, and may be stored and shown.
    """

    name: str
    path: Path | None
    url: str | None = None

    @property
    def format(self) -> str | None:
        """What the name says the format is."""
        if self.url is not None:  # http://host/a.jsonl?key=..., or http://host/get?file=a.jsonl
            return _format_of_name(without_secrets(self.url)) or _format_of_name(self.url)
        return _format_of_name(self.name)

    @property
    def size(self) -> int:
        """Bytes on disk, compressed if it is; 0 when it cannot be known."""
        try:
            if self.url is not None:
                return size_of(self.url)
            return self.path.stat().st_size if self.path else 0
        except OSError:
            return 0

    @property
    def mark(self) -> str:
        """What differs when the content may have changed: as a rule a time; empty if unknown."""
        try:
            if self.url is not None:
                return mark_of(self.url)
            return str(self.path.stat().st_mtime_ns) if self.path else ""
        except OSError:
            return ""


@dataclass
class Inputs:
    """What a list of arguments means.

    Attributes
    ----------
    base : str
        The folder that names are relative to.
    sources : list of Source
        In order, each once.
    problems : list of Problem
        Folders that could not be read.
    ignored : int
        Files in folders that no reader is for.
    parts : int
        Folders of parts among them, which an encode made; what is in these is no input.
    pictures : int
        Pictures in folders and among those that match a pattern, passed over because they were
        not asked for.
    """

    base: str
    sources: list[Source] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0
    parts: int = 0
    pictures: int = 0
    _scopes: list[Callable[[str], bool]] = field(default_factory=list)

    def vanished_from(self, names: Iterable[str]) -> list[str]:
        """Of files once read, those whose records may have vanished.

        These are the files that the arguments mean, if they are read now or are not there any
        more; not those that are there and were merely passed over.
        """
        read = {source.name for source in self.sources}
        return [
            name
            for name in names
            if any(covers(name) for covers in self._scopes)
            and (name in read or not os.path.exists(os.path.join(self.base, name)))
        ]


def expand(
    arguments: Iterable[str],
    base: str | os.PathLike[str] = ".",
    *,
    may_be_empty: bool = False,
    images: bool = False,
) -> Inputs:
    """Turn arguments into sources: files as given, directories and globs sorted by name.

    Parameters
    ----------
    arguments : iterable of str
        Paths, directories, glob patterns (``**`` included), URLs that fsspec knows, or ``-`` for
        standard input.
    base : path
        A file below this folder is named by its path from there, others by their full path.
        With the folder of the store, a file has one name wherever the command is run.
    may_be_empty : bool
        Whether a directory or pattern may hold no file.
    images : bool
        Whether the model takes pictures. If not, those in directories are passed over.

    Raises
    ------
    InputError
        A path does not exist, or a pattern or directory holds no file that can be read, or a
        picture is named that is not to be read.
    """
    inputs = Inputs(os.path.abspath(base))
    sources: dict[str, Source] = {}
    for argument in arguments:
        if argument == "-":
            found = {STDIN: Source(STDIN, None)}
            inputs._scopes.append(STDIN.__eq__)
        elif is_url(argument):
            found = _named(_urls(argument, inputs), sources)
            inputs._scopes.append(set(found).__contains__)
        else:
            paths = _paths(argument, inputs, may_be_empty, images)
            found = {(name := name_below(path, inputs.base)): Source(name, path) for path in paths}
        for name, source in found.items():
            sources.setdefault(name, source)
    inputs.sources = list(sources.values())
    return inputs


def _urls(argument: str, inputs: Inputs) -> list[str]:
    found = find_files(argument)
    if found == [argument] and _format_of_name(argument) != IMAGE:
        return found
    found = _without_parts(argument, found, inputs)
    known = [url for url in found if _format_of_name(url) not in (None, IMAGE)]
    inputs.ignored += len(found) - len(known)
    if not known:
        raise InputError(
            f"{without_secrets(argument)}: no file there has a name ending in one of "
            f"{' '.join(FORMATS_BY_SUFFIX)}"
        )
    return known


def _without_parts(argument: str, urls: list[str], inputs: Inputs) -> list[str]:
    """Pass over what an encode made."""
    places = (url.rpartition("/") for url in urls)
    folders = sorted({folder for folder, _, name in places if OF_PARTS.fullmatch(name)})
    of_parts = [
        f"{folder}/"
        for folder in folders
        if _is_manifest(read_beginning(f"{folder}/{_MANIFEST}", _MANIFEST_BYTES))
    ]
    inputs.parts += len(of_parts)
    left = [url for url in urls if not url.startswith(tuple(of_parts))]
    if urls and not left:
        raise _only_parts(argument)
    return left


def _named(urls: Iterable[str], others: Mapping[str, Source]) -> dict[str, Source]:
    """Name URLs; those that differ only in what is left out of names get a number."""
    found: dict[str, Source] = {}
    for url in urls:
        name = shown = without_secrets(url)
        number = 1
        while (other := found.get(name) or others.get(name)) is not None and other.url != url:
            number += 1
            name = f"{shown}#{number}"
        found[name] = Source(name, None, url)
    return found


def _paths(argument: str, inputs: Inputs, may_be_empty: bool, images: bool) -> list[Path]:
    name = name_below(argument, inputs.base)
    if os.path.isdir(argument):
        inputs._scopes.append(lambda other: _is_below(other, name))
        known = _walk(argument, inputs)
        read = _without_pictures(argument, known, inputs, may_be_empty, images)
        if not known and inputs.parts and not may_be_empty:
            raise _only_parts(argument)
        if not known and not may_be_empty and not inputs.problems:
            raise InputError(
                f"{argument}: no file in this directory has a name ending in one of "
                f"{' '.join(FORMATS_BY_SUFFIX)} (or those with {' '.join(COMPRESSIONS)})"
                f"{' or ' + ' '.join(IMAGE_SUFFIXES) if images else ''}"
            )
        return read
    if os.path.exists(argument):
        inputs._scopes.append(name.__eq__)
        return _without_pictures(argument, [Path(argument)], inputs, False, images)
    is_pattern = glob.escape(argument) != argument
    inputs._scopes.append(lambda other: _matches(other.split("/"), name.split("/")))
    matches = sorted({path for path in _expanded(argument) if os.path.isfile(path)})
    folders = {os.path.dirname(path) for path in matches}
    of_parts = set(filter(_holds_parts, folders)) if is_pattern else set()
    inputs.parts += len(of_parts)
    if of_parts and folders == of_parts and not may_be_empty:
        raise _only_parts(argument)
    matches = [path for path in matches if os.path.dirname(path) not in of_parts]
    if not matches and not (is_pattern and may_be_empty):
        raise InputError(f"{argument}: no such file or directory")
    return _without_pictures(argument, list(map(Path, matches)), inputs, may_be_empty, images)


def _without_pictures(
    argument: str, paths: list[Path], inputs: Inputs, may_be_empty: bool, images: bool
) -> list[Path]:
    """Pass over pictures unless the model takes them, but not if there is nothing else."""
    if images:
        return paths
    others = [path for path in paths if _format_of_name(path.name) != IMAGE]
    if paths and not others and not may_be_empty:
        what = "this model takes no images"
        if paths != [Path(argument)]:
            what += f", and {counted(len(paths), 'picture')} is all there is"
        raise InputError(f"{argument}: {what}", hint="name a model that does, with --model")
    inputs.pictures += len(paths) - len(others)
    return others


def _walk(directory: str, inputs: Inputs) -> list[Path]:
    def unreadable(error: OSError) -> None:
        name = name_below(error.filename, inputs.base)
        inputs.problems.append(Problem(name, 0, f"cannot be read ({error.strerror})"))

    known: list[Path] = []
    for folder, folders, files in os.walk(directory, onerror=unreadable):
        if _holds_parts(folder):
            inputs.parts += 1
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(folder, name)
            if name.startswith(".") or not path.is_file():
                continue
            if _format_of_name(name):
                known.append(path)
            else:
                inputs.ignored += 1
    return known


def _holds_parts(folder: str) -> bool:
    """Whether an encode made this folder for its parts."""
    try:
        with open(os.path.join(folder, _MANIFEST), "rb") as file:
            return _is_manifest(file.read(_MANIFEST_BYTES))
    except OSError:
        return False


def _is_manifest(head: bytes) -> bool:
    """Recognise the manifest of an encode by its beginning: others have files of this name."""
    return re.match(rb'\{"format":\d+,"plan":"[0-9a-f]{64}"', head) is not None


def _only_parts(argument: str) -> InputError:
    return InputError(
        f"{without_secrets(argument)}: there are only parts that an encode made",
        hint=f"embcli import {without_secrets(argument)}",
    )


def name_below(path: str | os.PathLike[str], base: str) -> str:
    """Name a file by its path from a folder, or by its full path if it is not below it."""
    absolute = os.path.abspath(path)
    relative = os.path.relpath(absolute, base)
    outside = relative == ".." or relative.startswith(f"..{os.sep}")
    name = Path(absolute if outside else relative).as_posix()
    # A name that is not UTF-8 could not be stored.
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_below(name: str, folder: str) -> bool:
    if folder == ".":
        return name != STDIN and not name.startswith("/")
    return name.startswith(folder.rstrip("/") + "/")


def _expanded(pattern: str) -> Iterator[str]:
    """Find what matches a glob pattern, as `glob.iglob` does.

    But ``**`` and what stands behind it follow no link to a folder, as with directories: links may
    lead in circles, in which there are more ways than anybody can wait for.
    """
    before, among, after = f"/{pattern}".partition("/**/")
    if not among and pattern.rpartition("/")[2] == "**":
        before, among, after = f"/{pattern[:-2].rstrip('/')}", "/**/", "*"
    if not among:
        yield from glob.iglob(pattern)
        return
    before = before[1:] or ("/" if pattern.startswith("/") else "")
    for base in glob.iglob(before) if before else [""]:
        for folder, folders, _ in os.walk(base or "."):
            folders[:] = [name for name in folders if not name.startswith(".")]
            place = folder if base else os.path.relpath(folder)
            rest = after.lstrip("/")
            while rest.startswith("**/"):  # a double slash would begin again at the root
                rest = rest[3:].lstrip("/")
            found = _expanded(rest if place == "." else os.path.join(glob.escape(place), rest))
            yield from (path for path in found if not _through_link(path, place))


def _through_link(path: str, place: str) -> bool:
    """Whether a link to a folder is on the way from a folder to what is below it."""
    least = 0 if place == "." else len(place)
    folder = os.path.dirname(path)
    while len(folder) > least:
        if os.path.islink(folder):
            return True
        folder = os.path.dirname(folder)
    return False


def _matches(name: list[str], pattern: list[str]) -> bool:
    """Whether a name matches a glob pattern, both cut at the slashes."""
    reached = {0}
    for part in pattern:
        if part == "**":
            reached = set(range(min(reached, default=len(name) + 1), len(name) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(name) and fnmatchcase(name[at], part)}
    return len(name) in reached


def _format_of_name(name: str) -> str | None:
    stem, suffix = os.path.splitext(name.lower())
    if suffix in IMAGE_SUFFIXES:
        return IMAGE
    if suffix in COMPRESSIONS:
        suffix = os.path.splitext(stem)[1]
    return FORMATS_BY_SUFFIX.get(suffix)
