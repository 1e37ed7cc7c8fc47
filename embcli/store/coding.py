"""How a collection is searched through compact codes of its vectors."""

import json
from dataclasses import asdict, dataclass
from typing import Self


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
    """

    kind: str | None
    oversample: int = 1
    recall: float | None = None
    sample: int = 0
    vectors: int = 0
    chosen: bool = False

    @property
    def json(self) -> str:
        """As it is stored."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `json` gave."""
        return cls(**json.loads(text))
