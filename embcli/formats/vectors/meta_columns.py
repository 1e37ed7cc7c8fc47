"""Metadata as columns: of a type of their own where all values agree, else as JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Kind = Literal["bool", "int", "float", "string", "strings", "json"]

# With more fields than this, metadata become one column of JSON objects.
_MOST = 256
_EXACT_IN_FLOAT = 1 << 53
_INT64 = 1 << 63


@dataclass(frozen=True)
class MetaColumn:
    """A column for a metadata field.

    Attributes
    ----------
    field : str or None
        None if it holds the whole metadata of a record.
    kind : {"bool", "int", "float", "string", "strings", "json"}
    nulls : bool
        Whether an empty cell is a null; it is a missing field otherwise.
    """

    field: str | None
    kind: Kind
    nulls: bool = False

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "MetaColumn | None":
        """Read back what ``vars`` of one gave; None if it is something else."""
        field, kind, nulls = (settings.get(name) for name in ("field", "kind", "nulls"))
        known = kind in get_args(Kind) and isinstance(field, str | None) and "field" in settings
        return cls(field, kind, bool(nulls)) if known else None  # type: ignore[arg-type]

    def values(self, metas: Sequence[dict[str, Any]]) -> list[Any]:
        """Cells of some records, None where they are empty."""
        if self.field is None:
            return [_json(meta) if meta else None for meta in metas]
        if self.kind == "json":
            return [_json(meta[self.field]) if self.field in meta else None for meta in metas]
        return [meta.get(self.field) for meta in metas]

    def fill(self, metas: Sequence[dict[str, Any]], cells: Iterable[Any]) -> None:
        """Put cells back into the metadata they came from.

        Raises
        ------
        ValueError
            A cell that should be JSON is not.
        """
        for meta, cell in zip(metas, cells, strict=True):
            if cell is None:
                if self.nulls and self.field is not None:
                    meta[self.field] = None
            elif self.field is None:
                found = json.loads(cell)
                meta.update(found if isinstance(found, dict) else {"meta": found})
            else:
                meta[self.field] = json.loads(cell) if self.kind == "json" else cell


class MetaKinds:
    """Finds out what columns metadata need."""

    def __init__(self) -> None:
        self._kinds: dict[str, set[str]] = {}
        self._counts: dict[str, int] = {}
        self._records = 0

    def see(self, metas: Iterable[dict[str, Any]]) -> None:
        """Take note of the metadata of some records."""
        for meta in metas:
            self._records += 1
            if len(self._kinds) > _MOST:
                continue
            for field, value in meta.items():
                self._kinds.setdefault(field, set()).add(_kind(value))
                self._counts[field] = self._counts.get(field, 0) + 1

    def columns(self) -> list[MetaColumn]:
        """List the columns for all that was seen, in the order it came."""
        if len(self._kinds) > _MOST:
            return [MetaColumn(None, "json")]
        return [self._column(field, kinds) for field, kinds in self._kinds.items()]

    def _column(self, field: str, kinds: set[str]) -> MetaColumn:
        nulls = "null" in kinds
        kind = _common(kinds - {"null"})
        # An empty cell cannot mean both.
        if kind == "json" or (nulls and self._counts[field] < self._records):
            return MetaColumn(field, "json")
        return MetaColumn(field, kind, nulls)


def _common(kinds: set[str]) -> Kind:
    known: tuple[tuple[Kind, set[str]], ...] = (
        ("bool", {"bool"}),
        ("int", {"int", "long"}),
        ("float", {"int", "float"}),
        ("string", {"string"}),
        ("strings", {"strings", "empty"}),
    )
    for kind, members in known:
        if kinds and kinds <= members and kinds != {"empty"}:
            return kind
    return "json"


def _kind(value: Any) -> str:
    if isinstance(value, list):
        if not all(isinstance(item, str) for item in value):
            return "json"
        return "strings" if value else "empty"
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) <= _EXACT_IN_FLOAT:
            return "int"
        return "long" if -_INT64 <= value < _INT64 else "json"
    names = {type(None): "null", bool: "bool", float: "float", str: "string"}
    return names.get(type(value), "json")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
