"""Word lists that say what a bias is: built in, or in files of the user's."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from embcli.errors import InputError, UsageError, counted
from embcli.formats import Problem
from embcli.formats.jsonl import explain
from embcli.formats.pairs import read_pairs

_FOLDER = "data/bias"


@dataclass(frozen=True)
class WordSet:
    """Words with something in common, none of them twice, and what that is called."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class AssociationTest:
    """Whether two sets of targets go with two sets of attributes, as in WEAT.

    Attributes
    ----------
    name : str
    targets, attributes : pair of WordSet
        No word is in both sets of targets.
    """

    name: str
    targets: tuple[WordSet, WordSet]
    attributes: tuple[WordSet, WordSet]


@dataclass(frozen=True)
class BiasSpec:
    """What a bias is, in words.

    Attributes
    ----------
    name : str
    source : str
        Where the lists were published.
    definitional : tuple of tuple of str
        Sets of words, all of one size, that differ in what the bias is about and in little else.
        They are in one order: the first words of all sets make the first group, and so on.
    equalize : tuple of tuple of str
        Sets, all of one size, whose words should differ in that only, and all by as much.
    specific : tuple of str
        Words that are about it by their meaning, and may stay so.
    words : tuple of WordSet
        Lists whose bias is of interest.
    tests : tuple of AssociationTest
    """

    name: str
    source: str = ""
    definitional: tuple[tuple[str, ...], ...] = ()
    equalize: tuple[tuple[str, ...], ...] = ()
    specific: tuple[str, ...] = ()
    words: tuple[WordSet, ...] = ()
    tests: tuple[AssociationTest, ...] = ()

    def summary(self) -> str:
        """Say on a line what is in it: 10 definitional pairs, 320 professions."""
        parts = []
        for kind, sets in (("definitional", self.definitional), ("equalize", self.equalize)):
            if sets:
                size = len(sets[0])
                parts.append(
                    counted(len(sets), f"{kind} pair") if size == 2
                    else f"{counted(len(sets), f'{kind} set')} of {size}"
                )  # fmt: skip
        if self.specific:
            parts.append(counted(len(self.specific), "specific word"))
        parts += [f"{len(words.words):,} {words.name}" for words in self.words]
        return ", ".join(parts + [test.name for test in self.tests])


def specs() -> dict[str, str]:
    """Name the built-in specs, each with a line on what is in it."""
    return {name: read_spec(name).summary() for name in _builtin()}


def read_spec(name: str | os.PathLike[str]) -> BiasSpec:
    """Read a spec that is built in, or a JSON file with the keys of `BiasSpec`.

    ``definitional`` and ``equalize`` are arrays of arrays of words, ``specific`` is an array,
    ``words`` an object of arrays, and ``tests`` an array of objects with ``name``, and with two
    named arrays each under ``targets`` and ``attributes``. All but ``name`` may be left out.
    Words that are twice in a list, and sets that are there twice, are taken once.

    Parameters
    ----------
    name : str or path
        A file of the same name as a built-in spec is asked for by ``./NAME``.

    Returns
    -------
    spec : BiasSpec

    Raises
    ------
    UsageError
        There is no such spec.
    InputError
        The file cannot be read, or is not as described.
    """
    text = os.fspath(name)
    if text in _builtin():
        return _parsed(f"{text}.json", (_data() / f"{text}.json").read_bytes())
    path = Path(text)
    if not path.exists() and len(path.parts) == 1 and not path.suffix:
        raise UsageError(
            f"there is no spec {text!r} (there are: {', '.join(_builtin())}; or a JSON file)"
        )
    try:
        return _parsed(text, path.read_bytes())
    except OSError as error:
        raise InputError(f"{text}: {(error.strerror or str(error)).lower()}") from error


def kept_spec(spec: BiasSpec) -> str | None:
    """Write a spec as JSON, to be kept with what was made by it; None if it is built in."""
    if spec.name in _builtin() and read_spec(spec.name) == spec:
        return None
    sides = ("targets", "attributes")
    tests: list[dict[str, Any]] = [
        {"name": test.name}
        | {side: {words.name: words.words for words in getattr(test, side)} for side in sides}
        for test in spec.tests
    ]
    known: dict[str, Any] = {"name": spec.name, "source": spec.source, "tests": tests}
    known |= {key: getattr(spec, key) for key in ("definitional", "equalize", "specific")}
    known |= {"words": {words.name: words.words for words in spec.words}}
    return json.dumps({key: value for key, value in known.items() if value}, ensure_ascii=False)


def restored_spec(text: str) -> BiasSpec:
    """Read what `kept_spec` wrote.

    Raises
    ------
    InputError
        It is none.
    """
    return _parsed("the spec that is kept with the map", text.encode())


def read_pairs_spec(path: str | os.PathLike[str]) -> tuple[BiasSpec, list[Problem]]:
    """Read definitional pairs, one a line: see `embcli.formats.pairs.read_pairs`.

    Parameters
    ----------
    path : path

    Returns
    -------
    spec : BiasSpec
        Named like the file, with nothing but ``definitional``.
    problems : list of Problem
        Lines that could not be read, and those that pair a word with itself.

    Raises
    ------
    InputError
        The file cannot be read, holds no pair, or the pairs are not in one order.
    """
    name = os.fspath(path)
    pairs, problems = read_pairs(path)
    same = [pair for pair in pairs if pair.source == pair.target]
    problems += [Problem(name, p.line, f"{p.source!r} is paired with itself") for p in same]
    sets = tuple((p.source, p.target) for p in pairs if p.source != p.target)
    if not sets:
        raise InputError(f"{name}: there is no pair of different words in it")
    _check_order(sets, _Place(name))
    return BiasSpec(Path(name).stem, source=name, definitional=sets), problems


