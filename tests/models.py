"""Real models that are tiny: what sentence-transformers loads, in well under a megabyte.

The weights are drawn at random, every one of them (biases and the scales of norms too), so that
an implementation which leaves one out gives other vectors; and they are large, so that different
texts and pictures get clearly different vectors.

Each function saves a model to a folder and returns the folder. `config` has fields of the model's
configuration that are to be other than usual; the rest of the keywords are those of `_save`.
"""

import json
import string
from pathlib import Path

HIDDEN = 32
_COMMON = (
    "the a an of to and in is was for on that with as it by at from are this be or not have has "
    "cat dog bird fish horse tree river sea sun rain snow wind house city road market bank bond "
    "price rate tax law vote king queen school teacher student book paper music game team player "
    "doctor nurse heart blood food bread water wine fire stone gold iron engine car train plane "
    "ship red green blue black white old new big small good bad fast slow sleep run eat read write"
)
WORDS = _COMMON.split()
ENDINGS = ["s", "es", "ed", "ing", "er", "ly", "tion", "ment", "ness", "al", "ic", "able"]
QWEN_PROMPTS = {
    "query": "Instruct: Given a query, retrieve relevant passages\nQuery:",
    "document": "",
}
_CHARACTERS = string.ascii_lowercase + string.digits + string.punctuation
_LEGACY_CLIP = "sentence_transformers.models.CLIPModel"
_OF_WORDS = ("word_embeddings.weight", "embed_tokens.weight", "token_embedding.weight")
_SIZES = {
    "hidden_size": HIDDEN,
    "intermediate_size": 2 * HIDDEN,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}


