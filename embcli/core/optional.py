"""Packages that not everybody has installed."""

from importlib.metadata import version
from importlib.util import find_spec

from embcli.errors import ModelError

# What packages are called, where it is not what they are imported as.
_NAMES = {
    "numba": "Numba",
    "pacmap": "PaCMAP",
    "scipy": "SciPy",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
}


def require(module: str, what: str, extra: str = "cluster") -> None:
    """Refuse what takes a package that is not installed.

    Parameters
    ----------
    module : str
    what : str
        The thing that takes it, as the subject of a sentence.
    extra : str
        Of embcli's, that brings it.

    Raises
    ------
    ModelError
        With the command that helps.
    """
    if find_spec(module) is None:
        raise ModelError(
            f"{what} takes {_NAMES.get(module, module)}, which is not installed",
            hint=f"pip install 'embcli[{extra}]'",
        )


def made_by(module: str) -> str:
    """Name a package with its version, for the record of a run."""
    name = "scikit-learn" if module == "sklearn" else module
    return f"{name} {version(name)}"
