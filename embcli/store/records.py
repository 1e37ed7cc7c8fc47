"""Records: what one input thing is, inside the program."""

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

# What a record's hash looks like, wherever it comes back from.
HASH = re.compile("[0-9a-f]{16,}")


@dataclass(frozen=True)
class Record:
    """One input thing.

    Parameters
    ----------
    id : str
        Unique within its collection.
    text : str
    meta : dict
        JSON-serialisable.
    source : str
        Where it came from, ``file:line``.
    image : Path, optional
        The file, if the record is a picture; its text is then the name. Not stored.
    """

    id: str
    text: str
    meta: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    image: Path | None = field(default=None, compare=False)

    def row(self) -> dict[str, Any]:
        """Give the record as commands show it."""
        return {"id": self.id, "text": self.text, "meta": self.meta, "source": self.source}

    @cached_property
    def hash(self) -> str:
        """128-bit BLAKE2b of what is encoded, in hexadecimal: equal texts share one vector.

        Of a picture the file is hashed as it is, whatever its name; it is read once.
        """
        content = b"image:" + self.image.read_bytes() if self.image else self.text.encode()
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    @cached_property
    def meta_json(self) -> str:
        """The metadata as it is stored."""
        return _ENCODER.encode(self.meta) if self.meta else "{}"


@dataclass(frozen=True)
class CopiedRecord(Record):
    """A record as another collection has it: its metadata are JSON already, its hash is given.

    The hash tells what was encoded, which need not be the text: a picture, or the vectors that
    were mapped.

    Parameters
    ----------
    origin : str
        The hash.
    stored_meta : str
    """

    origin: str = field(default="", compare=False)
    stored_meta: str = field(default="{}", compare=False)

    @property
    def hash(self) -> str:
        """What was encoded."""
        return self.origin

    @property
    def meta_json(self) -> str:
        """The metadata as they are stored."""
        return self.stored_meta


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
