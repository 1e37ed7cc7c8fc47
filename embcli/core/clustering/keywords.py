"""Keywords that tell clusters of texts apart, by class-based TF-IDF."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from embcli.core.clustering.words import akin, unspaced, words_of
from embcli.errors import InputError, counted

# So many counts of words in clusters are held at most, which takes about 300 MB.
MOST_COUNTS = 1 << 21
# A count is taken for so many of its standard deviations less than it is.
_CAUTION = 0.9
# So many texts are added to those of other clusters, and have every word.
_PRIOR = 2
# A word of which a larger share of all texts has one stands for nothing.
_COMMON = 0.5
# Share of the texts with a word that have it in a certain pair, from which the pair is taken.
_IN_PAIR = 0.5
# The other word of a pair weighs at least this share of the first.
_PARTNER = 0.2
_LABEL_WORDS = 3


@dataclass(frozen=True)
class Keyword:
    """A word, or a pair of words, that a cluster has more often than other texts have.

    Attributes
    ----------
    word : str
        In lower case.
    weight : float
        Above 0, for comparison within a cluster.
    count : int
        Texts of the cluster that have it.
    """

    word: str
    weight: float
    count: int


def keywords(
    texts: Iterable[str],
    labels: NDArray[np.int64],
    *,
    top: int = 10,
    most_counts: int = MOST_COUNTS,
) -> list[list[Keyword]]:
    """Find the words that tell every cluster from the others.

    Parameters
    ----------
    texts : iterable of str
        Of the rows, in order. Read once and not kept.
    labels : int64 array, shape (n,)
        Clusters from 0 on; texts of negative ones (noise) only count as other texts.
    top : int
        Keywords per cluster; there are fewer if no more words are more frequent there.
    most_counts : int
        Entries of the tables of counts. If there are more, words of the smallest share of their
        cluster's texts so far are forgotten, pairs of words before single ones.

    Returns
    -------
    keywords : list of list of Keyword
        Of every cluster, by falling weight, of equals by the alphabet. No two are forms of one
        word (`embcli.core.clustering.words.akin`).

    Raises
    ------
    InputError
        There are more or fewer texts than labels.

    Notes
    -----
    The weight of a word is tf · idf² · log(tf / share of other texts with it), where tf is the
    share of the cluster's texts that have the word, and idf = log(1 + A / f), with A the words of a
    cluster on average and f the texts that have this one. The last factor, and the square, do the
    work of a list of stop words in every language: a word that is no more frequent in the cluster
    than elsewhere, or is in more than half of all texts, weighs nothing. Counts are taken
    0.9 standard deviations (square roots) low and two texts are added to the others, so that a few
    coincidences make no keyword. If there is one cluster and nothing else, that factor is left out.
    A word that half of its texts have beside one and the same other keyword gives way to the pair.

    Deviations from the paper, where the weight is tf · idf: texts are counted, not occurrences; the
    square; the last factor; pairs of words.

    References
    ----------
    Grootendorst. BERTopic: Neural topic modeling with a class-based TF-IDF procedure. 2022.
    """
    counts = _count(texts, labels, most_counts)
    total: Counter[str] = Counter()
    for cluster in counts:
        total.update(cluster.words)
    everything = sum(cluster.texts for cluster in counts)
    clusters = counts[1:]
    average = sum(total.values()) / max(len(clusters), 1)
    return [_chosen(cluster, total, everything, average, top) for cluster in clusters]


def label_of(keywords: Sequence[Keyword], words: int = _LABEL_WORDS) -> str:
    """Name a cluster by its first keywords: card, arrived, delivery; empty if it has none."""
    return ", ".join(keyword.word for keyword in keywords[:words])


def labels_of(keywords: Sequence[Sequence[Keyword]]) -> list[str]:
    """Name clusters as `label_of` does, so that no two names are the same.

    Equal names become longer by a keyword each as long as they are equal and there are more, and
    end with the cluster's number where that does not help. A cluster without keywords is
    ``cluster 3``.
    """
    names = [label_of(one) or f"cluster {number}" for number, one in enumerate(keywords)]
    for words in range(_LABEL_WORDS + 1, max(map(len, keywords), default=0) + 1):
        often = Counter(names)
        names = [
            label_of(one, words) if one and often[name] > 1 else name
            for one, name in zip(keywords, names, strict=True)
        ]
    often = Counter(names)
    return [f"{name} ({number})" if often[name] > 1 else name for number, name in enumerate(names)]


class _Cluster:
    """How many texts of a cluster have a word, or a pair of words."""

    def __init__(self) -> None:
        self.texts = 0
        self.words: Counter[str] = Counter()
        self.pairs: Counter[str] = Counter()

    @property
    def size(self) -> int:
        return len(self.words) + len(self.pairs)

    def add(self, text: str) -> None:
        self.texts += 1
        words = words_of(text)
        self.words.update({word for word in words if word and not word.isdecimal()})
        self.pairs.update(
            {f"{a} {b}" for a, b in pairwise(words) if a and b and a != b and not unspaced(a)}
        )


def _count(texts: Iterable[str], labels: NDArray[np.int64], most: int) -> list[_Cluster]:
    """Count noise, and then every cluster."""
    counts = [_Cluster() for _ in range(int(labels.max(initial=-1)) + 2)]
    size = n = 0
    for n, text in enumerate(texts, 1):
        if n > len(labels):
            break
        cluster = counts[max(int(labels[n - 1]), -1) + 1]
        before = cluster.size
        cluster.add(text)
        size += cluster.size - before
        if size > most:
            _forget(counts, most // 2)
            size = sum(cluster.size for cluster in counts)
    if n != len(labels):
        more = "more" if n > len(labels) else f"{n:,}"
        raise InputError(f"{more} texts for {counted(len(labels), 'label')}")
    return counts


def _forget(counts: Sequence[_Cluster], most: int) -> None:
    """Leave `most` entries, those of words that are in the largest shares of their cluster."""
    tables = [(cluster.texts, cluster.pairs) for cluster in counts]
    words = sum(len(cluster.words) for cluster in counts)
    if words >= most:
        for _, pairs in tables:
            pairs.clear()
        tables, words = [(cluster.texts, cluster.words) for cluster in counts], 0
    tables = [(n, table) for n, table in tables if table]
    shares = np.concatenate([np.fromiter(table.values(), float) / n for n, table in tables])
    place = len(shares) - (most - words)  # below the number of shares
    least = np.partition(shares, place)[place] if place > 0 else 0.0
    for n, table in tables:
        # What just reaches the limit goes, too: there may be millions of words found once.
        for word in [word for word, count in table.items() if count / n <= least]:
            del table[word]


def _chosen(
    cluster: _Cluster, total: Counter[str], everything: int, average: float, top: int
) -> list[Keyword]:
    """Take the words of the greatest weights that are not forms of each other."""
    weights = _weights(cluster, total, everything, average)
    chosen: list[Keyword] = []
    taken: list[str] = []
    partners = _partners(cluster, weights)
    for word in sorted(weights, key=lambda word: (-weights[word], word)):
        if len(chosen) == top:
            break
        if any(akin(word, other) for other in taken):
            continue
        pair = partners.get(word, word)
        parts = pair.split(" ")
        if any(akin(part, other) for part in parts for other in taken):
            pair, parts = word, [word]
        taken += parts
        count = cluster.pairs[pair] if len(parts) > 1 else cluster.words[word]
        chosen.append(Keyword(pair, float(weights[word]), count))
    return chosen


def _weights(
    cluster: _Cluster, total: Counter[str], everything: int, average: float
) -> dict[str, float]:
    """Weigh the words of a cluster; those that weigh nothing are left out."""
    words = list(cluster.words)
    n, others = cluster.texts, everything - cluster.texts
    inside = np.array([cluster.words[word] for word in words], float)
    overall = np.array([total[word] for word in words], float)
    weights = (inside - _CAUTION * np.sqrt(inside)) / max(n, 1) * np.log1p(average / overall) ** 2
    if others:
        elsewhere = (overall - inside + _PRIOR) / (others + _PRIOR)
        weights *= np.log(np.maximum(inside / n / elsewhere, 1))
        weights[overall > _COMMON * everything] = 0
    return {
        word: weight for word, weight in zip(words, weights.tolist(), strict=True) if weight > 0
    }


def _partners(cluster: _Cluster, weights: dict[str, float]) -> dict[str, str]:
    """Find the pair of words that a word is mostly in, if there is one."""
    found: dict[str, tuple[int, str]] = {}
    for pair, count in cluster.pairs.items():
        for word, other in (parts := pair.split(" ")), parts[::-1]:
            if (
                word in weights
                and count >= max(2, _IN_PAIR * cluster.words[word])
                and weights.get(other, 0) >= _PARTNER * weights[word]
            ):
                found[word] = max(found.get(word, (0, "")), (count, pair))
    return {word: pair for word, (_, pair) in found.items()}