def tiny_bert(path, *, seed=0, config=None, **layout):
    """Save a BERT with a WordPiece tokenizer."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    vocabulary = _word_pieces("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    sizes = {**_SIZES, "vocab_size": len(vocabulary), **(config or {})}
    model = _model(BertModel, BertConfig(**sizes), seed)
    return _save(path, model, BertTokenizerFast(vocab=vocabulary), **layout)


def tiny_distilbert(path, *, seed=0, config=None, **layout):
    """Save a DistilBERT: no token types, and names of its own for everything."""
    from transformers import BertTokenizerFast, DistilBertConfig, DistilBertModel

    vocabulary = _word_pieces("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    sizes = {
        "vocab_size": len(vocabulary),
        "dim": HIDDEN,
        "hidden_dim": 2 * HIDDEN,
        "n_layers": 3,
        "n_heads": 4,
        "max_position_embeddings": 256,
        **(config or {}),
    }
    model = _model(DistilBertModel, DistilBertConfig(**sizes), seed)
    return _save(path, model, BertTokenizerFast(vocab=vocabulary), **layout)


def tiny_mpnet(path, *, seed=0, config=None, **layout):
    """Save an MPNet: attention is biased by relative position, and positions begin at 2."""
    from transformers import MPNetConfig, MPNetModel, MPNetTokenizerFast

    vocabulary = _word_pieces("<s>", "<pad>", "</s>", "[UNK]", "<mask>")
    sizes = {**_SIZES, "vocab_size": len(vocabulary), **(config or {})}
    model = _model(MPNetModel, MPNetConfig(**sizes), seed)
    return _save(path, model, MPNetTokenizerFast(vocab=vocabulary), **layout)


def tiny_roberta(path, *, seed=0, config=None, **layout):
    """Save a RoBERTa with a byte-level BPE tokenizer; positions begin at 2."""
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizerFast

    vocabulary, merges = _byte_pairs("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    sizes = {**_SIZES, "vocab_size": len(vocabulary), "type_vocab_size": 1, **(config or {})}
    model = _model(RobertaModel, RobertaConfig(**sizes), seed)
    tokenizer = RobertaTokenizerFast(vocab=vocabulary, merges=merges)
    return _save(path, model, tokenizer, **layout)


def tiny_xlm_roberta(path, *, seed=0, config=None, **layout):
    """Save an XLM-RoBERTa with a unigram tokenizer, as SentencePiece makes them."""
    from transformers import XLMRobertaConfig, XLMRobertaModel, XLMRobertaTokenizerFast

    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    words = [(f"▁{word}", -4 - n / 100) for n, word in enumerate(dict.fromkeys(WORDS))]
    words += [(ending, -6 - n / 100) for n, ending in enumerate(ENDINGS) if len(ending) > 1]
    characters = [(c, -9.0) for c in ("▁", *_CHARACTERS, *string.ascii_uppercase)]
    known = {piece for piece, _ in words}
    pieces = [*special, *words, *(c for c in characters if c[0] not in known), ("<mask>", 0.0)]
    sizes = {**_SIZES, "vocab_size": len(pieces), "type_vocab_size": 1, **(config or {})}
    model = _model(XLMRobertaModel, XLMRobertaConfig(**sizes), seed)
    return _save(path, model, XLMRobertaTokenizerFast(vocab=pieces), **layout)


def tiny_qwen3(path, *, seed=0, config=None, padding_side="left", **layout):
    """Save a decoder laid out as Qwen3-Embedding is: the last token, padding on the left."""
    from tokenizers.processors import TemplateProcessing
    from transformers import Qwen2TokenizerFast, Qwen3Config, Qwen3Model

    end = "<|endoftext|>"
    vocabulary, merges = _byte_pairs(end)
    sizes = {
        **_SIZES,
        "vocab_size": len(vocabulary),
        "num_key_value_heads": 2,
        "head_dim": 8,
        "bos_token_id": vocabulary[end],
        "eos_token_id": vocabulary[end],
        **(config or {}),
    }
    model = _model(Qwen3Model, Qwen3Config(**sizes), seed)
    tokenizer = Qwen2TokenizerFast(vocab=vocabulary, merges=merges, padding_side=padding_side)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(end, vocabulary[end])]
    )
    usual = {"pooling": "lasttoken", "prompts": QWEN_PROMPTS}
    return _save(path, model, tokenizer, **{**usual, **layout})


def tiny_clip(path, *, seed=0, pixels=32, dim=16, max_tokens=32, legacy=False):
    """Save a CLIP, which takes texts and pictures.

    With `legacy` it is laid out as the clip-ViT models of sentence-transformers are: a module of
    a type of its own, in a folder of its own.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        CLIPProcessor,
        CLIPTokenizerFast,
    )

    vocabulary, merges = _byte_pairs(end_of_word="</w>")
    start, end = len(vocabulary), len(vocabulary) + 1  # the last two, as in CLIP's own
    vocabulary.update({"<|startoftext|>": start, "<|endoftext|>": end})
    tower = {**_SIZES, "projection_dim": dim}
    text = {
        "vocab_size": len(vocabulary),
        "max_position_embeddings": max_tokens,
        "bos_token_id": start,
        "eos_token_id": end,
        "pad_token_id": end,
    }
    vision = {"image_size": pixels, "patch_size": pixels // 4}
    config = CLIPConfig(
        text_config={**tower, **text}, vision_config={**tower, **vision}, projection_dim=dim
    )
    square = {"height": pixels, "width": pixels}
    processor = CLIPProcessor(
        # The class without "Pil" in its name wants torchvision.
        CLIPImageProcessorPil(size={"shortest_edge": pixels}, crop_size=square),
        CLIPTokenizerFast(vocab=vocabulary, merges=merges, model_max_length=max_tokens),
    )
    model = _model(CLIPModel, config, seed)
    if legacy:
        folder = Path(path, "0_CLIPModel")
        model.save_pretrained(folder)
        processor.image_processor.save_pretrained(folder)
        processor.tokenizer.save_pretrained(folder)
        module = {"idx": 0, "name": "0", "path": folder.name, "type": _LEGACY_CLIP}
        Path(path, "modules.json").write_text(json.dumps([module]))
        return path
    model.save_pretrained(path)
    processor.save_pretrained(path)
    SentenceTransformer(modules=[modules.Transformer(str(path))], device="cpu").save(
        str(path), create_model_card=False
    )
    return path


def tiny_colbert(path, *, seed=0, dim=16, legacy=False):
    """Save a BERT with a projection of every token, as ColBERT is: masks fill up queries.

    With `legacy` it is laid out as PyLate's models are: prefixes, lengths and the rest in one
    place, and nothing after the projection.
    """
    import string

    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules.dense import Dense
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    from sentence_transformers.sentence_transformer.modules import Normalize, Transformer
    from torch import nn
    from transformers import BertConfig, BertModel, BertTokenizerFast

    vocabulary = _word_pieces("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[Q]", "[D]")
    backbone = _model(BertModel, BertConfig(**_SIZES, vocab_size=len(vocabulary)), seed)
    backbone.save_pretrained(path)
    BertTokenizerFast(vocab=vocabulary).save_pretrained(path)
    transformer = Transformer(
        str(path),
        max_seq_length=64,
        document_length=40,
        query_expansion={"strategy": "fixed", "attend": False, "length": 12},
    )
    projection = Dense(
        HIDDEN, dim, bias=False, activation_function=nn.Identity(),
        module_input_name="token_embeddings",
    )  # fmt: skip
    _draw(projection, seed=1)
    modules = [
        transformer,
        projection,
        MultiVectorMask(skiplist_words=list(string.punctuation)),
        Normalize(module_input_name="token_embeddings"),
    ]
    MultiVectorEncoder(
        modules=modules, device="cpu", prompts={"query": "[Q] ", "document": "[D] "}
    ).save(str(path), create_model_card=False)
    if legacy:
        _make_legacy(Path(path))
    return path


def _make_legacy(path):
    """Rewrite what a late-interaction model says of itself as PyLate 1 does."""
    entries = json.loads((path / "modules.json").read_text())[:2]
    entries[1]["type"] = "pylate.models.Dense.Dense"
    (path / "modules.json").write_text(json.dumps(entries))
    settings = {
        "model_type": "ColBERT",
        "query_prefix": "[Q] ",
        "document_prefix": "[D] ",
        "query_length": 12,
        "document_length": 40,
        "attend_to_expansion_tokens": False,
        "skiplist_words": list(string.punctuation),
        "do_query_expansion": True,
    }
    (path / "config_sentence_transformers.json").write_text(json.dumps(settings))
    (path / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 39, "do_lower_case": False})
    )


