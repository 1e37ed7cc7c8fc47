"""Refining a map: a dictionary is induced with it, a map fitted to that, and so on."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from embcli.core.alignment import Pairs
from embcli.core.alignment.induction import KEEP, Dictionary, drop_out, mutual_nearest
from embcli.core.cosine import unit32
from embcli.core.maps import Map
from embcli.errors import UsageError

KINDS = ("mutual", "self-learning")
_ROUNDS = 10

Fitting = Callable[[Pairs], Map]


class Refined(NamedTuple):
    """A refined map.

    Attributes
    ----------
    map : Map
    dictionary : Dictionary
        The mutual nearest neighbours with it, and their score.
    rounds : int
        How many rounds of mutual nearest neighbours led to it.
    """

    map: Map
    dictionary: Dictionary
    rounds: int


def refine(
    pairs: Pairs,
    fit: Fitting,
    *,
    start: Map | None = None,
    kind: str = "mutual",
    rounds: int = 20,
    vocabulary: int = 2000,
    seed: int = 0,
) -> Refined:
    """Fit a map again and again to what it finds itself.

    Parameters
    ----------
    pairs : Pairs
        Its pairs are what the first map is fitted to; without `start`, `fit` must accept them.
    fit : callable
        Given all vectors, and the dictionary as pairs.
    start : Map, optional
        The first map, instead.
    kind : {"mutual", "self-learning"}
        ``mutual``, after MUSE [1]_: the dictionary is made of all mutual nearest neighbours by
        CSLS. ``self-learning``, after VecMap [2]_: before that, rounds of `learn_from_itself`.
    rounds : int
        Of mutual nearest neighbours, at most. The last one is that in which their mean CSLS
        rose no more; the best is kept, which may be the first map.
    vocabulary : int
        For self-learning.
    seed : int
        For self-learning.

    Raises
    ------
    UsageError
        There is no such kind, or `rounds` is less than 0.

    Notes
    -----
    MUSE limits the dictionary to the 10,000 most frequent words, and always makes five rounds.
    Each costs two passes over all cosines, and one fit.

    References
    ----------
    .. [1] A. Conneau, G. Lample, M. Ranzato, L. Denoyer, H. Jégou. Word translation without
       parallel data. ICLR 2018.
    .. [2] M. Artetxe, G. Labaka, E. Agirre. A robust self-learning method for fully unsupervised
       cross-lingual mappings of word embeddings. ACL 2018.
    """
    if kind not in KINDS:
        raise UsageError(f"no refinement {kind!r} (there are: {', '.join(KINDS)})")
    if rounds < 0:
        raise UsageError(f"a refinement takes 0 rounds or more, not {rounds}")
    fitted = fit(pairs) if start is None else start
    if kind == "self-learning":
        fitted = learn_from_itself(pairs, fit, fitted, vocabulary=vocabulary, seed=seed)
    found = _found(pairs, fitted)
    best = Refined(fitted, found, 0)
    for number in range(1, rounds + 1):
        fitted = fit(pairs._replace(rows=found.rows, columns=found.columns))
        found = _found(pairs, fitted)
        # One round may be level with the last, but for rounding.
        if found.score <= best.dictionary.score + 1e-6:
            break
        best = Refined(fitted, found, number)
    return best


def learn_from_itself(
    pairs: Pairs,
    fit: Fitting,
    start: Map,
    *,
    vocabulary: int = 2000,
    rounds: int = _ROUNDS,
    seed: int = 0,
) -> Map:
    """Fit a map to dictionaries that are induced at random, and less and less so.

    Parameters
    ----------
    pairs : Pairs
        Its pairs are not looked at.
    fit : callable
        As of `refine`; given a dictionary of as many pairs as there are vectors taken.
    start : Map
    vocabulary : int
        How many vectors of each side are taken. They should be those that are most likely to have
        a counterpart: the first, as vectors of words come in the order of falling frequency.
    rounds : int
        For each probability of `drop_out`: 0.1, 0.2, 0.4, 0.8 and 1.
    seed : int

    Returns
    -------
    map : Map
        Fitted to the vectors taken, centred on their means if that is what `fit` does.

    Notes
    -----
    VecMap takes 20,000 words, and doubles the probability when nothing has risen for 50 rounds:
    410 rounds on the vectors of benchmarks/unsupervised.py, where these 50 with 2,000 words lead
    to the same place.

    References
    ----------
    M. Artetxe, G. Labaka, E. Agirre. A robust self-learning method for fully unsupervised
    cross-lingual mappings of word embeddings. ACL 2018.
    """
    if vocabulary < 2:
        raise UsageError(f"a vocabulary of {vocabulary} is too small to learn from")
    rng = np.random.default_rng(seed)
    head = Pairs(pairs.source[:vocabulary], pairs.target[:vocabulary], pairs.rows, pairs.columns)
    fitted = start
    for keep in KEEP:
        for _ in range(rounds):
            a = unit32(fitted.source.apply(head.source))
            b = unit32(fitted.target.apply(head.target))
            found = drop_out(a, b, keep, rng)
            fitted = fit(head._replace(rows=found.rows, columns=found.columns))
    return fitted


def _found(pairs: Pairs, fitted: Map) -> Dictionary:
    return mutual_nearest(fitted.source.apply(pairs.source), fitted.target.apply(pairs.target))
