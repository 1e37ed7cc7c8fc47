"""From fields to records: which is the text, which the id, which are metadata."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from embcli.errors import InputError
from embcli.formats import Item, Problem, ReadOptions
from embcli.store.records import Record

TEXT_NAMES = (
    "text", "content", "body", "sentence", "document", "passage", "abstract", "description",
    "message", "review", "comment", "caption", "utterance", "tweet", "summary", "snippet",
    "question", "query", "prompt", "title", "headline",
)  # fmt: skip
TITLE_NAMES = ("title", "headline", "subject")
ID_NAMES = ("_id", "id", "doc_id", "docid", "document_id", "pid", "uid", "uuid", "guid", "key")
_META_NAMES = ("metadata", "meta")
_DEEPEST = 100
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


@dataclass(frozen=True)
class FieldMap:
    """Which fields of a file make text, id and metadata.

    `text` is empty where items are texts themselves; `meta` is None for "all others"; `guessed`
    tells that no name of a field said which is the text.
    """

    text: tuple[str, ...]
    id: str | None
    meta: tuple[str, ...] | None
    note: str = ""
    guessed: bool = False

    def record(self, item: Item, source: str, place: str) -> Record | Problem:
        """Make a record of an item, or say why not.

        Parameters
        ----------
        item : Item
        source : str
            Name of the file.
        place : str
            The id, if the item has none.
        """
        if isinstance(item.value, str):
            id, text, meta = item.key or place, item.value, {}
        else:
            fields = item.value
            wrong = self._wrong_field(fields)
            if wrong:
                return Problem(source, item.line, wrong)
            parts = [fields.get(name) for name in self.text]
            text = "\n".join(str(part) for part in parts if part not in (None, ""))
            id = item.key or place if self.id is None else str(fields[self.id])
            meta = self._meta(fields)
        if not text or text.isspace():
            return Problem(source, item.line, f"record {id!r} has no text", "empty", id)
        record = Record(id, text, meta, f"{source}:{item.line}")
        problem = unstorable(record)
        return Problem(source, item.line, problem) if problem else record

    def _wrong_field(self, fields: dict[str, Any]) -> str | None:
        if not self.text:
            return "expected a string like those before, found an object"
        if not any(name in fields for name in self.text):
            wanted = " or ".join(map(repr, self.text))
            return f"expected a field {wanted}, found {_listed(list(fields))}"
        for name in self.text:
            if isinstance(fields.get(name), dict | list | bool):
                return f"expected text in field {name!r}, found {_kind(fields[name])}"
        if self.id is None:
            return None
        id = fields.get(self.id)
        if isinstance(id, str | int | float) and not isinstance(id, bool) and id != "":
            return None
        if self.id not in fields:
            return f"expected an id in field {self.id!r}, which is missing"
        return f"expected an id in field {self.id!r}, found {_kind(id)}"

    def _meta(self, fields: dict[str, Any]) -> dict[str, Any]:
        if self.meta is not None:
            return {name: fields[name] for name in self.meta if name in fields}
        # A title stays in the metadata, where it can be shown and filtered by.
        used = {self.id} | {name for name in self.text if name.lower() not in TITLE_NAMES}
        meta: dict[str, Any] = {}
        for name, value in fields.items():
            if name in used:
                continue
            if name in _META_NAMES and isinstance(value, dict):
                meta = {**value, **meta}
            else:
                meta[name] = value
        return meta


def map_fields(items: Sequence[Item], options: ReadOptions) -> FieldMap:
    """Find out which fields are what from the first items of a file.

    Parameters
    ----------
    items : sequence of Item
        A sample.
    options : ReadOptions
        What the user said, which goes before any guess.

    Raises
    ------
    InputError
        A field the user named is in none of the items, or nothing looks like a text.
    """
    rows = [item.value for item in items if isinstance(item.value, dict)]
    if not rows:
        return FieldMap((), None, ())
    names = list(dict.fromkeys(name for row in rows for name in row))
    for wanted in (*options.text_fields, *filter(None, [options.id_field])):
        if wanted not in names:
            raise InputError(f"no field {wanted!r} (there are: {_listed(names)})")
    if len(rows) < len(items) and guess_text_field(rows) is None and not options.text_fields:
        return FieldMap((), None, ())  # texts, with objects strewn in
    text = options.text_fields or _guess_text(rows)
    id, id_note = options.id_field, ""
    if id is None and not options.line_ids and all(item.key is None for item in items):
        id, id_note = _guess_id(rows, text)
    used = {id} | {name for name in text if name.lower() not in TITLE_NAMES}
    others = [name for name in names if name not in used]
    if options.meta_fields is not None:
        others = [name for name in options.meta_fields if name in names]
        absent = [name for name in options.meta_fields if name not in names]
        id_note += f" (no field {_listed(absent)})" if absent else ""
    named_by = "the key" if items[0].key else "file:line"
    note = (
        f"text = {' + '.join(text)}, id = {id or named_by}, metadata = {_listed(others)}{id_note}"
    )
    guessed = not options.text_fields and guess_text_field(rows) is None
    return FieldMap(text, id, options.meta_fields, note, guessed)


def guess_text_field(rows: Sequence[dict[str, Any]]) -> str | None:
    """Find the field with a name that people give to texts."""
    for name in TEXT_NAMES:
        for row in rows:
            for field, value in row.items():
                if field.lower() == name and isinstance(value, str):
                    return field
    return None


def _guess_text(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    known = guess_text_field(rows)
    if known is None:
        lengths: dict[str, int] = {}
        for row in rows:
            for name, value in row.items():
                if isinstance(value, str) and name not in ID_NAMES:
                    lengths[name] = lengths.get(name, 0) + len(value)
        if not lengths:
            names = list(dict.fromkeys(name for row in rows for name in row))
            raise InputError(
                f"no field looks like a text (there are: {_listed(names)})",
                hint="name it with --text-field",
            )
        return (max(lengths, key=lengths.__getitem__),)
    if known.lower() in TITLE_NAMES:
        return (known,)
    for row in rows:
        for name in row:
            if name.lower() in TITLE_NAMES and isinstance(row[name], str):
                return name, known
    return (known,)


def _guess_id(rows: Sequence[dict[str, Any]], text: tuple[str, ...]) -> tuple[str | None, str]:
    for name in ID_NAMES:
        for field in rows[0]:
            if field.lower() != name or field in text:
                continue
            values = [row.get(field) for row in rows]
            if not all(
                isinstance(v, str | int | float) and not isinstance(v, bool) for v in values
            ):
                continue
            if len(set(map(str, values))) == len(values):
                return field, ""
            return None, f" ({field} repeats)"
    return None, ""


def unstorable(record: Record) -> str | None:
    """Say what of a record has no place in UTF-8 or JSON."""
    try:
        for part in (record.text, record.id, record.meta_json):
            if not part.isascii():
                part.encode()
    except UnicodeEncodeError as error:
        return f"an unpaired surrogate U+{ord(error.object[error.start]):04X} is not a character"
    except ValueError:
        return "metadata holds a number that JSON cannot express"
    except RecursionError:
        return "metadata is nested too deeply"
    if _is_deep(record.meta_json):
        return f"metadata is nested more than {_DEEPEST} deep"
    return None


def _listed(names: Sequence[str], most: int = 12) -> str:
    """Write names one after the other, but not thousands of them."""
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + rest


def _is_deep(meta_json: str) -> bool:
    """Whether JSON is nested so deeply that somebody else's parser may refuse it."""
    if meta_json.count("[") + meta_json.count("{") <= _DEEPEST:
        return False
    depth = deepest = 0
    for bracket in _STRING_OR_BRACKET.findall(meta_json):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(bracket, 0)
        deepest = max(deepest, depth)
    return deepest > _DEEPEST


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", bool: "true or false", type(None): "null"}
    return names.get(type(value), "an empty string" if value == "" else repr(value))
