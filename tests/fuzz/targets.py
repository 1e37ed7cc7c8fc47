"""What is fuzzed: everything that reads a file or a text that somebody else has written.

A target has small files of the kind, as programs write them, and what is done with one that was
damaged. It may raise an `EmbcliError` and nothing else.
"""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import shutil
import sqlite3
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from embcli import Recipe, Record, Store
from embcli.errors import EmbcliError
from embcli.formats import Problem, ReadOptions
from embcli.formats.inputs import Source, expand
from embcli.formats.reader import Reader
from embcli.formats.vectors import (
    READERS,
    WRITERS,
    VectorBatch,
    VectorOptions,
    open_vectors,
)
from embcli.formats.vectors.writing import write_vectors
from tests.fuzz.mutation import mutated

Run = Callable[[bytes, Path], object]
Wrap = Callable[[Random, bytes], bytes]

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPE = {"model": "made up", "dim": 3, "normalized": False, "maps": []}
_VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
_BATCH = VectorBatch(
    ["a", "b b", "ç", "1"],
    _VECTORS,
    ["one", "two 2", "drei ü", "四"],
    [{"year": 2020, "tags": ["x"]}, {}, {"deep": {"a": [1, None]}}, {"year": -1.5}],
    [1, 2, 3, 4],
)


@dataclass(frozen=True)
class Target:
    """One reader or parser.

    Attributes
    ----------
    name : str
    seeds : callable
        Gives the undamaged files; may write into the folder.
    run : callable
        Reads a damaged one.
    wrap : callable, optional
        Puts what was damaged where it is found: a member into an archive, a text into a
        compressed stream.
    share : float
        Of the cases of a campaign; what is slow has few.
    """

    name: str
    seeds: Callable[[Path], list[bytes]]
    run: Run
    wrap: Wrap | None = field(default=None)
    share: float = 1.0


# Records ----------------------------------------------------------------------------------------

_RECORDS: dict[str, list[bytes]] = {
    "jsonl": [
        (b'{"id": "a", "text": "A cat", "year": 2020, "tags": ["x", {"y": null}]}\n'
        b'{"id": "b", "text": "caf\\u00e9 \\ud83d\\ude00", "score": -1.5e3, "open": true}\n'
        b'\n"bare"\n'),
        (EXAMPLES / "corpus.jsonl").read_bytes()[:1500],
    ],
    "json": [
        b'[{"id": 1, "text": "A cat", "tags": []}, {"id": 2, "text": "dog \\"x\\""},\n "bare"]',
        b'{"version": 1, "data": [{"text": "one"}, {"text": "two", "n": 1e3}], "end": null}',
        b'{"text": {"0": "a", "1": "b"}, "id": {"0": 7, "1": 8}}',
        b'{"x": "one text", "y": "another", "z": "third"}',
    ],
    "csv": [
        (b'id,text,n\r\n1,"a ""quoted"" text, with\nline breaks",2.5\r\n2,plain,\r\n'
        b"3,caf\xc3\xa9,x\r\n"),
        b"id;title;body\na;T;one\nb;U;two\n",
        b'1,"first"\n2,"second"\n',
    ],
    "tsv": [b'id\ttext\n1\tone "two\n2\t"quoted"\n3\tthree\n'],
    "txt": [b"one line\r\nand another\n\n  \ncaf\xc3\xa9\n", b"\xff\xfeh\0i\0\n\0", b"old\rmac\r"],
}  # fmt: skip


def _read_records(
    data: bytes, folder: Path, *, name: str, options: ReadOptions | None = None
) -> None:
    path = _put(folder, name, data)
    for result in Reader([Source(name, path)], options):
        assert isinstance(result, Record | Problem)
        if isinstance(result, Record):
            result.meta_json.encode()
            result.text.encode()
            result.id.encode()
        else:
            str(result)


def _records() -> Iterator[Target]:
    for kind, seeds in _RECORDS.items():
        read = partial(_read_records, name=f"case.{kind}")
        yield Target(kind, lambda _, seeds=seeds: seeds, read, share=6)
        # Found out by what is in it, and with a small limit, which has ways of its own.
        found_out = partial(_read_records, name="case", options=ReadOptions(max_record_bytes=64))
        yield Target(f"{kind}, small records", lambda _, seeds=seeds: seeds, found_out, share=3)
    whole = partial(_read_records, name="case.md", options=ReadOptions(per="file"))
    yield Target("text, whole", lambda _: _RECORDS["txt"], whole, share=2)
    wide = [text.decode().encode("utf-16") for text in _RECORDS["jsonl"]]
    wide += [_RECORDS["json"][0].decode().encode("utf-32")]
    yield Target("utf-16", lambda _: wide, partial(_read_records, name="case.jsonl"), share=2)
    latin = ReadOptions(encoding="cp1252")
    read = partial(_read_records, name="case.csv", options=latin)
    yield Target("cp1252", lambda _: _RECORDS["csv"], read, share=2)
    table = partial(_read_records, name="case.parquet")
    yield Target("parquet", _tables, table, share=0.5)


