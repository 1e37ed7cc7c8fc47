"""Which records each part holds: decided once, from inputs and options alone."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import embcli
from embcli.config import DEFAULT_DB
from embcli.encoders import Encoder, EncoderOptions
from embcli.encoders.recipe import Recipe
from embcli.errors import InputError, StoreError, UsageError, counted
from embcli.formats import ReadOptions
from embcli.formats.fields import FieldMap
from embcli.formats.inputs import OF_PARTS, Inputs, Source
from embcli.formats.remote import is_url, open_filesystem, without_secrets
from embcli.formats.slices import Layout, Slice
from embcli.formats.source import checksum
from embcli.pipelines.chunking import Chunking
from embcli.pipelines.encode import Listeners, Paths, find_inputs, prepare
from embcli.pipelines.shards.folder import (
    Folder,
    as_json,
    local_path,
    open_folder,
    read_json,
)
from embcli.pipelines.shards.pieces import Input, Piece, cut

FORMAT = 1
MANIFEST = "manifest.json"
RECORDS_PER_PART = 10_000
_DAMAGED = "delete it and give the same embcli encode again: parts that are there stay"


@dataclass(frozen=True)
class Plan:
    """What is encoded, how, and which part holds what. It can be pickled.

    Attributes
    ----------
    folder : str
        Path or URL.
    version : str
        Of embcli.
    settings : dict
        The recipe of the space.
    chunking : str or None
        As JSON.
    read : ReadOptions
    part_records : int
        Most lines, rows or files in a part; more where a file cannot be cut.
    inputs : tuple of Input
    parts : tuple of tuple of Piece
    store : str
        The store whose collections encoders may be made of, and whose folder names are
        relative to.
    """

    folder: str
    version: str
    settings: dict[str, Any]
    chunking: str | None
    read: ReadOptions
    part_records: int
    inputs: tuple[Input, ...]
    parts: tuple[tuple[Piece, ...], ...]
    store: str

    @property
    def name(self) -> str:
        """The folder as it is shown."""
        return without_secrets(self.folder)

    @cached_property
    def recipe(self) -> Recipe:
        """The space."""
        return Recipe(self.settings)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all that decides what is in the parts; not of where it lies."""
        content = self._json() | {"recipe": self.recipe.hash}
        del content["store"], content["read"]["size_option"]
        for input in content["inputs"]:
            del input["path"], input["url"], input["mark"]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def manifest(self) -> dict[str, Any]:
        """The plan as it is written."""
        head = {"format": FORMAT, "plan": self.hash, "recipe_hash": self.recipe.hash}
        return head | self._json() | {"complete": False}

    def _json(self) -> dict[str, Any]:
        return {
            "embcli": self.version,
            "recipe": self.settings,
            "chunking": self.chunking,
            "read": asdict(self.read),
            "part_records": self.part_records,
            "inputs": [_without_secrets(asdict(input)) for input in self.inputs],
            "parts": [[asdict(piece) for piece in part] for part in self.parts],
            "store": self.store,
        }

    def _is_possible(self) -> bool:
        """Whether everything is of its kind, as somebody else may have written it."""
        if self.chunking is not None:
            Chunking.from_json(self.chunking)
        pieces = [piece for part in self.parts for piece in part]
        slices = [piece.slice for piece in pieces if piece.slice is not None]
        layouts = [input.layout for input in self.inputs if input.layout is not None]
        numbers = [self.part_records, *(piece.input for piece in pieces)]
        numbers += [input.size for input in self.inputs]
        numbers += [n for s in slices for n in (s.start, s.size, s.first, s.count)]
        numbers += [n for layout in layouts for n in (layout.start, layout.rows)]
        texts = [self.version, self.store, *(part.sum for part in slices)]
        texts += [text for input in self.inputs for text in (input.name, input.mark, input.sum)]
        texts += [text for each in layouts for text in (each.kind, each.unit, each.encoding)]
        return (
            all(type(number) is int and number >= 0 for number in numbers)
            and all(isinstance(text, str) for text in texts)
            and all(piece.input < len(self.inputs) for piece in pieces)
        )

    @classmethod
    def from_manifest(cls, folder: Folder, manifest: dict[str, Any]) -> "Plan":
        """Read back what `manifest` gave.

        Raises
        ------
        InputError
            It is of another version of the format, or damaged.
        """
        name = f"{folder.name}/{MANIFEST}"
        if "format" not in manifest:
            raise InputError(
                f"{name}: this is no manifest of an encode",
                hint=f"another folder, if it is of something else; or {_DAMAGED}",
            )
        if manifest["format"] != FORMAT:
            raise InputError(
                f"{name}: format {manifest['format']!r}, and this embcli reads {FORMAT}",
                hint="pip install -U embcli",
            )
        try:
            plan = cls(
                folder.where,
                manifest["embcli"],
                dict(Recipe.checked(manifest["recipe"]).settings),
                manifest["chunking"],
                _read_options(manifest["read"]),
                manifest["part_records"],
                tuple(map(_input, manifest["inputs"])),
                tuple(tuple(map(_piece, part)) for part in manifest["parts"]),
                manifest["store"],
            )
            whole = plan.hash == manifest["plan"] and plan._is_possible()
        except (KeyError, TypeError, ValueError, AttributeError):
            whole = False
        if not whole:
            raise InputError(f"{name}: this is not the manifest that was written", hint=_DAMAGED)
        return plan