@dataclass(frozen=True)
class _Place:
    """Where in a file something is expected."""

    file: str
    key: str = ""

    def at(self, part: str | int) -> "_Place":
        if isinstance(part, int):
            return _Place(self.file, f"{self.key}[{part}]")
        return _Place(self.file, f"{self.key}.{part}" if self.key else part)

    def wrong(self, message: str) -> InputError:
        return InputError(": ".join(filter(None, (self.file, self.key, message))))

    def expected(self, what: str, found: Any) -> InputError:
        shown = json.dumps(found, ensure_ascii=False)
        return self.wrong(f"expected {what}, found {shown[:40]}{'…' * (len(shown) > 40)}")


def _data() -> Any:
    return files("embcli").joinpath(_FOLDER)


def _builtin() -> list[str]:
    return sorted(entry.name.removesuffix(".json") for entry in _data().iterdir())


def _parsed(file: str, content: bytes) -> BiasSpec:
    place = _Place(file)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            raise place.wrong(f"the key {max(keys, key=keys.count)!r} is there twice in one object")
        return found

    try:
        value = json.loads(content.decode("utf-8-sig"), object_pairs_hook=unique)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise place.wrong("an unpaired surrogate is not a character") from error
    except UnicodeDecodeError as error:
        raise place.wrong(f"not UTF-8 (byte {error.start:,})") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{file}:{error.lineno}: not JSON: {error.msg} (column {error.colno})"
        ) from error
    except (ValueError, RecursionError) as error:
        raise place.wrong(f"not JSON: {explain(error)}") from error
    known = tuple(field.name for field in fields(BiasSpec))
    parts = _object(value, place, known)
    readers: dict[str, Callable[[Any, _Place], Any]] = {
        "definitional": _ordered_sets, "equalize": _sets, "specific": _words, "words": _named,
        "tests": _tests,
    }  # fmt: skip
    read = {key: readers[key](parts[key], place.at(key)) for key in readers if key in parts}
    source = parts.get("source", "")
    if not isinstance(source, str):
        raise place.at("source").expected("a string", source)
    return BiasSpec(_name(parts, place), source, **read)


def _object(value: Any, place: _Place, known: tuple[str, ...] = ()) -> dict[str, Any]:
    """Expect an object, which may have these keys and no others."""
    if not isinstance(value, dict):
        raise place.expected("an object", value)
    for key in value:
        if known and key not in known:
            raise place.wrong(f"expected keys among {', '.join(known)}, found {key!r}")
    return value


def _array(value: Any, place: _Place) -> list[Any]:
    if not isinstance(value, list):
        raise place.expected("an array", value)
    return value


def _name(value: dict[str, Any], place: _Place) -> str:
    name = value.get("name")
    if not isinstance(name, str) or not name.strip():
        raise place.at("name").expected("a name", name)
    return name


def _words(value: Any, place: _Place) -> tuple[str, ...]:
    for number, word in enumerate(_array(value, place)):
        if not isinstance(word, str) or not word.strip():
            raise place.at(number).expected("a word", word)
    if not value:
        raise place.expected("words", value)
    return tuple(dict.fromkeys(value))


def _sets(value: Any, place: _Place) -> tuple[tuple[str, ...], ...]:
    """Read sets of two words or more, as many in each."""
    found = [_words(words, place.at(at)) for at, words in enumerate(_array(value, place))]
    for at, words in enumerate(found):
        if len(words) != len(value[at]) or len(words) < 2:
            raise place.at(at).expected("two or more words, all different", value[at])
        if len(words) != len(found[0]):
            expected = f"{len(found[0])} words, as in {place.key}[0]"
            raise place.at(at).expected(expected, value[at])
    return tuple(dict.fromkeys(found))


def _ordered_sets(value: Any, place: _Place) -> tuple[tuple[str, ...], ...]:
    sets = _sets(value, place)
    _check_order(sets, place)
    return sets


def _check_order(sets: tuple[tuple[str, ...], ...], place: _Place) -> None:
    """Refuse sets of which one begins with the group that comes later in another."""
    groups: dict[str, int] = {}
    for words in sets:
        for group, word in enumerate(words):
            before = groups.setdefault(word, group)
            if before != group:
                raise place.wrong(
                    f"{word!r} is number {before + 1} of one set and number {group + 1} of "
                    f"another, {json.dumps(words, ensure_ascii=False)}; sets must be in one order"
                )


def _named(value: Any, place: _Place) -> tuple[WordSet, ...]:
    found = _object(value, place).items()
    return tuple(WordSet(name, _words(words, place.at(name))) for name, words in found)


def _tests(value: Any, place: _Place) -> tuple[AssociationTest, ...]:
    tests = tuple(_test(test, place.at(at)) for at, test in enumerate(_array(value, place)))
    for at, test in enumerate(tests):
        if test.name in {other.name for other in tests[:at]}:
            raise place.at(at).wrong(f"there are two tests of the name {test.name!r}")
    return tests


def _test(value: Any, place: _Place) -> AssociationTest:
    parts = _object(value, place, ("name", "targets", "attributes"))
    name = _name(parts, place)
    targets, attributes = (_two(parts, key, place) for key in ("targets", "attributes"))
    both = [word for word in targets[0].words if word in targets[1].words]
    if both:
        raise place.at("targets").wrong(f"{both[0]!r} is in both sets")
    return AssociationTest(name, targets, attributes)


def _two(value: dict[str, Any], key: str, place: _Place) -> tuple[WordSet, WordSet]:
    sets = _named(value.get(key, {}), place.at(key))
    if len(sets) != 2:
        raise place.at(key).wrong(f"expected two named sets, found {len(sets)}")
    return sets[0], sets[1]
