"""Pairs that are held out, and how well a map translates them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embcli.core.alignment import Pairs
from embcli.core.maps import Map

RETRIEVALS = ("nn", "csls")
# Fewer held-out sources would say nothing.
LEAST_HELD_OUT = 10
# Of fewer sources, holding ten out would leave too little to fit to.
_FEWEST_TO_SPLIT = 30
# Of few pairs a share is too small to tell methods apart: then several are held out in turn.
_ENOUGH_HELD_OUT = 500
_MOST_SPLITS = 5
# More say no more, and each is compared with all targets.
_MOST_HELD_OUT = 2000
# Sources that CSLS looks at around every candidate; see `measured`.
_MOST_AROUND = 20_000
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Split:
    """Pairs to fit to, and pairs to measure with that have none of their sources."""

    train: Pairs
    test: Pairs

    @classmethod
    def several(cls, pairs: Pairs, share: float, seed: int) -> "list[Split]":
        """Keep a share of the sources aside, with all their pairs; of few pairs one after another.

        Returns
        -------
        splits : list of Split
            As many disjoint ones as make `_ENOUGH_HELD_OUT` sources together, at most
            `_MOST_SPLITS`.
        """
        sources = np.unique(pairs.rows)
        # Equal vectors go together: what was fitted to one would be measured with the other.
        same: dict[bytes, int] = {}
        twins = np.array(
            [same.setdefault(pairs.source[row].tobytes(), row) for row in sources.tolist()],
            np.int64,
        )
        groups = np.random.default_rng(seed).permutation(np.unique(twins))
        size = min(round(len(groups) * share), _MOST_HELD_OUT)
        if share and len(groups) >= _FEWEST_TO_SPLIT:
            size = max(size, LEAST_HELD_OUT)
        if not size:
            return [cls(pairs, pairs.take(np.zeros(len(pairs.rows), np.bool_)))]
        count = min(-(-_ENOUGH_HELD_OUT // size), len(groups) // size, _MOST_SPLITS)
        of_pairs = twins[np.searchsorted(sources, pairs.rows)]
        masks = [np.isin(of_pairs, groups[n * size : (n + 1) * size]) for n in range(count)]
        return [cls(pairs.take(~aside), pairs.take(aside)) for aside in masks]

    @property
    def measurable(self) -> bool:
        """Whether there is enough to measure with."""
        return len(np.unique(self.test.rows)) >= LEAST_HELD_OUT


def measured(
    map: Map,
    split: Split,
    retrievals: Sequence[str] = RETRIEVALS,
    temperature: float | None = None,
) -> list[Row]:
    """Translate held-out sources, all targets being candidates.

    Returns
    -------
    rows : list of dict
        For every way of retrieving ``P@1``, ``P@5``, ``P@10``, ``MRR``, how many ``sources`` were
        translated, how many ``candidates`` there were, and among how many sources CSLS and the
        inverted softmax look at each candidate: at most `_MOST_AROUND`, drawn at random.
    """
    from embcli.core.alignment.evaluation import translation

    test = thinned(split.test)
    pairs = split.train._replace(source=test.source)
    if len(test.source) < len(split.test.source):
        pairs = pairs.take(np.zeros(len(pairs.rows), np.bool_))  # whose rows these are not
    rows = []
    for retrieval in retrievals:
        scores = translation(
            map, pairs, (test.rows, test.columns), retrieval=retrieval, temperature=temperature
        )
        rows.append(
            {
                "retrieval": retrieval,
                **{f"P@{k}": value for k, value in scores.precision.items()},
                "MRR": scores.mrr,
                "sources": len(scores.sources),
                "candidates": len(test.target),
                "around": len(test.source),
            }
        )
    return rows


def together(each: Sequence[list[Row]]) -> Iterator[Row]:
    """Average what was measured with several splits over all their sources."""
    for rows in zip(*each, strict=True):
        sources = sum(row["sources"] for row in rows)
        figures = (name for name in rows[0] if name == "MRR" or name.startswith("P@"))
        yield {
            **rows[0],
            **{name: sum(row[name] * row["sources"] for row in rows) / sources for name in figures},
            "sources": sources,
        }


def thinned(pairs: Pairs) -> Pairs:
    """Draw sources that are in no pair, if there are too many to compare all with all targets."""
    if len(pairs.source) <= _MOST_AROUND:
        return pairs
    used = np.unique(pairs.rows)
    others = np.setdiff1d(np.arange(len(pairs.source)), used)
    more = max(_MOST_AROUND - len(used), 0)
    drawn = np.random.default_rng(0).choice(others, min(more, len(others)), replace=False)
    kept = np.sort(np.concatenate([used, drawn]))
    return pairs._replace(source=pairs.source[kept], rows=np.searchsorted(kept, pairs.rows))
