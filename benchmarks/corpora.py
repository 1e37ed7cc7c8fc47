"""Real texts for the benchmarks: the retrieval sets beside the repository, or the example."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_REPOSITORY = Path(__file__).resolve().parents[1]
BEIR = _REPOSITORY.parent / "shared" / "data" / "beir"
SETS = ("med", "npl", "cosqa", "cranfield")
_EXAMPLE = _REPOSITORY / "examples" / "corpus.jsonl"


def texts(sets: Sequence[str] = SETS) -> list[str]:
    """Read every distinct text once, without the white space around it."""
    files = [BEIR / name / "corpus.jsonl" for name in sets]
    found: dict[str, None] = {}
    for file in files if BEIR.is_dir() else [_EXAMPLE]:
        with file.open(encoding="utf-8") as lines:
            found.update((json.loads(line)["text"].strip(), None) for line in lines)
    return [text for text in found if text]


def sentences(count: int, seed: int) -> list[str]:
    """Cut runs of six to fourteen words out of the texts, at random places."""
    words = " ".join(texts()).split()
    rng = np.random.default_rng(seed)
    lengths = rng.integers(6, 15, count)
    starts = rng.integers(0, len(words) - 15, count)
    ends = starts + lengths
    return [
        " ".join(words[start:end])
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
