"""How a collection is searched through compact codes of its vectors."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Coding:
    """What was decided for a collection, and why.

    Parameters
    ----------
    kind : str or None
        See `embcli.core.quantize`; None for an exact search.
    oversample : int
        For k results the best ``oversample * k`` by the codes are compared in full.
    recall : float or None
        Recall@10 of that, estimated on a sample; None if it was not.
    sample : int
        Number of records in that sample.
    vectors : int
        Number of vectors at the time.
    chosen : bool
        Whether a user chose the kind; what was decided automatically may be decided again.
    encoding : mapping, optional
        Of a multi-vector collection, the arguments of the `embcli.core.muvera.Muvera` whose
        encodings of records are what `kind` codes.
    """

    kind: str | None
    oversample: int = 1
    recall: float | None = None
    sample: int = 0
    vectors: int = 0
    chosen: bool = False
    encoding: Mapping[str, Any] | None = None

    @property
    def json(self) -> str:
        """As it is stored."""
        stored = asdict(self)
        if self.encoding is None:
            del stored["encoding"]  # as it was before there were any
        return json.dumps(stored, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `json` gave."""
        return cls(**json.loads(text))
