"""Cutting long texts into pieces that a model reads whole."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from embcli.errors import ModelError, UsageError

if TYPE_CHECKING:
    from embcli.encoders import Encoder

Unit = Literal["tokens", "characters", "sentences", "paragraphs"]
Span = tuple[int, int]

_FORM = "tokens=256,overlap=32, or sentences=5, paragraphs=1, characters=1000 instead of tokens"


@dataclass(frozen=True)
class Chunking:
    """How to cut texts.

    Attributes
    ----------
    unit : {"tokens", "characters", "sentences", "paragraphs"}
    size : int
        Most units in a chunk. Tokens are counted as the model reads them, with special tokens
        and prompt. Of tokens and characters, a chunk ends at the end of a paragraph, sentence
        or word where one of these fits.
    overlap : int
        How many units a chunk may share with the one before.
    language : str
        Of the sentences, as an ISO 639 code.
    """

    unit: Unit
    size: int
    overlap: int = 0
    language: str = "en"

    @classmethod
    def parse(cls, text: str) -> "Chunking":
        """Read ``unit=size[,overlap=n][,language=code]``.

        Raises
        ------
        UsageError
        """
        pairs = [part.partition("=") for part in text.split(",")]
        values = {key.strip(): value.strip() for key, _, value in pairs}
        units = [unit for unit in get_args(Unit) if unit in values]
        known = {*units, "overlap"} | ({"language"} if units == ["sentences"] else set())
        if len(units) != 1 or values.keys() - known or len(values) < len(pairs):
            raise UsageError(f"--chunk {text}: expected {_FORM}")
        try:
            size, overlap = int(values[units[0]]), int(values.get("overlap", 0))
        except ValueError:
            raise UsageError(f"--chunk {text}: expected numbers, as in {_FORM}") from None
        if size < 1 or not 0 <= overlap < size:
            raise UsageError(f"--chunk {text}: the size must be above the overlap, and not 0")
        return cls(units[0], size, overlap, values.get("language", "en"))

    @classmethod
    def from_json(cls, text: str) -> "Chunking":
        """Read back what `json` wrote.

        Raises
        ------
        ValueError
            It is something else.
        """
        try:
            found = cls(**json.loads(text))
            spec = f"{found.unit}={found.size},overlap={found.overlap}"
            plain = replace(found, language="en") == cls.parse(spec)
        except (TypeError, UsageError, RecursionError):
            plain = False
        if not (plain and isinstance(found.language, str) and found.json == text):
            raise ValueError(f"{text!r} does not say how texts are cut")
        return found

    @property
    def json(self) -> str:
        """Canonical JSON."""
        return json.dumps(vars(self), sort_keys=True, separators=(",", ":"))


class Chunker:
    """Cuts texts for one encoder.

    Parameters
    ----------
    chunking : Chunking
    encoder : Encoder

    Raises
    ------
    UsageError
        The encoder cannot read chunks of that size, or has no tokens to count.
    ModelError
        A package is missing.
    """

    def __init__(self, chunking: Chunking, encoder: "Encoder") -> None:
        try:
            import semantic_text_splitter
            import sentencex
        except ImportError as error:
            raise ModelError(
                f"cutting texts needs the package {error.name!r}, which is not installed",
                hint="pip install 'embcli[chunk]'",
            ) from error
        self._chunking = chunking
        self._sentences = sentencex.get_sentence_boundaries
        splitter = semantic_text_splitter.TextSplitter
        most = encoder.max_tokens
        tokenizer = encoder.tokenizer()
        size, overlap = chunking.size, chunking.overlap
        around = encoder.tokens_around
        self._whole = None
        self._pieces = None
        if chunking.unit == "characters":
            self._whole = splitter(size, overlap=overlap)
        elif chunking.unit == "tokens":
            if tokenizer is None:
                raise UsageError(
                    "this model has no tokens to count", hint="--chunk characters=1000"
                )
            if most is not None and size > most:
                raise UsageError(
                    f"--chunk tokens={size}: the model reads at most {most} tokens",
                    hint=f"--chunk tokens={most},overlap={min(overlap, most // 2)}",
                )
            if size - around <= overlap:
                raise UsageError(
                    f"--chunk tokens={size}: special tokens and prompt take {around} of them, "
                    f"which leaves no room beside an overlap of {overlap}"
                )
            self._whole = splitter.from_huggingface_tokenizer(
                tokenizer, size - around, overlap=overlap
            )
        if most is not None and tokenizer is not None and chunking.unit != "tokens":
            # What the model could not read whole is cut once more, so that nothing is lost.
            self._pieces = splitter.from_huggingface_tokenizer(tokenizer, max(1, most - around))

    def spans(self, text: str) -> list[Span]:
        """Cut a text.

        Returns
        -------
        spans : list of (start, end)
            In characters; ``text[start:end]`` is the chunk. Without white space at its ends,
            in order; none if the text is nothing but white space.
        """
        if self._whole is not None:
            spans = [(at, at + len(chunk)) for at, chunk in self._whole.chunk_indices(text)]
        else:
            spans = self._groups(text)
        if self._pieces is None:
            return spans
        return [
            (start + at, start + at + len(piece))
            for start, end in spans
            for at, piece in self._pieces.chunk_indices(text[start:end])
        ]

    def _groups(self, text: str) -> list[Span]:
        """Group sentences or paragraphs."""
        parts = self._paragraphs(text) if self._chunking.unit == "paragraphs" else [
            (part["start_index"], part["end_index"])
            for part in self._sentences(self._chunking.language, text)
        ]  # fmt: skip
        trimmed = [span for part in parts if (span := _trimmed(text, part)) is not None]
        size, step = self._chunking.size, self._chunking.size - self._chunking.overlap
        spans = []
        for first in range(0, len(trimmed), step):
            group = trimmed[first : first + size]
            spans.append((group[0][0], group[-1][1]))
            if first + size >= len(trimmed):
                break
        return spans

    def _paragraphs(self, text: str) -> list[Span]:
        paragraphs, start = [], 0
        for part in self._sentences("en", text):
            if part["is_paragraph_break"]:
                paragraphs.append((start, part["start_index"]))
                start = part["end_index"]
        return [*paragraphs, (start, len(text))]


def _trimmed(text: str, span: Span) -> Span | None:
    start, end = span
    chunk = text[start:end]
    start += len(chunk) - len(chunk.lstrip())
    end -= len(chunk) - len(chunk.rstrip())
    return (start, end) if start < end else None


def pieces(text: str, spans: Sequence[Span]) -> list[str]:
    """Cut the chunks out of their text."""
    return [text[start:end] for start, end in spans]
