"""Packages that not everybody has installed."""

from importlib.util import find_spec

from embcli.errors import ModelError


def require(module: str, what: str, package: str, extra: str) -> None:
    """Raise `ModelError`, with the command that helps, unless a module can be imported.

    Parameters
    ----------
    module : str
    what : str
        Does not go without it.
    package : str
        The module's name as people know it.
    extra : str
        Of embcli, that brings it.
    """
    if find_spec(module) is None:
        raise ModelError(
            f"{what} takes {package}, which is not installed",
            hint=f"pip install 'embcli[{extra}]'",
        )