def _save(
    path,
    model,
    tokenizer,
    *,
    pooling="mean",
    include_prompt=True,
    dense=False,
    normalize=True,
    prompts=None,
    default_prompt_name=None,
    max_tokens=64,
):
    """Put a model and what follows it into a folder, by sentence-transformers' own code."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    chain = [
        modules.Transformer(str(path), max_seq_length=max_tokens),
        modules.Pooling(HIDDEN, pooling, include_prompt=include_prompt),
    ]
    if dense:
        chain.append(modules.Dense(chain[-1].pooling_output_dimension, 24))
        _draw(chain[-1], seed=1)
    if normalize:
        chain.append(modules.Normalize())
    SentenceTransformer(
        modules=chain, device="cpu", prompts=prompts, default_prompt_name=default_prompt_name
    ).save(str(path), create_model_card=False)
    return path


def _model(kind, config, seed):
    model = kind(config).eval()
    _draw(model, seed)
    return model


def _draw(module, seed):
    """Draw all weights, in a way that no version of torch or transformers changes."""
    import numpy as np
    import torch

    random = np.random.default_rng(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            draw = torch.from_numpy(np.asarray(random.normal(size=tuple(weight.shape))))
            if weight.ndim < 2:
                is_scale = name.endswith("weight")  # of a norm
                weight.copy_(is_scale + draw / 8)
            else:
                # What is said counts for more than where.
                weight.copy_(draw if name.endswith(_OF_WORDS) else draw / 4)


def _word_pieces(*special):
    """Make a vocabulary in which no ASCII text is unknown."""
    inside = (*ENDINGS, *string.ascii_lowercase, *string.digits)
    tokens = [*special, *WORDS, *_CHARACTERS, *(f"##{piece}" for piece in inside)]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def _byte_pairs(*special, end_of_word=""):
    """Make a vocabulary of all bytes, and merges that lead to the words.

    A word is told by the space before it, or by an end of its own.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*special, *alphabet]
    tokens += [character + end_of_word for character in alphabet]
    merges = []
    for word in WORDS:
        first, *rest = [*word[:-1], word[-1] + end_of_word] if end_of_word else ["Ġ", *word]
        for piece in rest:
            merges.append((first, piece))
            first += piece
            tokens.append(first)
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    return vocabulary, list(dict.fromkeys(merges))