def _tables(folder: Path) -> list[bytes]:
    """Write Parquet with columns of every kind that a record may be made of."""
    import datetime as dt
    from decimal import Decimal

    import pyarrow as pa
    from pyarrow import parquet

    day = dt.datetime(2020, 1, 31, 12, 30, tzinfo=dt.UTC)
    plain = {"id": ["a", "b", "c"], "text": ["A cat", "caf\u00e9", None], "year": [2020, None, -1]}
    rich = {
        "text": pa.array(["one", "two", "three"]).dictionary_encode(),
        "at": pa.array([day, None, day], pa.timestamp("us", "Europe/Berlin")),
        "time": pa.array([day.time(), None, day.time()], pa.time64("ns")),
        "tags": [["x", "y"], [], None],
        "deep": [{"a": [{"b": 1}]}, None, {"a": []}],
        "pairs": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int8())),
        "price": pa.array([Decimal("1.50"), None, Decimal("-2.00")], pa.decimal128(9, 2)),
        "open": [True, False, None],
    }
    seeds = []
    for columns, options in (
        (plain, {"row_group_size": 2}),
        (rich, {"compression": "zstd"}),
        (rich, {"compression": "none", "data_page_version": "2.0"}),
    ):
        sink = io.BytesIO()
        parquet.write_table(pa.table(columns), sink, **options)
        seeds.append(sink.getvalue())
    return seeds


def _zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.compress(data)


_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gz": partial(gzip.compress, mtime=0),
    "bz2": bz2.compress,
    "xz": partial(lzma.compress, preset=0),
    "lzma": partial(lzma.compress, format=lzma.FORMAT_ALONE, preset=0),
    "zst": _zstd,
}


def _compressed(rng: Random, data: bytes, compress: Callable[[bytes], bytes]) -> bytes:
    whole = compress(data)
    if rng.random() < 0.2:
        whole += compress(data)
    return whole if rng.random() < 0.5 else mutated(rng, whole)


def _streams() -> Iterator[Target]:
    for suffix, compress in _COMPRESS.items():
        read = partial(_read_records, name=f"case.jsonl.{suffix}")
        wrap = partial(_compressed, compress=compress)
        yield Target(suffix, lambda _: _RECORDS["jsonl"], read, wrap, share=2)


# Vectors ----------------------------------------------------------------------------------------

_PLAIN = VectorBatch(
    [id.replace(" ", "_") for id in _BATCH.ids], _VECTORS, _BATCH.texts, [{}] * 4, [1, 2, 3, 4]
)


def _written(folder: Path, format: str, name: str) -> bytes:
    path = folder / name
    path.unlink(missing_ok=True)
    batch = _PLAIN if format in ("word2vec", "word2vec-binary", "glove", "hdf5") else _BATCH
    write_vectors(path, format, [batch], dim=3, count=4, recipe=RECIPE)
    data = path.read_bytes()
    for file in folder.glob(f"{name}*"):
        file.unlink()
    return data


def _iterate(reader: Any) -> None:
    rows = 0
    for result in reader:
        if isinstance(result, Problem):
            str(result)
            continue
        count = len(result.ids)
        assert result.vectors.shape == (count, reader.dim)
        assert result.vectors.dtype == np.float32
        assert np.isfinite(result.vectors).all()
        assert len(result.texts) == len(result.metas) == len(result.places) == count
        for id, text, meta in zip(result.ids, result.texts, result.metas, strict=True):
            assert isinstance(id, str)
            assert isinstance(text, str)
            assert isinstance(meta, dict)
        rows += count
    list(map(str, reader.notes))


def _read_vectors(data: bytes, folder: Path, *, name: str, format: str | None) -> None:
    path = _put(folder, name, data)
    reader = open_vectors(path, VectorOptions(format=format))
    try:
        _iterate(reader)
    finally:
        for resource in ("_file", "_store", "_db"):  # what would be closed with the process
            if hasattr(reader, resource):
                getattr(reader, resource).close()


