"""Token vectors: what a text is in a space with a vector for every token."""

from collections.abc import Sequence
from string import punctuation
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embcli.encoders import Kind

# What recipes say of such a space.
POOLING = "none"
SKIPPED = "special, white space; of documents punctuation"


class Tokens(NamedTuple):
    """The tokens of a text that have vectors.

    Attributes
    ----------
    vectors : float32 array, shape (n, dim)
    spans : int64 array, shape (n, 2)
        Where each is in the text, ``text[start:end]``; of a token that is not in the text, such
        as a mask appended to a query, start and end are 0.
    """

    vectors: NDArray[np.float32]
    spans: NDArray[np.int64]


def choose_tokens(
    text: str, offsets: Sequence[tuple[int, int]], special: Sequence[int], kind: Kind
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Tell which tokens of a text get a vector, and where these are.

    Parameters
    ----------
    text : str
    offsets : sequence of (start, end)
        Of every token, in characters.
    special : sequence of int
        Not 0 where a token is a special one.
    kind : {"document", "query"}

    Returns
    -------
    kept : bool array, shape (len(offsets),)
    spans : int64 array, shape (kept.sum(), 2)
        Without white space at their ends.

    Notes
    -----
    As in ColBERT, documents lose tokens that are nothing but ASCII punctuation, and queries keep
    theirs; a document of nothing else keeps them, too. Unlike in ColBERT, special tokens are left
    out: a model that was not trained to match token by token has put nothing useful there.

    References
    ----------
    Khattab and Zaharia, "ColBERT: Efficient and Effective Passage Search via Contextualized Late
    Interaction over BERT" (SIGIR 2020).
    """
    places = np.array(offsets, np.int64).reshape(-1, 2)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    distinct, which = np.unique(codes, return_inverse=True)
    characters = [chr(code) for code in distinct.tolist()]
    visible = np.array([not c.isspace() for c in characters], np.bool_)[which]
    telling = visible & np.array([c not in punctuation for c in characters], np.bool_)[which]
    at = np.flatnonzero(visible)
    # How many of these are before each end of a token.
    first, last = np.searchsorted(at, places).T
    kept = (last > first) & (np.asarray(special, np.int64) == 0)
    if kind == "document":
        count = np.concatenate(([0], np.cumsum(telling)))
        words = kept & (count[places[:, 1]] > count[places[:, 0]])
        kept = words if words.any() else kept
    return kept, np.stack([at[first[kept]], at[last[kept] - 1] + 1], axis=1)
