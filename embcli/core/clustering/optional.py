"""The optional packages that ways of clustering take."""

from importlib.metadata import version
from importlib.util import find_spec

from embcli.errors import ModelError

NAMES = {"sklearn": "scikit-learn", "scipy": "SciPy"}
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def require(package: str, what: str, *, extra: str = "cluster") -> None:
    """Refuse what takes a package that is not installed.

    Parameters
    ----------
    package : str
        As it is imported.
    what : str
        The thing that takes it, as the subject of a sentence.
    extra : str
        Of embcli's, the one that the package comes with.

    Raises
    ------
    ModelError
    """
    if find_spec(package) is None:
        raise ModelError(
            f"{what} takes {NAMES.get(package, package)}, which is not installed",
            hint=f"pip install 'embcli[{extra}]'",
        )


def made_by(package: str) -> str:
    """Name a package with its version, for the record of a run."""
    name = _DISTRIBUTIONS.get(package, package)
    return f"{name} {version(name)}"