def _without_secrets(input: dict[str, Any]) -> dict[str, Any]:
    """Give an input as it is written: who has the plan in memory has the URL as it was given."""
    url = input["url"]
    return input | {"url": None if url is None else without_secrets(url)}


def _read_options(settings: dict[str, Any]) -> ReadOptions:
    meta = settings["meta_fields"]
    return ReadOptions(
        **settings
        | {
            "text_fields": tuple(settings["text_fields"]),
            "meta_fields": None if meta is None else tuple(meta),
        }
    )


def _input(settings: dict[str, Any]) -> Input:
    layout = settings["layout"]
    if layout is not None:
        fields = layout["fields"]
        meta = None if fields["meta"] is None else tuple(fields["meta"])
        fields = FieldMap(**fields | {"text": tuple(fields["text"]), "meta": meta})
        layout = Layout(**layout | {"fields": fields})
    return Input(**settings | {"layout": layout})


def _piece(settings: dict[str, Any]) -> Piece:
    part = settings["slice"]
    return Piece(settings["input"], None if part is None else Slice(**part))


def read_plan(name: str | os.PathLike[str]) -> Plan:
    """Read the plan of a folder of parts.

    Raises
    ------
    InputError
        There is none, or it cannot be used.
    """
    folder = open_folder(name)
    manifest = read_json(folder, MANIFEST, _DAMAGED)
    if manifest is None:
        raise InputError(
            f"{folder.name}: there is no {MANIFEST} in it",
            hint=f"embcli encode FILES... --to {folder.name}/",
        )
    return Plan.from_manifest(folder, manifest)


def check_is_shared(plan: Plan) -> None:
    """Make sure that this process writes to where the one that planned does.

    Raises
    ------
    StoreError
    """
    try:
        here = read_plan(plan.folder).hash
    except InputError:
        here = None
    if here != plan.hash:
        raise StoreError(
            f"{plan.name} is not there as it was planned",
            hint="--to a directory that all processes and nodes share, or a URL such as "
            "s3://bucket/parts/",
        )


def plan_parts(
    inputs: Paths,
    folder: str | os.PathLike[str],
    *,
    db: str | os.PathLike[str] = DEFAULT_DB,
    model: str | None = None,
    options: EncoderOptions | None = None,
    chunk: str | None = None,
    read: ReadOptions | None = None,
    part_records: int | None = None,
    listeners: Listeners | None = None,
) -> tuple[Plan, Encoder]:
    """Decide which records each part holds, or read what was decided before.

    Inputs are read once; and again by who comes later, where their size is the same and their
    time or entity tag is not. The plan depends on nothing but what is given here; of
    several processes that plan at once, the first one writes the manifest.

    Parameters
    ----------
    inputs, model, options, chunk, read, listeners
        As of `embcli.pipelines.encode.encode`; the default model is "static". No standard input.
    folder : path or URL
        Made if it does not exist.
    db : path
        Names of files are relative to its folder. It need not exist, and is not changed.
    part_records : int, optional
        Most lines, rows or files in a part; as planned before, else 10,000.

    Returns
    -------
    plan : Plan
    encoder : Encoder
        What the recipe was read from.

    Raises
    ------
    InputError
        An input does not exist, or there is nothing to encode.
    UsageError
        The folder holds parts of something else.
    ModelError
    """
    listeners = listeners or Listeners()
    read = read or ReadOptions()
    encoder, chunking = prepare(db, None, model, options, chunk, listeners)
    place = open_folder(folder)
    found = find_inputs(inputs, db, listeners, images=encoder.takes_images)
    sources = _sources(found, place)
    for problem in found.problems:
        listeners.problem(problem)
    plan = Plan(
        folder=place.where,
        version=embcli.__version__,
        settings=json.loads(encoder.recipe().json),
        chunking=None if chunking is None else chunking.json,
        read=read,
        part_records=part_records or RECORDS_PER_PART,
        inputs=tuple(_described(source) for source in sources),
        parts=(),
        store=os.path.abspath(db),
    )
    manifest = read_json(place, MANIFEST, _DAMAGED)
    if manifest is None:
        # Found out before everything is read.
        place = open_folder(folder, make=True)
        place.try_out()
        described, parts = cut(plan.inputs, read, plan.part_records, listeners)
        if not parts:
            raise InputError("nothing was planned: there is no record to encode")
        plan = replace(plan, inputs=described, parts=parts)
        place.create(MANIFEST, as_json(plan.manifest))
        manifest = read_json(place, MANIFEST, _DAMAGED) or {}
    return _agreed(plan, Plan.from_manifest(place, manifest), part_records), encoder


