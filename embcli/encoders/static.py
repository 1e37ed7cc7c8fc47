"""The embedded default: a static token table, pooled with NumPy."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embcli.core.pooling import normalize_rows, sum_rows
from embcli.encoders import Kind, QuickEncoder
from embcli.encoders.recipe import Recipe, file_fingerprint
from embcli.encoders.tokens import POOLING, SKIPPED, Tokens, choose_tokens
from embcli.errors import ModelError, UsageError

SPACE_MARK = "\N{LOWER ONE EIGHTH BLOCK}"  # what the tokenizer writes for a space
_WORD = re.compile(" +[^ ]*")
_SINGLE_SPACE = re.compile("(?<! ) (?=[^ ])")
_CHARACTERS_AT_ONCE = 1 << 18
_CACHED_WORDS = 1 << 17
_WORDS_PER_LINE = 128
_CACHED_CHARACTERS = 1 << 24


@lru_cache(maxsize=1)
def _tokenizer(path: str) -> Tokenizer:
    """Load the tokenizer, once for a process that makes several encoders."""
    tokenizer = Tokenizer.from_file(path)
    tokenizer.encode_special_tokens = True
    return tokenizer


class StaticEncoder(QuickEncoder):
    """Mean of static token vectors (WordLlama's l2_supercat table), L2-normalised.

    Weights and tokenizer are read out of the ``wordllama`` wheel without importing it (its own
    loader may ask a model hub). No text is ever cut.

    Parameters
    ----------
    per_token : bool
        Keep the vectors of all tokens, each L2-normalised, instead of their mean.

    Notes
    -----
    No token of this tokenizer spans the start of a word, so the tokens of a text are those of
    its words, one word after the other. Words repeat and tokenizing is what costs, so each
    word is tokenized once, and the sum of its token vectors and their number are remembered: the
    same mean, several times faster where words repeat.

    Text in capitals falls into fragments ("ME AS URE MENT"): retrieval on the NPL collection,
    whose queries are in capitals, drops from nDCG@10 .36 to .06. A text in which upper-case
    letters outnumber lower-case ones is therefore lower-cased when that makes it shorter in
    tokens; "NASA", one token as it stands, is left alone.

    Literal ``<s>``, ``</s>`` and ``<unk>`` in a text are text, not control tokens.
    """

    _sums: NDArray[np.float32]
    _counts: NDArray[np.int64]

    def __init__(self, *, per_token: bool = False) -> None:
        self._per_token = per_token
        weights, tokenizer = _packaged_files()
        self._files = (weights, tokenizer)
        self._table = _read_table(weights)
        self._tokenizer = _tokenizer(str(tokenizer))
        lone_space = self._tokenizer.token_to_id(SPACE_MARK)
        assert lone_space is not None
        self._lone_space = lone_space
        self._forget_words()

    @property
    def dim(self) -> int:
        """Number of components of a vector."""
        return int(self._table.shape[1])

    def tokenizer(self) -> Tokenizer:
        """Tokenizer that counts a text's own tokens, without cutting."""
        return self._tokenizer

    def token_vectors(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of tokens by number, shape (len(tokens), dim)."""
        return self._table[tokens].astype(np.float32)

    def recipe(self) -> Recipe:
        """Describe the space the vectors lie in."""
        return self._recipe

    @cached_property
    def _recipe(self) -> Recipe:
        weights, tokenizer = self._files
        return Recipe(
            {
                "model": "static",
                "weights": file_fingerprint(weights),
                "tokenizer": file_fingerprint(tokenizer),
                "pooling": POOLING if self._per_token else "mean",
                **({"skipped": SKIPPED} if self._per_token else {}),
                "preprocess": "strip; lower if mostly upper and fewer tokens",
                "max_tokens": None,
                "prompt": None,
                "dim": self.dim,
                "normalized": True,
                "maps": [],
            }
        )

    def encode(self, inputs: Sequence[str], kind: Kind = "document") -> NDArray[np.float32]:
        """Encode texts; see `embcli.encoders.Encoder.encode`."""
        if self._per_token:
            raise UsageError("this space has a vector for every token, not one for a text")
        sums, _ = self._totals(self._fold_upper_case(inputs))
        return normalize_rows(sums)  # the mean has the direction of the sum

    def encode_tokens(self, inputs: Sequence[str], kind: Kind = "document") -> list[Tokens]:
        """Encode texts into token vectors; see `embcli.encoders.Encoder.encode_tokens`."""
        if not self._per_token:
            raise UsageError("this space has one vector for a text")
        # Each replacement keeps the length; a text in capitals may not keep it.
        folded = [text.replace(SPACE_MARK, " ") for text in self._fold_upper_case(inputs)]
        stripped = [text.strip() for text in folded]
        encodings = self._tokenizer.encode_batch(stripped, add_special_tokens=False)
        results = []
        for text, read, whole, encoding in zip(inputs, stripped, folded, encodings, strict=True):
            special = [0] * len(encoding.ids)
            kept, spans = choose_tokens(read, encoding.offsets, special, kind)
            spans += len(whole) - len(whole.lstrip())
            if len(whole) != len(text):
                spans = _unfolded(text, spans)
            rows = np.array(encoding.ids, np.int64)[kept]
            vectors = normalize_rows(self._table[rows].astype(np.float32))
            results.append(Tokens(vectors, spans))
        return results

    def count_tokens(self, inputs: Sequence[str]) -> NDArray[np.int64]:
        """Count the tokens of each text as it stands, shape (len(inputs),)."""
        return self._totals(inputs)[1]

    def _fold_upper_case(self, texts: Sequence[str]) -> Sequence[str]:
        shouted = [i for i, text in enumerate(texts) if _is_mostly_upper(text)]
        if not shouted:
            return texts
        folded = [texts[i].lower() for i in shouted]
        before = self.count_tokens([texts[i] for i in shouted])
        shorter = self.count_tokens(folded) < before
        result = list(texts)
        for i, text, better in zip(shouted, folded, shorter.tolist(), strict=True):
            if better:
                result[i] = text
        return result

    def _totals(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Sum of the token vectors of every text, and the number of its tokens."""
        sums = np.zeros((len(texts), self.dim), np.float32)
        counts = np.zeros(len(texts), np.int64)
        for owners, pieces in _in_groups(texts):
            rows, lengths = self._look_up(pieces)
            ends = np.cumsum(lengths)
            tokens = np.concatenate(([0], np.cumsum(self._counts[rows])))
            np.add.at(counts, owners, tokens[ends] - tokens[ends - lengths])
            np.add.at(sums, owners, sum_rows(self._sums, rows, lengths))
            if len(self._words) > _CACHED_WORDS or self._words.characters > _CACHED_CHARACTERS:
                self._forget_words()
        return sums, counts

    def _look_up(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the word table for every word of every text, and the words per text."""
        words = [_split(text) for text in texts]
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        number = self._words.__getitem__
        rows = np.fromiter(map(number, chain.from_iterable(words)), np.int64, int(lengths.sum()))
        self._tokenize_new_words()
        return rows, lengths

    def _tokenize_new_words(self) -> None:
        new = self._words.take_new()
        if not new:
            return
        if len(new) > _WORDS_PER_LINE:
            tokens, counts = self._tokens_of_many(new)
        else:
            tokens, counts = self._tokens_of(new)
        end = len(self._words)
        if end > len(self._counts):
            self._sums = _grown(self._sums, end)
            self._counts = _grown(self._counts, end)
        self._sums[end - len(new) : end] = sum_rows(self._table, tokens, counts)
        self._counts[end - len(new) : end] = counts

    def _tokens_of(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tokens of words or lines of words, one after the other, and how many each has."""
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        # A word without characters is a space mark at the end of the text.
        ids = [encoding.ids or [self._lone_space] for encoding in encodings]
        counts = np.fromiter(map(len, ids), np.int64, len(ids))
        return np.fromiter(chain.from_iterable(ids), np.int64, int(counts.sum())), counts

    def _tokens_of_many(self, words: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Do the same for many words, by the line: a call for each word costs more than it does.

        A word begins where a token begins with a space mark, unless spaces begin the word.
        """
        odd = [i for i, word in enumerate(words) if word[:1] in ("", " ")]
        plain = [word for word in words if word[:1] not in ("", " ")]
        lines = [
            " ".join(plain[start : start + _WORDS_PER_LINE])
            for start in range(0, len(plain), _WORDS_PER_LINE)
        ]
        tokens, _ = self._tokens_of(lines)
        owner = np.cumsum(self._begins_word[tokens]) - 1
        counts = np.bincount(owner, minlength=len(plain))
        if not odd:
            return tokens, counts
        odd_tokens, odd_counts = self._tokens_of([words[i] for i in odd])
        is_odd = np.zeros(len(words), np.bool_)
        is_odd[odd] = True
        all_counts = np.empty(len(words), np.int64)
        all_counts[is_odd], all_counts[~is_odd] = odd_counts, counts
        all_tokens = np.empty(len(tokens) + len(odd_tokens), np.int64)
        from_odd = np.repeat(is_odd, all_counts)
        all_tokens[from_odd], all_tokens[~from_odd] = odd_tokens, tokens
        return all_tokens, all_counts

    @cached_property
    def _begins_word(self) -> NDArray[np.bool_]:
        """Which tokens begin with a space mark, by their numbers."""
        begins = np.zeros(len(self._table), np.bool_)
        vocabulary = self._tokenizer.get_vocab()
        begins[[i for token, i in vocabulary.items() if token.startswith(SPACE_MARK)]] = True
        return begins

    def _forget_words(self) -> None:
        self._words = _WordNumbers()
        self._sums = np.empty((1024, self.dim), np.float32)
        self._counts = np.empty(1024, np.int64)


class _WordNumbers(dict[str, int]):
    """Numbers words in the order they are first seen, and keeps the new ones for tokenizing."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = 0
        self._new: list[str] = []

    def __missing__(self, word: str) -> int:
        number = len(self)
        self[word] = number
        self.characters += len(word)
        self._new.append(word)
        return number

    def take_new(self) -> list[str]:
        new, self._new = self._new, []
        return new


def _grown(array: NDArray[Any], needed: int) -> NDArray[Any]:
    larger = np.empty((max(needed, 2 * len(array)), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


def _in_groups(texts: Iterable[str]) -> Iterator[tuple[list[int], list[str]]]:
    """Cut long texts between words, and gather pieces until a group is worth its while.

    Groups bound how many new words there can be at once, and so the memory it takes.

    Yields
    ------
    owners : list of int
        Number of the text each piece is from.
    pieces : list of str
    """
    owners: list[int] = []
    pieces: list[str] = []
    characters = 0
    for owner, text in enumerate(texts):
        for piece in _pieces(text.strip().replace(SPACE_MARK, " ")):
            owners.append(owner)
            pieces.append(piece)
            characters += len(piece)
            if characters >= _CHARACTERS_AT_ONCE:
                yield owners, pieces
                owners, pieces, characters = [], [], 0
    if pieces:
        yield owners, pieces


def _pieces(text: str) -> Iterator[str]:
    """Cut a text at single spaces, where no token can be cut."""
    start = 0
    while len(text) - start > _CHARACTERS_AT_ONCE:
        cut = _SINGLE_SPACE.search(text, start + _CHARACTERS_AT_ONCE)
        if cut is None:
            break
        yield text[start : cut.start()]
        start = cut.end()
    yield text[start:]


def _split(text: str) -> list[str]:
    """Cut a text before every run of spaces; the tokenizer puts the first space back itself."""
    if "  " not in text and text[:1] != " " and text[-1:] != " ":
        return text.split(" ") if text else []
    return [word[1:] for word in _WORD.findall(" " + text)]


def _unfolded(text: str, spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find places of the lower-cased text in the text; a few characters become two."""
    lengths = [len(character.lower()) for character in text]
    owner = np.repeat(np.arange(len(text)), lengths)
    return np.stack([owner[spans[:, 0]], owner[spans[:, 1] - 1] + 1], axis=1)


def _is_mostly_upper(text: str) -> bool:
    if text.isascii():
        raw = text.encode()
        upper = len(raw) - len(raw.translate(None, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        lower = len(raw) - len(raw.translate(None, b"abcdefghijklmnopqrstuvwxyz"))
    else:
        upper = sum(map(str.isupper, text))
        lower = sum(map(str.islower, text))
    return upper > lower


def _packaged_files() -> tuple[Path, Path]:
    spec = find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            "the package 'wordllama', which carries the static model, is not installed",
            hint="pip install wordllama",
        )
    package = Path(spec.submodule_search_locations[0])
    files = (
        package / "weights" / "l2_supercat_256.safetensors",
        package / "tokenizers" / "l2_supercat_tokenizer_config.json",
    )
    for file in files:
        if not file.is_file():
            raise ModelError(
                f"the installed 'wordllama' lacks {file.name}", hint="pip install -U wordllama"
            )
    return files


def _read_table(path: Path) -> NDArray[np.float16]:
    """Map the one tensor of a safetensors file without reading it."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        tensor = json.loads(file.read(size))["embedding.weight"]
    if tensor["dtype"] != "F16":
        raise ModelError(f"{path.name}: expected float16 weights, found {tensor['dtype']}")
    return np.memmap(
        path,
        np.dtype("<f2"),
        "r",
        offset=8 + size + tensor["data_offsets"][0],
        shape=tuple(tensor["shape"]),
    )
