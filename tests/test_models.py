"""The tiny models that other tests use are what sentence-transformers takes them for."""

import numpy as np
import pytest

from tests import models

TEXTS = ["The cat sleeps.", "A dog runs fast!", "Bond prices fell, as RATES rose 5%.", "cat", ""]
BUILDERS = [
    models.tiny_bert,
    models.tiny_distilbert,
    models.tiny_mpnet,
    models.tiny_roberta,
    models.tiny_xlm_roberta,
    models.tiny_qwen3,
    models.tiny_clip,
]


def load(path):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(path), device="cpu")


def cosines(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T - np.eye(len(unit))


def tokenizer_of(model):
    return getattr(model.tokenizer, "tokenizer", model.tokenizer)  # in a processor


@pytest.mark.parametrize("build", BUILDERS)
def test_a_model_loads_and_tells_texts_apart(tmp_path, build):
    vectors = load(build(tmp_path / "a")).encode(TEXTS)
    assert np.isfinite(vectors).all()
    assert cosines(vectors).max() < 0.97
    assert np.array_equal(vectors, load(build(tmp_path / "b")).encode(TEXTS))
    assert cosines(load(build(tmp_path / "c", seed=1)).encode(TEXTS)).max() < 0.97


@pytest.mark.parametrize("build", BUILDERS)
def test_all_of_ascii_is_known(tmp_path, build):
    tokenizer = tokenizer_of(load(build(tmp_path / "model")))
    text = " ".join(map(chr, range(33, 127))) + " Unheard-of words, x1Y2."
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    unknown = tokenizer.unk_token_id
    assert tokenizer.eos_token_id == unknown or unknown not in ids
    assert len(tokenizer(" the", add_special_tokens=False)["input_ids"]) == 1


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken", "weightedmean"])
def test_a_layout(tmp_path, pooling):
    model = load(
        models.tiny_bert(
            tmp_path / "model",
            pooling=pooling,
            include_prompt=False,
            dense=True,
            normalize=False,
            prompts={"query": "find: ", "document": ""},
            default_prompt_name="query",
            max_tokens=20,
        )
    )
    assert [type(module).__name__ for module in model] == ["Transformer", "Pooling", "Dense"]
    assert model.prompts == {"query": "find: ", "document": ""}
    assert (model.max_seq_length, model.default_prompt_name) == (20, "query")
    assert (model[1].pooling_mode, model[1].include_prompt) == (pooling, False)
    assert model.encode("cat").shape == (24,)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_decoder_reads_the_end_wherever_the_padding_is(tmp_path, side):
    model = load(models.tiny_qwen3(tmp_path / "model", padding_side=side))
    assert model.tokenizer.padding_side == side
    assert model.tokenizer("cat")["input_ids"][-1] == model.tokenizer.eos_token_id
    assert np.allclose(model.encode(TEXTS)[3], model.encode(["cat"])[0], atol=1e-5)
    assert not np.allclose(model.encode_query("cat"), model.encode_document("cat"), atol=0.1)


@pytest.mark.parametrize("legacy", [False, True])
def test_clip_takes_pictures_and_texts(tmp_path, legacy):
    from PIL import Image

    model = load(models.tiny_clip(tmp_path / "model", legacy=legacy))
    random = np.random.default_rng(0)
    pictures = [Image.new("RGB", (50, 40), colour) for colour in ("red", "blue")]
    pictures.append(Image.fromarray(random.integers(0, 255, (40, 60, 3), dtype=np.uint8)))
    vectors = np.concatenate([model.encode(pictures), model.encode(TEXTS)])
    assert vectors.shape == (len(pictures) + len(TEXTS), 16)
    assert cosines(vectors).max() < 0.97