def _sources(found: Inputs, folder: Folder) -> list[Source]:
    """Choose what is read: not the parts themselves.

    Raises
    ------
    UsageError
        Something can be read only once. Or anything else is in the folder of parts: it would be
        passed over from the second time on, when that has a manifest.
    """
    for source in found.sources:
        if source.url is None and (source.path is None or not source.path.is_file()):
            # It gives what is in it once, and that would be when it is planned.
            what = "standard input" if source.path is None else f"{source.name} is no file, and"
            raise UsageError(f"{what} cannot be cut into parts", hint="name files")
    inside = f"{_place(folder.where).rstrip('/')}/"
    sources = []
    for source in found.sources:
        place = _place_of(source)
        if not place.startswith(inside):
            sources.append(source)
        elif not OF_PARTS.fullmatch(place.rpartition("/")[2]):
            raise UsageError(
                f"{source.name} is in {folder.name}, which is to be a folder of parts alone",
                hint="--to a folder of its own",
            )
    return sources


def _place_of(source: Source) -> str:
    return _place(source.url or os.fspath(source.path or ""))


def _place(name: str) -> str:
    """Name a place so that others of the same kind can be compared with it, whatever links say."""
    name = local_path(name)
    if not is_url(name):
        return os.path.realpath(name)
    filesystem, path = open_filesystem(name)
    protocol = filesystem.protocol
    return f"{protocol if isinstance(protocol, str) else protocol[0]}://{path}"


def _described(source: Source) -> Input:
    path = None if source.path is None else os.path.abspath(source.path)
    return Input(source.name, source.size, source.mark, "", path, source.url, None)


def _agreed(asked: Plan, planned: Plan, part_records: int | None) -> Plan:
    """Refuse a folder that was planned for something else; take places as they are here."""
    differences = _differences(asked, planned, part_records)
    if differences:
        raise UsageError(
            f"{planned.name} was planned for something else ({'; '.join(differences)})",
            hint="another --to, or what was planned",
        )
    pairs = list(zip(asked.inputs, planned.inputs, strict=True))
    inputs = tuple(replace(ours, sum=theirs.sum, layout=theirs.layout) for ours, theirs in pairs)
    return replace(
        planned, settings=asked.settings, inputs=inputs, read=asked.read, store=asked.store
    )


def _differences(asked: Plan, planned: Plan, part_records: int | None) -> list[str]:
    """Name what differs, as ``what: planned → asked``."""
    if planned.version != asked.version:
        return [f"embcli: {planned.version} → {asked.version}"]
    if planned.recipe.hash != asked.recipe.hash:
        models = planned.recipe.model, asked.recipe.model
        if models[0] != models[1]:
            return [f"model: {models[0]} → {models[1]}"]
        return planned.recipe.differences(asked.recipe)
    found = []
    if planned.chunking != asked.chunking:
        found.append(f"chunk: {planned.chunking} → {asked.chunking}")
    ours, theirs = asdict(asked.read), asdict(planned.read)
    found += [
        f"{key}: {theirs[key]} → {ours[key]}"
        for key in ours
        if key != "size_option" and ours[key] != theirs[key]
    ]
    if part_records not in (None, planned.part_records):
        found.append(f"part-records: {planned.part_records} → {part_records}")
    sizes = {input.name: input.size for input in planned.inputs}
    now = {input.name: input.size for input in asked.inputs}
    changed = [
        f"{name}: {_size(sizes.get(name))} → {_size(now.get(name))}"
        for name in {**sizes, **now}
        if sizes.get(name) != now.get(name)
    ]
    if not changed and list(sizes) != list(now):
        changed = ["inputs: in another order"]
    if not found + changed:
        pairs = zip(asked.inputs, planned.inputs, strict=True)
        changed = [f"{ours.name}: its content" for ours, theirs in pairs if not _same(ours, theirs)]
    return found + changed[:3] + ([f"{len(changed) - 3} more inputs"] if len(changed) > 3 else [])


def _same(ours: Input, theirs: Input) -> bool:
    """Whether an input of the same size is the one that was planned."""
    if ours.sum:
        return ours.sum == theirs.sum
    if ours.mark and ours.mark == theirs.mark:
        return True
    return checksum(ours.source) == theirs.sum


def _size(size: int | None) -> str:
    return "none" if size is None else counted(size, "byte")
