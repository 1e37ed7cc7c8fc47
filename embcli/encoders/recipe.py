"""The recipe of a space: what its numbers mean, and so what may be compared."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

_LABELS = ("model", "revision")


@dataclass(frozen=True)
class Recipe:
    """Everything that changes the numbers an encoder gives, and nothing else.

    Device, precision and batch size stay out: a query encoded on a laptop must search what a
    GPU encoded. Two vectors may be compared when the hashes of their recipes are equal.

    Parameters
    ----------
    settings : mapping
        JSON-serialisable. ``model`` (str), ``dim`` (int) and ``normalized`` (bool) are always
        there; encoders add their own keys (weights fingerprint, pooling, prompt, ...).

    Notes
    -----
    Where the weights have a fingerprint, the model's name and revision are labels that tell
    where to find them, and no part of the identity: a model moved to another folder, or fetched
    from the hub by another machine, still makes the same space. So it is with vectors that were
    imported, whose file may be renamed.
    """

    settings: Mapping[str, Any]

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read back what `json` wrote."""
        return cls(json.loads(text))

    @classmethod
    def checked(cls, settings: object) -> "Recipe":
        """Take settings that somebody else may have written: those of a file, or of a server.

        Raises
        ------
        ValueError
            They are no recipe's.
        """
        if not isinstance(settings, Mapping):
            raise ValueError("no JSON object")
        model, dim, normalized = (settings.get(key) for key in ("model", "dim", "normalized"))
        if not (isinstance(model, str) and isinstance(normalized, bool)):
            raise ValueError("no model, or not whether vectors have unit length")
        if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
            raise ValueError("no number of components")
        recipe = cls(dict(settings))
        try:
            if "base" in settings:
                cls.checked(settings["base"])
            _ = recipe.hash, recipe.json.encode()  # an unpaired surrogate is no text
        except RecursionError:
            raise ValueError("too many maps") from None
        return recipe

    @cached_property
    def json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, UTF-8."""
        return _canonical(self.settings)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON without labels, in hexadecimal: the space's identity."""
        return hashlib.sha256(_canonical(self._identity).encode()).hexdigest()

    def mapped(self, map: str, dim: int, normalized: bool = True) -> "Recipe":
        """Describe the space that a map leads this one to.

        Parameters
        ----------
        map : str
            SHA-256 of what the map does.
        dim : int
            Components of mapped vectors.
        normalized : bool
            Whether these have unit length.
        """
        settings = {"model": self.model, "dim": dim, "normalized": normalized, "maps": [map]}
        return Recipe(settings | {"base": dict(self.settings)})

    @property
    def base(self) -> "Recipe | None":
        """The space whose vectors were mapped; None if these are an encoder's own."""
        return Recipe(self.settings["base"]) if "base" in self.settings else None

    @property
    def root(self) -> "Recipe":
        """The space of an encoder, or of imported vectors, that these were mapped from."""
        return self if self.base is None else self.base.root

    @property
    def _identity(self) -> dict[str, Any]:
        if self.base is not None:
            settings = {key: value for key, value in self.settings.items() if key != "model"}
            return settings | {"base": self.base.hash}
        known = self.settings.get("weights") or self.settings.get("imported")
        labels = _LABELS if known else ()
        return {key: value for key, value in self.settings.items() if key not in labels}

    @property
    def model(self) -> str:
        """The name `load_encoder` takes."""
        return str(self.settings["model"])

    @property
    def dim(self) -> int:
        """Number of components of a vector."""
        return int(self.settings["dim"])

    @property
    def normalized(self) -> bool:
        """Whether every vector has unit length."""
        return bool(self.settings["normalized"])

    @property
    def multivector(self) -> bool:
        """Whether a text is not one vector but several, one for every token."""
        return self.settings.get("pooling") == "none"

    def differences(self, other: "Recipe") -> list[str]:
        """Name what differs, as ``key: ours → theirs``."""
        ours, theirs = self.settings, other.settings
        return [
            f"{key}: {_short(ours.get(key))} → {_short(theirs.get(key))}"
            for key in sorted({*ours, *theirs})
            if ours.get(key) != theirs.get(key)
        ]


def _canonical(settings: Mapping[str, Any]) -> str:
    return json.dumps(dict(settings), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"


def file_fingerprint(path: Path) -> str:
    """SHA-256 of a file's bytes as ``sha256:<hex>``."""
    status = path.stat()
    return _fingerprint(path, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=64)
def _fingerprint(path: Path, *stamp: int) -> str:
    """Read a file once for a process, as long as it stays what it is."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
