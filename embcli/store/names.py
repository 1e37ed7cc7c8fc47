"""What things within a collection may be called."""

import re

from embcli.errors import UsageError


def check_word(name: str, of: str) -> None:
    """Refuse a name that could not be written in a filter, or after an option.

    Raises
    ------
    UsageError
    """
    if not re.fullmatch(r"[^\W\d](?:[\w-]*\w)?", name):
        raise UsageError(
            f"{name!r} is not a possible name for {of} (a letter first, then letters, digits, _ "
            "and -)"
        )
