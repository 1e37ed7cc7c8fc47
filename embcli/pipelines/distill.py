"""From a model to a static one: a vector for every token of its vocabulary."""

import json
import os
import re
import shutil
import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from embcli.encoders import MODEL2VEC, EncoderOptions, load_encoder
from embcli.errors import ModelError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIMS = 256
SIF = 1e-4
_TOKENS_AT_ONCE = 2048
# Places kept free in the vocabulary, which no text leads to.
_UNUSED = re.compile(r"\[unused\d+\]|<unused\d+>|<\|?reserved\w*\|?>")


@dataclass(frozen=True)
class DistillReport:
    """What was made: how many tokens have a vector, of how many components, in how many bytes."""

    tokens: int
    dim: int
    bytes: int


def distill(
    model: str,
    out: str | os.PathLike[str],
    *,
    dims: int | None = DIMS,
    sif: float | None = SIF,
    options: EncoderOptions | None = None,
    note: Callable[[str], None] = lambda message: None,
    advance: Callable[[int, int, int], None] = lambda done, total, count: None,
) -> DistillReport:
    """Make a static model out of another one, in the layout of model2vec.

    Parameters
    ----------
    model : str
        A transformer or a static model, see `embcli.encoders.load_encoder`.
    out : path
        A directory that is not there yet; it appears when it is complete.
    dims : int, optional
        Principal components to keep; None for the vectors as they are.
    sif : float, optional
        The a of `embcli.core.distillation.static_table`; None for no weights.
    options : EncoderOptions, optional
    note : callable
    advance : callable
        Told how many tokens are done, how many there are, and how many are done.

    Raises
    ------
    UsageError
        The directory is there already, or there are fewer dimensions.
    ModelError
        The model is not here, or has no vocabulary of tokens.
    """
    import numpy as np

    from embcli.core.distillation import static_table

    if os.path.lexists(out):
        raise UsageError(f"{os.fspath(out)} is there already", hint="name another directory")
    with closing(load_encoder(model, options, note)) as encoder:
        vectors_of = getattr(encoder, "token_vectors", None)
        tokenizer = encoder.tokenizer()
        if vectors_of is None or tokenizer is None:
            raise ModelError(
                f"model {model!r} has no vocabulary of tokens to distill", hint="embcli models"
            )
        state = json.loads(tokenizer.to_str())
        special = {token["id"] for token in state["added_tokens"] if token["special"]}
        vocabulary = tokenizer.get_vocab()
        kept = np.array(
            sorted(
                id
                for token, id in vocabulary.items()
                if id not in special and not _UNUSED.fullmatch(token)
            ),
            np.int64,
        )
        parts = []
        for start in range(0, len(kept), _TOKENS_AT_ONCE):
            parts.append(vectors_of(kept[start : start + _TOKENS_AT_ONCE]))
            done = min(start + _TOKENS_AT_ONCE, len(kept))
            advance(done, len(kept), done)
        vectors = np.concatenate(parts)
        source = encoder.recipe()
    if dims is not None and dims > min(vectors.shape):
        raise UsageError(
            f"--dims {dims}: model {model!r} has {vectors.shape[1]} dimensions for "
            f"{len(vectors):,} tokens"
        )
    small = static_table(vectors, dims, sif)
    table = np.zeros((max(vocabulary.values()) + 1, small.shape[1]), np.float16)
    table[kept] = small
    state.update(truncation=None, padding=None, post_processor=None)
    config = {
        "model_type": MODEL2VEC,
        "architectures": ["StaticModel"],
        "tokenizer_name": model,
        "apply_pca": dims,
        "sif_coefficient": sif,
        "hidden_dim": small.shape[1],
        "seq_length": 1000000,
        "max_length": None,
        "normalize": True,
        "embedding_dtype": "float16",
        "distilled_from": {key: source.settings.get(key) for key in ("model", "weights")},
    }
    _save(Path(out), table, state, config)
    size = sum(file.stat().st_size for file in Path(out).rglob("*") if file.is_file())
    return DistillReport(len(kept), small.shape[1], size)


def _save(
    out: Path, table: "NDArray[np.float16]", tokenizer: dict[str, Any], config: dict[str, Any]
) -> None:
    """Write the files of a model beside where they belong, then move them there."""
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate((("", "StaticEmbedding"), ("1_Normalize", "Normalize")))
    ]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = Path(mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            (part / "1_Normalize").mkdir()
            files = {"config.json": config, "modules.json": modules, "tokenizer.json": tokenizer}
            for name, content in files.items():
                text = json.dumps(content, ensure_ascii=False, indent=1)
                (part / name).write_text(text + "\n", "utf-8")
            (part / "model.safetensors").write_bytes(_safetensors("embeddings", table))
            part.chmod(0o755)
            part.rename(out)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    except OSError as error:
        raise UsageError(f"cannot write {out} ({error.strerror})") from error


def _safetensors(name: str, table: "NDArray[np.float16]") -> bytes:
    """Write one table as safetensors: the length of the header, the header, the numbers."""
    described = {"dtype": "F16", "shape": table.shape, "data_offsets": [0, table.nbytes]}
    header = json.dumps({name: described}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + table.astype("<f2").tobytes()
