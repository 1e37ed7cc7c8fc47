"""Which fields of a file of vectors are id, text, vector and metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embcli.errors import InputError
from embcli.formats.fields import ID_NAMES, TEXT_NAMES

VECTOR_NAMES = (
    "embedding", "embeddings", "vector", "vectors", "emb", "embs", "vec", "vecs", "values",
    "features", "representation", "x",
)  # fmt: skip
WORD_NAMES = ("word", "words", "token", "label", "name")
META_NAMES = ("meta", "metadata")


def find_name(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """Find the first of the wanted names, in any case, among those there are."""
    lowered = {name.lower(): name for name in reversed(names)}
    return next((lowered[name] for name in wanted if name in lowered), None)


def require(name: str, given: str | None, names: Sequence[str]) -> None:
    """Refuse a field that is not there.

    Raises
    ------
    InputError
        It is not.
    """
    if given is not None and given not in names:
        listed = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
        raise InputError(f"{name}: no field {given!r} (there are: {listed or 'none'})")


@dataclass(frozen=True)
class Fields:
    """Which fields make id and text; what is left is metadata.

    Attributes
    ----------
    id : str or None
    texts : tuple of str
    """

    id: str | None
    texts: tuple[str, ...]

    @classmethod
    def found(
        cls, name: str, names: Sequence[str], id_field: str | None, text_fields: Sequence[str]
    ) -> "Fields":
        """Choose among the names there are: what the user said, else the usual names.

        A field with words, where there is no id or no text, is that.

        Raises
        ------
        InputError
            A field that the user named is not there.
        """
        for given in (id_field, *text_fields):
            require(name, given, names)
        id = id_field or find_name(names, (*ID_NAMES, "ids"))
        words = find_name(names, WORD_NAMES)
        text = find_name(names, (*TEXT_NAMES, "texts")) or words
        return cls(id or words, tuple(text_fields) or ((text,) if text else ()))

    def split(self, row: Mapping[str, Any]) -> tuple[str | None, str, dict[str, Any]]:
        """Take a row of fields, without its vector, apart: id, text, metadata.

        An object called ``meta`` or ``metadata`` gives its fields.
        """
        value = row.get(self.id) if self.id is not None else None
        id = None if value is None or value == "" else str(value)
        parts = [row.get(name) for name in self.texts]
        text = "\n".join(str(part) for part in parts if part is not None)
        meta: dict[str, Any] = {}
        for name, value in row.items():
            if name == self.id or name in self.texts:
                continue
            if name in META_NAMES and isinstance(value, dict):
                meta |= value
            elif name not in META_NAMES or value is not None:
                meta[name] = value
        return id, text, meta
