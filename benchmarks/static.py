"""`StaticEncoder` encodes at least as fast as other users of the very same table and tokenizer.

Peers: model2vec's StaticModel and sentence-transformers' StaticEmbedding, both holding the
token table of the wordllama wheel as float32, without a limit on length, giving unit vectors.
None of the three adds special tokens. Texts are those of four retrieval sets, of mixed length:
cosqa is Python code, the others are prose.

Every repetition has fresh encoders, so that embcli's memory of words is empty, and encodes every
text once, in batches of 4,096 (as `embcli encode` does) or 1,024 (where the peers are fastest).
Loading is not timed. In the row "embcli, again" the encoder has seen the texts before.

    pip install torch==2.13.0 && pip install sentence-transformers model2vec
    python benchmarks/static.py
    python benchmarks/static.py --sets med npl cranfield
    python benchmarks/static.py --sets cosqa
"""

import argparse
import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from corpora import SETS, texts
from measure import Cost, alternate, figure, inside, ratio, require, table
from numpy.typing import NDArray

from embcli.encoders.static import StaticEncoder

Encode = Callable[[list[str]], NDArray[np.float32]]

BATCH = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    for module, package in (
        ("torch", "torch==2.13.0"),
        ("model2vec", "model2vec"),
        ("sentence_transformers", "sentence-transformers"),
    ):
        require(module, package)

    inputs = texts(arguments.sets)
    makers: dict[str, Callable[[], Encode]] = {
        "embcli": embcli,
        "model2vec": model2vec,
        "sentence-transformers": sentence_transformers,
    }
    compare(inputs, {name: maker()(inputs) for name, maker in makers.items()})
    sides = {name: partial(encode_once, maker, inputs) for name, maker in makers.items()}
    sides["embcli, again"] = partial(encode_again, embcli, inputs)
    costs = alternate(sides, arguments.runs)

    table(f"{len(inputs):,} texts, median of {arguments.runs}", costs, len(inputs))
    for peer in ("model2vec", "sentence-transformers"):
        ratio(f"{peer} / embcli", costs[peer], costs["embcli"], ">= 1")


def encode_once(maker: Callable[[], Encode], inputs: list[str]) -> Cost:
    encode = maker()
    return inside(lambda: encode(inputs))


def encode_again(maker: Callable[[], Encode], inputs: list[str]) -> Cost:
    encode = maker()
    encode(inputs)
    return inside(lambda: encode(inputs))


def compare(inputs: Sequence[str], vectors: dict[str, NDArray[np.float32]]) -> None:
    """Print how far the peers' vectors are from ours."""
    characters = np.array([len(text) for text in inputs])
    print(
        f"{len(inputs):,} distinct texts, {characters.sum():,} characters "
        f"(median {np.median(characters):.0f}, longest {characters.max():,})"
    )
    (_, ours), *others = vectors.items()
    least = 1.0
    for name, theirs in others:
        cosines = np.einsum("ij,ij->i", ours, theirs, dtype=np.float64)
        apart = cosines < 0.99999
        print(
            f"embcli and {name}: least cosine {cosines.min():.6f}; {apart.sum()} texts apart; "
            f"largest difference of a component in the others "
            f"{np.abs(ours - theirs)[~apart].max():.1e}"
        )
        least = min(least, float(cosines.min()))
    figure("least cosine", least)


def embcli() -> Encode:
    encoder = StaticEncoder()

    def encode(inputs: list[str]) -> NDArray[np.float32]:
        batches = [inputs[i : i + BATCH] for i in range(0, len(inputs), BATCH)]
        return np.concatenate([encoder.encode(batch) for batch in batches])

    return encode


def model2vec() -> Encode:
    from model2vec import StaticModel

    table, tokenizer = packaged()
    model = StaticModel(table, tokenizer, normalize=True, max_length=None)
    # Its worker processes would not be seen by the clock of this one.
    return partial(model.encode, use_multiprocessing=False)


def sentence_transformers() -> Encode:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    table, tokenizer = packaged()
    module = StaticEmbedding(tokenizer, embedding_weights=table)
    model = SentenceTransformer(modules=[module], device="cpu")
    return partial(model.encode, batch_size=1024, normalize_embeddings=True)


def packaged() -> tuple[NDArray[np.float32], Any]:
    """Read the table and the tokenizer out of the wordllama wheel."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    spec = find_spec("wordllama")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    tensors = load_file(package / "weights" / "l2_supercat_256.safetensors")
    tokenizer = package / "tokenizers" / "l2_supercat_tokenizer_config.json"
    return tensors["embedding.weight"].astype(np.float32), Tokenizer.from_file(str(tokenizer))


if __name__ == "__main__":
    main()
