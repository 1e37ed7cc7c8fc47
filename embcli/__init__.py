"""embcli, the command-line embedding workbench.

The public Python API, loaded on first use so that ``import embcli`` costs nothing:

>>> from embcli import Store, encode, search
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Composition",
    "Feedback",
    "Ranking",
    "Recipe",
    "Record",
    "Store",
    "__version__",
    "encode",
    "load_encoder",
    "search",
]

if TYPE_CHECKING:
    from embcli.encoders import load_encoder
    from embcli.encoders.recipe import Recipe
    from embcli.pipelines.composition import Composition
    from embcli.pipelines.encode import encode
    from embcli.pipelines.ranking import Feedback, Ranking
    from embcli.pipelines.search import search
    from embcli.store import Record, Store

_HOMES = {
    "Composition": "embcli.pipelines.composition",
    "Feedback": "embcli.pipelines.ranking",
    "Ranking": "embcli.pipelines.ranking",
    "Recipe": "embcli.encoders.recipe",
    "Record": "embcli.store",
    "Store": "embcli.store",
    "encode": "embcli.pipelines.encode",
    "load_encoder": "embcli.encoders",
    "search": "embcli.pipelines.search",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'embcli' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