_SHARES = {
    "parquet": 0.3, "arrow": 0.6, "hdf5": 0.2, "llm": 0.2, "embcli": 0.05, "npz": 0.8, "npy": 2.0,
}  # fmt: skip
_ENDINGS = {"projector": "tsv", "word2vec": "vec", "glove": "txt", "word2vec-binary": "bin"}


def _vectors() -> Iterator[Target]:
    for format in READERS:
        if format not in WRITERS:
            continue
        name = f"case.{_ENDINGS.get(format, format)}"
        seeds = partial(_seeds_of, format=format, name=name)
        share = _SHARES.get(format, 2.0)
        read = partial(_read_vectors, name=name, format=format)
        yield Target(f"vectors: {format}", seeds, read, share=share)
        sniffed = partial(_read_vectors, name="case", format=None)
        yield Target(f"vectors, found out: {format}", seeds, sniffed, share=share / 2)
    yield Target(
        "vectors: fastText .bin",
        lambda _: [struct.pack("<iiiii", 793712314, 12, 3, 5, 5) + bytes(range(64))],
        partial(_read_vectors, name="case.bin", format=None),
        share=0.5,
    )
    read = partial(_read_vectors, name="case.npz", format="npz")
    yield Target("npz: a member", _npy_seeds, read, _as_member, share=2)
    read = partial(_read_vectors, name="case.safetensors", format="safetensors")
    yield Target("safetensors: the header", _header_seeds, read, _behind_length, share=4)


def _seeds_of(folder: Path, format: str, name: str) -> list[bytes]:
    seeds = [_written(folder, format, name)]
    if format == "csv":
        seeds += [b'id,vec\na,"[1, 2.5]"\nb,[3 4]\n', b"1.5,2\n3,4\n"]
    if format == "jsonl":
        seeds += [b'{"w": "a", "x": [1, 2]}\n{"w": "b", "x": "[3, 4e0]"}\n']
    if format == "arrow":
        import pyarrow as pa

        table = pa.table({"id": ["a", "b"], "vector": [[1.0, 2.0], [3.0, 4.0]]})
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        seeds.append(sink.getvalue())
    if format == "faiss":
        seeds.append(_mapped_index(seeds[0]))
    if format in ("word2vec", "glove"):
        seeds.append(gzip.compress(seeds[0], mtime=0))
    return seeds


def _mapped_index(flat: bytes) -> bytes:
    """Give a flat index of FAISS's ids of its own."""
    ids = struct.pack("<Q4q", 4, 10, 20, 30, 40)
    return b"IxMp" + flat[4 : 4 + 4 + 8 + 16 + 1 + 4] + flat + ids


def _npy_seeds(folder: Path) -> list[bytes]:
    seeds = []
    for array in (_VECTORS, np.array(["a", "b", "ç", "d"]), np.asfortranarray(_VECTORS)):
        sink = io.BytesIO()
        np.lib.format.write_array(sink, array, allow_pickle=False)
        seeds.append(sink.getvalue())
    return seeds


