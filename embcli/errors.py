"""Every failure embcli foresees, with the exit code each one leads to."""

from typing import ClassVar


class EmbcliError(Exception):
    """Base of all foreseen failures.

    Parameters
    ----------
    message : str
        What went wrong and where, expected against found, on one line.
    hint : str, optional
        What to do about it, preferably a command that can be pasted.
    """

    exit_code: ClassVar[int] = 70
    meaning: ClassVar[str] = "a bug in embcli"

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NothingFoundError(EmbcliError):
    """The command ran well and there was nothing to report."""

    exit_code = 1
    meaning = "nothing found"


class UsageError(EmbcliError):
    """The command line does not make sense."""

    exit_code = 2
    meaning = "wrong usage"


class InputError(EmbcliError):
    """The data given cannot be used, wholly or in part."""

    exit_code = 3
    meaning = "bad input data (what could be read was kept)"


class UnreadableError(InputError):
    """A file cannot be read, whatever is in it: the same may be read another time."""


class ModelError(EmbcliError):
    """A model or an optional package is missing, or is not the one expected."""

    exit_code = 4
    meaning = "a model or an optional package is missing"


class StoreError(EmbcliError):
    """The store cannot be opened, read or written."""

    exit_code = 5
    meaning = "the store cannot be used"


def counted(count: int, noun: str) -> str:
    """Put a number before its noun: 1 record, 2,000 records."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def exit_codes() -> dict[int, str]:
    """Every exit code with its meaning, read off the classes."""
    classes: list[type[EmbcliError]] = [*EmbcliError.__subclasses__(), EmbcliError]
    codes = {0: "success"} | {cls.exit_code: cls.meaning for cls in classes}
    return codes | {130: "interrupted (Ctrl-C)", 143: "terminated"}
