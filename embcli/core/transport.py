"""Where POT is imported, without the libraries of tensors it would look for."""

import os
from typing import Any

_OTHERS = ("PYTORCH", "JAX", "CUPY", "TENSORFLOW")


def pot() -> Any:
    """Import POT, for arrays of NumPy only: with its other back ends it takes seconds.

    Raises
    ------
    ImportError
        It is not installed.
    """
    for name in _OTHERS:
        os.environ.setdefault(f"POT_BACKEND_DISABLE_{name}", "1")
    import ot

    return ot
