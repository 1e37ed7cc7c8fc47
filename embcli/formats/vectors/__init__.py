"""Files of vectors: read batch by batch, written batch by batch."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from embcli.errors import InputError, ModelError, UsageError
from embcli.formats import Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# What reads and writes a format, as ``module:class``; modules are imported when needed.
READERS = {
    "npy": "numpy_files:NpyReader",
    "npz": "numpy_files:NpzReader",
    "safetensors": "safetensors_files:SafetensorsReader",
    "jsonl": "json_lines:JsonlReader",
    "csv": "delimited:CsvReader",
    "projector": "projector:ProjectorReader",
    "word2vec": "word_vectors:TextReader",
    "glove": "word_vectors:TextReader",
    "word2vec-binary": "word_vectors:BinaryReader",
    "parquet": "arrow_files:ParquetReader",
    "arrow": "arrow_files:ArrowReader",
    "hdf5": "hdf5:Hdf5Reader",
    "faiss": "faiss_index:FaissReader",
    "llm": "llm_db:LlmReader",
    "embcli": "embcli_store:StoreReader",
}
WRITERS = {
    "npy": "numpy_files:NpyWriter",
    "npz": "numpy_files:NpzWriter",
    "safetensors": "safetensors_files:SafetensorsWriter",
    "jsonl": "json_lines:JsonlWriter",
    "csv": "delimited:CsvWriter",
    "projector": "projector:ProjectorWriter",
    "word2vec": "word_vectors:TextWriter",
    "glove": "word_vectors:GloveWriter",
    "word2vec-binary": "word_vectors:BinaryWriter",
    "parquet": "arrow_writers:ParquetWriter",
    "arrow": "arrow_writers:ArrowWriter",
    "hdf5": "hdf5:Hdf5Writer",
    "faiss": "faiss_index:FaissWriter",
    "llm": "llm_db:LlmWriter",
    "embcli": "embcli_store:StoreWriter",
}
# What the ending of a file to be written says.
ENDINGS = {
    ".npy": "npy",
    ".npz": "npz",
    ".safetensors": "safetensors",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "projector",
    ".vec": "word2vec",
    ".w2v": "word2vec",
    ".txt": "word2vec",
    ".bin": "word2vec-binary",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".faiss": "faiss",
}
# Their writers may be made with a count of None.
UNCOUNTED = ("parquet", "arrow", "hdf5", "faiss", "llm", "embcli")
# Databases: their writers take the name of a collection, `name`, too.
NAMED = ("llm", "embcli")


@dataclass(frozen=True, eq=False)
class VectorBatch:
    """Some records of a file with their vectors.

    Attributes
    ----------
    ids : list of str
    vectors : float32 array, shape (n, dim)
        Finite.
    texts : list of str
        Empty where a file has none; of word vectors the words.
    metas : list of dict
    places : list of int
        Line or row of each in the file, from 1.
    """

    ids: list[str]
    vectors: "NDArray[np.float32]"
    texts: list[str]
    metas: list[dict[str, Any]]
    places: list[int]


@dataclass(frozen=True)
class VectorOptions:
    """How to read a file of vectors.

    Attributes
    ----------
    format : str, optional
        A key of `READERS`; recognised by content, and then by name, if None.
    sidecar : path, optional
        A file with ids, texts and metadata, a record for each vector in order, of a format that
        `embcli encode` reads; or of plain text, an id a line.
    vector_field, id_field : str, optional
        Columns, fields or datasets; found by the usual names if None.
    text_fields : tuple of str
    encoding_errors : {"strict", "replace", "ignore"}
        What becomes of bytes that are not UTF-8.
    limit : int, optional
        Most records; the first ones, which in files of word vectors are the most frequent.
    collection : str, optional
        Which collection of a database; the only one if None.
    """

    format: str | None = None
    sidecar: str | os.PathLike[str] | None = None
    vector_field: str | None = None
    id_field: str | None = None
    text_fields: tuple[str, ...] = ()
    encoding_errors: str = "strict"
    limit: int | None = None
    collection: str | None = None


class VectorReader(Protocol):
    """What reads a file of vectors; made with its path and `VectorOptions`.

    Attributes
    ----------
    dim : int
    count : int or None
        How many records there are, if that is known before they are read.
    notes : list of str
        What a user should know: a precision that is lost, a guess that was made.
    recipe : dict or None
        What the vectors mean, where embcli wrote it into the file; readers of formats that have
        no room for it need not have the attribute.

    Raises
    ------
    InputError
        On making it: this is no file of that format, or it has no vectors.
    """

    dim: int
    count: int | None
    notes: list[str]
    recipe: dict[str, Any] | None

    def __iter__(self) -> Iterator[VectorBatch | Problem]:
        """Give batches, and problems for records that cannot be used.

        Raises
        ------
        InputError
            The file ends too early or is broken.
        """


class VectorWriter(Protocol):
    """What writes a file of vectors; made with path, dim, count and `recipe` (a JSON object).

    It writes to the path it is given, in a temporary folder of its own: the caller moves what is
    there when it is complete. The count is exact; it is None only for formats in `UNCOUNTED`.
    What is not completed is closed too, with `abort` instead if there is such a method.
    """

    def write(self, batch: VectorBatch) -> None:
        """Append a batch."""

    def close(self) -> None:
        """Complete the file."""


def find_class(table: dict[str, str], format: str) -> Any:
    """Import the class that reads or writes a format.

    Raises
    ------
    UsageError
        There is none.
    """
    if format not in table:
        raise UsageError(f"no format {format!r} here (there are: {', '.join(table)})")
    module, _, name = table[format].partition(":")
    return getattr(import_module(f"embcli.formats.vectors.{module}"), name)


def format_of(path: str | os.PathLike[str]) -> str:
    """Tell the format from the ending of a file to be written.

    Raises
    ------
    UsageError
        It does not tell.
    """
    format = ENDINGS.get(Path(path).suffix.lower())
    if format is None:
        raise UsageError(
            f"{os.fspath(path)}: the ending does not tell the format",
            hint=f"name it with -f, or with encode --to-format: {', '.join(WRITERS)}",
        )
    return format


def files_beside(path: str | os.PathLike[str], format: str) -> list[Path]:
    """Tell which files the writer of a format makes beside the one it is given."""
    goal = Path(os.path.realpath(path) if os.path.islink(path) else path)
    if format in ("npy", "faiss"):
        return [goal.with_name(f"{goal.name}.jsonl")]
    if format == "projector":
        from embcli.formats.vectors.projector import metadata_beside

        return [metadata_beside(goal)]
    return []


def require(module: str, extra: str) -> Any:
    """Import what a format needs.

    Raises
    ------
    ModelError
        It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ModelError(
            f"this format needs the package {package!r}, which is not installed",
            hint=f"pip install 'embcli[{extra}]'",
        ) from error


def open_vectors(path: str | os.PathLike[str], options: VectorOptions) -> VectorReader:
    """Open a file of vectors.

    Raises
    ------
    InputError
        It does not exist, is no file, or its format cannot be told.
    """
    if not Path(path).is_file():
        kind = "is a directory" if Path(path).is_dir() else "no such file"
        raise InputError(f"{os.fspath(path)}: {kind}")
    format = options.format
    if format is None:
        from embcli.formats.vectors.sniff import sniff

        format = sniff(path)
    reader: VectorReader = find_class(READERS, format)(path, options)
    return reader