def _as_member(rng: Random, data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", rng.choice((0, 8, 12, 14))) as archive:
        broken = rng.choice(("vectors", "ids", "texts", "meta", "recipe"))
        for name, array in (
            ("vectors", _VECTORS), ("ids", np.array(_BATCH.ids)), ("texts", np.array(_BATCH.texts)),
            ("meta", np.array(["{}"] * 4)), ("recipe", np.array("{}")),
        ):  # fmt: skip
            if name == broken:
                archive.writestr(f"{name}.npy", data)
                continue
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", member.getvalue())
    return sink.getvalue()


def _header_seeds(folder: Path) -> list[bytes]:
    whole = _written(folder, "safetensors", "seed.safetensors")
    length = int.from_bytes(whole[:8], "little")
    return [
        whole[8 : 8 + length].rstrip(),
        b'{"x":{"dtype":"F16","shape":[2,4],"data_offsets":[0,16]}}',
    ]


def _behind_length(rng: Random, header: bytes) -> bytes:
    try:
        parts = json.loads(header).values()
        size = max(part["data_offsets"][1] for part in parts if "data_offsets" in part)
    except (ValueError, AttributeError, TypeError, KeyError, IndexError, RecursionError):
        size = 48
    body = b'{"id": "a"}\n' * 40
    if not isinstance(size, int) or not 0 <= size < 10_000:
        size = 48
    return len(header).to_bytes(8, "little") + header + (body * 30)[:size]


# Pictures ---------------------------------------------------------------------------------------


def _pictures(folder: Path, kind: str) -> list[bytes]:
    from PIL import Image

    found = []
    for mode in ("RGB", "RGBA", "L", "P"):
        sink = io.BytesIO()
        picture = Image.new("RGBA", (9, 7), (200, 30, 30, 128)).convert(mode)
        exif = Image.Exif()
        exif[0x0112] = 6
        try:
            picture.save(sink, kind, exif=exif)
        except OSError:  # not with transparency, in this format
            continue
        found.append(sink.getvalue())
    return found


def _read_picture(data: bytes, folder: Path) -> None:
    from embcli.formats import images

    path = _put(folder, "case.png", data)
    assert isinstance(images.read(path, "case.png"), Record | Problem)
    assert images.load_image(path).mode == "RGB"


def _images() -> Iterator[Target]:
    for kind in ("png", "jpeg", "webp", "gif", "bmp"):
        yield Target(f"image: {kind}", partial(_pictures, kind=kind), _read_picture, share=0.3)


# Files of lists ---------------------------------------------------------------------------------


def _read_list(data: bytes, folder: Path, *, which: str) -> None:
    path = _put(folder, "case.txt", data)
    problems: list[Problem] = []
    if which == "pairs":
        from embcli.formats.pairs import read_pairs

        problems = read_pairs(path)[1]
    elif which == "pairs spec":
        from embcli.formats.bias_spec import read_pairs_spec

        problems = read_pairs_spec(path)[1]
    elif which == "bias spec":
        from embcli.formats.bias_spec import kept_spec, read_spec, restored_spec

        spec = read_spec(path)
        spec.summary()
        kept = kept_spec(spec)
        assert kept is None or restored_spec(kept) == spec
    elif which == "judgments":
        from embcli.formats.trec import read_judgments

        read_judgments(path, problems.append)
    elif which == "run":
        from embcli.formats.trec import read_run

        read_run(path, problems.append, ["q 1"], ["d 1"])
    elif which == "words":
        from embcli.formats.wordsets import read_word_set

        problems = read_word_set(path)[1]
    elif which == "queries":
        from embcli.pipelines.search import read_queries

        read_queries(path)
    elif which == "watched":
        from embcli.pipelines.watch import _read

        _read(path.rename(path.with_suffix(".npy" if data[:1] == b"\x93" else ".safetensors")))
    list(map(str, problems))


_SPEC = {
    "name": "gender", "source": "Bolukbasi", "definitional": [["she", "he"], ["her", "his"]],
    "equalize": [["a", "b"]], "specific": ["king"], "words": {"jobs": ["nurse", "boss"]},
    "tests": [{"name": "t", "targets": {"x": ["a"], "y": ["b"]},
               "attributes": {"p": ["c"], "q": ["d"]}}],
}  # fmt: skip
_LISTS: dict[str, list[bytes]] = {
    "pairs": [b"chat\tcat\nchien noir\tblack dog\tnote\n", b"chat cat\nchien dog\n"],
    "pairs spec": [b"she he\nher his\n"],
    "bias spec": [json.dumps(_SPEC).encode()],
    "judgments": [b"query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\n",
                  b"q1 0 d1 2\nq2 0 d1 -1\n"],
    "run": [b"q1 Q0 d1 1 12.5 tag\nq1 Q0 d2 2 11 tag\nq%201 Q0 d%201 1 1e3 tag\n"],
    "words": [b": capitals\nAthens Greece Oslo Norway\n", b"word1,word2,score\ntiger,cat,7.35\n",
              b"tiger\tcat\tn\t7.3\n"],
    "queries": [b'{"_id": "q1", "text": "cats"}\n{"_id": "q2", "text": "dogs"}\n', b"cats\ndogs\n",
                b"1\tone query\n2\tanother\n"],
}  # fmt: skip


def _lists() -> Iterator[Target]:
    for which, seeds in _LISTS.items():
        yield Target(which, lambda _, seeds=seeds: seeds, partial(_read_list, which=which), share=4)

    def watched(folder: Path) -> list[bytes]:
        return [_npy_seeds(folder)[0], _behind_length(Random(0), _header_seeds(folder)[1])]

    yield Target("watched", watched, partial(_read_list, which="watched"), share=2)


# Maps and models --------------------------------------------------------------------------------


def _map() -> Any:
    from embcli.core.maps import Linear, Map, Residual, Shift, Transform, Unit

    ones = np.ones
    steps = (
        Shift(ones(3)),
        Linear(np.eye(3)),
        Unit(),
        Residual(ones((3, 2)), ones(2), ones((2, 3))),
    )
    return Map(Transform(steps), Transform((Linear(np.eye(3)),)))


def _map_files(folder: Path) -> tuple[bytes, bytes]:
    from embcli.pipelines.maps import export_map

    with Store(folder / "maps.db") as store:
        store.maps.add(
            "m", _map(), method="procrustes", source=Recipe(RECIPE),
            target=Recipe({**RECIPE, "model": "b"}), fit={"pairs": {"n": 3}},
        )  # fmt: skip
    export_map("m", folder / "m.safetensors", db=folder / "maps.db")
    found = (folder / "m.safetensors").read_bytes(), (folder / "m.json").read_bytes()
    for path in folder.glob("m*"):
        path.unlink()
    return found


def _unpack_map(data: bytes, folder: Path) -> None:
    from embcli.store.maps import unpacked

    found = unpacked(data)
    dims = found.source.dims
    if dims is not None and dims[0] == 3:
        with np.errstate(all="ignore"):
            found.source.apply(_VECTORS.astype(np.float64))


def _map_header(rng: Random, header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + bytes(8 * 64)


def _header_of_map(folder: Path) -> list[bytes]:
    whole, _ = _map_files(folder)
    length = int.from_bytes(whole[:8], "little")
    return [whole[8 : 8 + length].rstrip()]


def _import_map(data: bytes, folder: Path) -> None:
    """Import a map whose description was damaged."""
    from embcli.pipelines.maps import import_map

    beside = folder / "import"
    if not beside.is_dir():
        beside.mkdir()
        tensors, _ = _map_files(folder)
        (beside / "m.safetensors").write_bytes(tensors)
    (beside / "m.json").write_bytes(data)
    for path in beside.glob("s.db*"):
        path.unlink()
    import_map(beside / "m.safetensors", db=beside / "s.db")


_MODEL = {
    "modules.json": [
        {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ],
    "config.json": {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2,
                    "max_position_embeddings": 64, "architectures": ["BertModel"]},
    "config_sentence_transformers.json": {"prompts": {"query": "q: "}, "default_prompt_name": None,
                                          "truncate_dim": 8},
    "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "model_max_length": 64},
    "sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": False},
    "model.safetensors.index.json": {"weight_map": {"a": "model.safetensors"}},
    "1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "word_embedding_dimension": 32},
}  # fmt: skip


def _read_model(data: bytes, folder: Path, *, file: str) -> None:
    """Read a model's folder, one file of which was damaged."""
    from embcli.encoders.model_files import ModelFiles

    directory = folder / "model"
    (directory / "1_Pooling").mkdir(parents=True, exist_ok=True)
    for name, value in _MODEL.items():
        (directory / name).write_text(json.dumps(value))
    (directory / "model.safetensors").write_bytes(b"0" * 64)
    (directory / file).write_bytes(data)
    files = ModelFiles(directory)
    _ = files.fingerprints(), files.stamp, files.bytes, files.normalizes, files.default_prompt_name


def _read_model2vec(data: bytes, folder: Path, *, file: str) -> None:
    from embcli.encoders.model2vec import Model2VecEncoder

    directory = folder / "m2v"
    if not directory.is_dir():
        directory.mkdir()
    parts = dict(zip(("model.safetensors", "tokenizer.json", "config.json"), _m2v(), strict=True))
    for name, content in (parts | {file: data}).items():
        (directory / name).write_bytes(content)
    encoder = Model2VecEncoder("m2v", directory)
    encoder.recipe()
    with np.errstate(all="ignore"):
        encoder.encode(["a cat", ""])


def _m2v() -> tuple[bytes, bytes, bytes]:
    from safetensors.numpy import save
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "cat": 2, "dog": 3}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return save({"embeddings": _VECTORS}), tokenizer.to_str().encode(), b'{"normalize": true}'


def _models() -> Iterator[Target]:
    yield Target("map: safetensors", lambda folder: [_map_files(folder)[0]], _unpack_map, share=2)
    yield Target("map: the header", _header_of_map, _unpack_map, _map_header, share=4)
    described = lambda folder: [_map_files(folder)[1]]  # noqa: E731
    yield Target("map: its description", described, _import_map, share=0.05)
    for file, value in _MODEL.items():
        seeds = [json.dumps(value).encode()]
        read = partial(_read_model, file=file)
        yield Target(f"model: {file}", lambda _, seeds=seeds: seeds, read, share=0.5)
    for place, file in enumerate(("model.safetensors", "tokenizer.json", "config.json")):
        read = partial(_read_model2vec, file=file)
        seeds_of = lambda _, place=place: [_m2v()[place]]  # noqa: E731
        yield Target(f"model2vec: {file}", seeds_of, read, share=0.5)


# Stores -----------------------------------------------------------------------------------------


def _store(folder: Path) -> Path:
    path = folder / "seed.db"
    if not path.exists():
        with Store(path) as store:
            records = [
                Record(id, text, meta, f"f.jsonl:{n}")
                for n, (id, text, meta) in enumerate(
                    zip(_BATCH.ids, _BATCH.texts, _BATCH.metas, strict=True), 1
                )
            ]
            store.create_collection("default", Recipe(RECIPE)).add(records, _VECTORS)
            store.index_texts()
            store.maps.add(
                "m", _map(), method="procrustes", source=Recipe(RECIPE),
                target=Recipe({**RECIPE, "model": "b"}), fit={},
            )  # fmt: skip
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode = DELETE")
    return path


def _query_store(data: bytes, folder: Path) -> None:
    path = _put(folder, "case.db", data)
    for log in folder.glob("case.db-*"):
        log.unlink()
    with Store(path, readonly=True) as store, store.snapshot():
        store.facts()
        store.spaces()
        store.runs()
        store.maps.all()
        for info in store.collections():
            source = store.collection(info.name)
            for keys, block, _ in source.scan():
                assert len(keys) == len(block)
            source.find_words(["one"], 3)
            list(source.records())
            source.filter("year >= 2000")
            source.unindexed("year = 1")


def _damaged_cell(rng: Random, data: bytes, *, path: Path) -> bytes:
    """Damage one value of a store, the file staying sound."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(path.read_bytes())
        tables = ("spaces", "collections", "records", "segments", "maps", "runs")
        table = rng.choice(tables)
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        column = rng.choice(columns)
        for key, value in db.execute(f"SELECT rowid, {column} FROM {table}").fetchall()[:2]:
            old = value if isinstance(value, bytes) else str(value).encode()
            new: Any = mutated(rng, old)
            if not isinstance(value, bytes):
                new = new.decode("utf-8", "replace")
            new = rng.choice((new, new, new, None, 2**62, -1, 1.5, "x", b"\xff"))
            try:
                db.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new, key))
            except sqlite3.Error:
                continue
        db.commit()
        return bytes(db.serialize())


def _stores() -> Iterator[Target]:
    yield Target("store", lambda folder: [_store(folder).read_bytes()], _query_store, share=0.1)
    import tempfile

    seed = Path(tempfile.mkdtemp(prefix="embcli-fuzz-"))
    wrap = lambda rng, data: _damaged_cell(rng, data, path=_store(seed))  # noqa: E731
    yield Target("store: a value", lambda _: [b"x"], _query_store, wrap, share=0.1)


# Parts ------------------------------------------------------------------------------------------

_CHUNK = "characters=8,overlap=2"
_PART, _PART_REPORT = "part-00001.parquet", "part-00001.json"


def _parts(folder: Path) -> Path:
    """Encode into parts, once."""
    from embcli.pipelines.shards.local import encode_parts

    place = folder / "seed-parts"
    if not place.exists():
        corpus = folder / "seed-corpus.jsonl"
        corpus.write_bytes(_RECORDS["jsonl"][0])
        encode_parts(*_plan(corpus, place))
    return place


def _plan(corpus: Path, place: Path) -> tuple[Any, Any]:
    from embcli.pipelines.shards import plan_parts

    db = corpus.parent / "none.db"
    return plan_parts([corpus], place, db=db, model="hash", chunk=_CHUNK, part_records=2)


def _gather(data: bytes, folder: Path, *, file: str, seed: Path) -> None:
    """Gather parts of which one file is damaged, and go on encoding there."""
    from embcli.pipelines.encode import Listeners
    from embcli.pipelines.shards.gather import gather_parts
    from embcli.pipelines.shards.local import encode_parts

    place, db = folder / "parts", folder / "case.db"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(_parts(seed), place)
    (place / file).write_bytes(data)
    with suppress(ValueError, TypeError, AttributeError, KeyError, RecursionError):
        _agree(place, file)
    for path in (db, *folder.glob("case.db-*")):
        path.unlink(missing_ok=True)
    with suppress(EmbcliError):
        gather_parts(
            place, db=db, listeners=Listeners(problem=lambda problem: str(problem) and None)
        )
    encode_parts(*_plan(seed / "seed-corpus.jsonl", place))


def _agree(place: Path, file: str) -> None:
    """Let checksums agree with what was damaged, as who damages on purpose would."""
    import pyarrow.parquet as pq

    from embcli.formats.vectors.arrow_files import KEY
    from embcli.pipelines.shards.part import sum_up

    manifest = json.loads((place / "manifest.json").read_bytes())
    sums = manifest.get("sums")
    if file == "manifest.json":
        manifest["plan"] = _plan_hash(manifest)
        for number in range(2):
            part = place / f"part-{number:05d}.parquet"
            table = pq.read_table(part)
            facts = json.loads(table.schema.metadata[KEY]) | {"plan": manifest["plan"]}
            pq.write_table(table.replace_schema_metadata({KEY: json.dumps(facts)}), part)
    for number in range(2):
        path = place / f"part-{number:05d}.json"
        if path.name == file:
            continue
        report = json.loads(path.read_bytes()) | {"plan": manifest["plan"]}
        report["bytes"], report["sum"] = sum_up(path.with_suffix(".parquet"))
        path.write_text(json.dumps(report))
        if isinstance(sums, list) and len(sums) == 2:
            sums[number] = report["sum"]
    (place / "manifest.json").write_text(json.dumps(manifest))


def _plan_hash(manifest: dict[str, Any]) -> str:
    """Compute what `Plan.hash` does, of a manifest that may be of any shape."""
    names = ("embcli", "chunking", "read", "part_records", "inputs", "parts")
    content = {name: manifest[name] for name in names}
    content["recipe"] = Recipe(manifest["recipe"]).hash
    content["read"] = {k: v for k, v in manifest["read"].items() if k != "size_option"}
    content["inputs"] = [
        {name: value for name, value in each.items() if name not in ("path", "url", "mark")}
        for each in manifest["inputs"]
    ]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _folders() -> Iterator[Target]:
    import tempfile

    seed = Path(tempfile.mkdtemp(prefix="embcli-fuzz-"))
    for name, file in (("manifest", "manifest.json"), ("report", _PART_REPORT), ("parquet", _PART)):
        seeds_of = lambda _, file=file: [(_parts(seed) / file).read_bytes()]  # noqa: E731
        yield Target(f"parts: {name}", seeds_of, partial(_gather, file=file, seed=seed), share=0.05)


# Little languages -------------------------------------------------------------------------------

_WHERE = (
    'category = "sport" and year >= 2020', '(lang in ("en", "de") or not draft = true)',
    'title like "%cup%" and tags contains "ai"', "deleted is not null", "`a b` between 1 and 2.5",
    "meta.id glob 'x*'", "cluster.fine = 3 or cluster = -1", "a.b.c != 'it''s'", "text contains 5",
    "not not (a not in (1, 'b', true))", "source == 'f:1' and id <> \"x\"",
)  # fmt: skip
_DB: dict[str, sqlite3.Connection] = {}


def _filter(data: bytes, folder: Path) -> None:
    from embcli.store.where import compile_where, name_of, parse_field, parse_where

    text = data.decode("utf-8", "replace")
    if "records" not in _DB:
        connection = sqlite3.connect(":memory:")
        connection.execute("CREATE TABLE records (key INTEGER PRIMARY KEY, id, text, source, meta)")
        connection.execute("CREATE TABLE assignments (clustering, record, cluster)")
        connection.execute(
            "INSERT INTO records VALUES (1, 'a', 'x', 'f:1', ?)",
            ('{"year": 2020, "tags": ["ai"], "a": {"b": {"c": 1}}}',),
        )
        _DB["records"] = connection
    node = parse_where(text)
    for part in (node, node.negated()):
        _DB["records"].execute(
            f"SELECT key FROM records WHERE {part.sql}", part.parameters
        ).fetchall()
    compile_where(text, {"fine": 1})
    try:
        field = parse_field(text)
    except EmbcliError:
        return
    assert parse_field(name_of(field.path)).path == field.path


def _words(data: bytes, folder: Path) -> None:
    """Make a query of the full-text index out of a text, and ask it."""
    from embcli.store.text_index import _expression, words

    text = data.decode("utf-8", "surrogateescape")
    (found,) = words([text])
    if "words" not in _DB:
        _DB["words"] = sqlite3.connect(":memory:")
        _DB["words"].execute("CREATE VIRTUAL TABLE t USING fts5(text)")
    if found:
        _DB["words"].execute(
            "SELECT rowid FROM t WHERE t MATCH ?", (_expression(found),)
        ).fetchall()


def _names(data: bytes, folder: Path) -> None:
    from embcli.store.maps import _check_name as check_map
    from embcli.store.names import check_word
    from embcli.store.store import _check_name as check_collection

    text = data.decode("utf-8", "surrogateescape")
    for check in (check_map, partial(check_word, of="a clustering"), check_collection):
        try:
            check(text)
        except EmbcliError:
            continue
        assert text.strip()
        assert text.isprintable()
        assert check is check_collection or "/" not in text


def _settings(data: bytes, folder: Path) -> None:
    """Read the values of options that are little languages."""
    from embcli.core.alignment import METHODS, method
    from embcli.output import plain, printable, whole
    from embcli.pipelines.align_plan import parsed_options
    from embcli.pipelines.analogy import parse_terms
    from embcli.pipelines.chunking import Chunking
    from embcli.pipelines.composition import _WEIGHTED, _WEIGHTED_NAME
    from embcli.pipelines.evaluate import _measure

    text = data.decode("utf-8", "surrogateescape")
    for name in METHODS:
        for option in method(name).options:
            _allowed(parsed_options, method(name), {option: text})
    _allowed(parse_terms, [text])
    _allowed(parse_terms, text.split())
    _allowed(Chunking.parse, text)
    _allowed(_measure, text)
    _WEIGHTED.fullmatch(text)
    _WEIGHTED_NAME.fullmatch(text)
    for shown in (plain(text), printable(text), *whole(text).split("\n")):
        assert not set(shown) & set(map(chr, (*range(9), *range(10, 32), *range(127, 160))))


def _allowed(function: Callable[..., object], *arguments: Any) -> None:
    with suppress(EmbcliError):
        function(*arguments)


def _patterns(data: bytes, folder: Path) -> None:
    """Expand a pattern of file names in a folder with links that lead in circles."""
    text = data.decode("utf-8", "surrogateescape").replace("\0", "")
    place = folder / "tree"
    if not place.is_dir():
        (place / "sub").mkdir(parents=True)
        (place / "a.txt").write_text("x")
        (place / "sub" / "b.jsonl").write_text('"x"')
        (place / "loop").symlink_to(place)
        (place / "sub" / "up").symlink_to(place)
        (place / "dead").symlink_to(place / "dead")
    if ".." in text or text.startswith("/"):
        return
    found = expand([f"{place}/{text}"], str(place), may_be_empty=True, images=True)
    found.vanished_from(["a.txt", "sub/b.jsonl", "gone"])


def _languages() -> Iterator[Target]:
    def encoded(*texts: str) -> Callable[[Path], list[bytes]]:
        return lambda _: [text.encode() for text in texts]

    yield Target("where", encoded(*_WHERE), _filter, share=10)
    queries = encoded('cats AND "dogs" OR NEAR(a b, 3)', "col:x* -y ^z", "naïve 東京 don't", "a")
    yield Target("words", queries, _words, share=2)
    yield Target("names", encoded("default", "fr→en", "my-map.v2", "a b", "_x"), _names, share=4)
    options = encoded(
        "king - man + woman", "tokens=256,overlap=32", "sentences=3,language=de", "0.5", "true",
        "auto", "nDCG@10", "P(rel=2)@10", "a cat : 0.5", "10:30", "x:-1e3", "1e400",
    )  # fmt: skip
    yield Target("options", options, _settings, share=0.4)
    patterns = encoded("*.txt", "**/*.jsonl", "s?b/[ab].*", "**", "sub/../a.txt", "**/**/x")
    yield Target("patterns", patterns, _patterns, share=0.05)


def _put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def targets() -> dict[str, Target]:
    """Name all of them."""
    groups = (
        _records(), _streams(), _vectors(), _images(), _lists(), _models(), _stores(), _folders(),
        _languages(),
    )  # fmt: skip
    return {target.name: target for group in groups for target in group}


def case(target: Target, number: int, seeds: list[bytes]) -> bytes:
    """Make case `number` of a target: always the same bytes."""
    return damaged(target, Random(f"{target.name}/{number}"), seeds)


def damaged(target: Target, rng: Random, seeds: list[bytes]) -> bytes:
    """Damage one of the seeds, and put it where the target looks for it."""
    data = mutated(rng, rng.choice(seeds), seeds)
    return data if target.wrap is None else target.wrap(rng, data)
