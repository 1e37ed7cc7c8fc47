"""Files of pairs: bilingual dictionaries, or anything else that belongs together in twos."""

import os
from dataclasses import replace
from typing import NamedTuple

from embcli.errors import InputError
from embcli.formats import Problem
from embcli.formats.inputs import expand
from embcli.formats.lines import numbered_lines
from embcli.formats.source import open_source
from embcli.formats.text import refuse_binary


class NamedPair(NamedTuple):
    """What belongs together, and the line that says so."""

    source: str
    target: str
    line: int


def read_pairs(path: str | os.PathLike[str]) -> tuple[list[NamedPair], list[Problem]]:
    """Read pairs, one a line: the source, then the target.

    They are divided by a tab, and then may have spaces in them; or, in files without tabs such as
    MUSE's dictionaries, by white space. What comes behind a second tab is passed over.

    Parameters
    ----------
    path : path
        May be compressed; "-" is standard input.

    Returns
    -------
    pairs : list of NamedPair
        In the order of the file, repeated ones only once.
    problems : list of Problem
        Lines that could not be read.

    Raises
    ------
    InputError
        The file cannot be read, or holds no pair.
    """
    pairs: dict[tuple[str, str], int] = {}
    problems: list[Problem] = []
    for source in expand([os.fspath(path)]).sources:
        with open_source(source) as stream:
            try:
                refuse_binary(stream)
            except InputError as error:
                raise InputError(f"{path}: {error.message}") from None
            tabs = b"\t" in stream.sample
            for line in numbered_lines(stream):
                if line.problem:
                    # There is no --encoding here.
                    reason, other, _ = line.problem.message.partition(" (")
                    advice = " (iconv converts other encodings)" if other else ""
                    problems.append(replace(line.problem, message=reason + advice))
                    continue
                if not line.text.strip():
                    continue
                cells = [cell.strip() for cell in line.text.split("\t" if tabs else None)]
                if len(cells) < 2 or (len(cells) > 2 and not tabs) or not all(cells[:2]):
                    found = "only one" if len([*filter(None, cells)]) < 2 else f"{len(cells)} words"
                    problems.append(
                        Problem(
                            stream.name, line.number,
                            f"expected two words, found {found} (a tab divides what has spaces)",
                        )
                    )  # fmt: skip
                    continue
                pairs.setdefault((cells[0], cells[1]), line.number)
    if not pairs:
        reason = f" ({problems[0]})" if problems else ""
        raise InputError(f"{path}: there is no pair in it{reason}")
    return [NamedPair(*pair, line) for pair, line in pairs.items()], problems
