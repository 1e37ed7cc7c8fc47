"""The recipe of a space: what its numbers mean, and so what may be compared."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any


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
    """

    settings: Mapping[str, Any]

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read back what `json` wrote."""
        return cls(json.loads(text))

    @cached_property
    def json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, UTF-8."""
        return json.dumps(
            dict(self.settings), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal: the identity of the space."""
        return hashlib.sha256(self.json.encode()).hexdigest()

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

    def differences(self, other: "Recipe") -> list[str]:
        """Name what differs, as ``key: ours → theirs``."""
        return [
            f"{key}: {_short(self.settings.get(key))} → {_short(other.settings.get(key))}"
            for key in sorted({*self.settings, *other.settings})
            if self.settings.get(key) != other.settings.get(key)
        ]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:23]}…"


def file_fingerprint(path: Path) -> str:
    """SHA-256 of a file's bytes as ``sha256:<hex>``."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
