"""Models made for late interaction, against what sentence-transformers makes of them."""

import numpy as np
import pytest

from embcli import encode, search
from embcli.encoders import EncoderOptions, load_encoder
from embcli.encoders.model_files import ModelFiles
from embcli.pipelines.ranking import Ranking
from tests import models

TEXTS = [
    "the cat sat on the mat.",
    "a dog, a horse; and",
    "Banks raise their rates",
    "x",
    "the tree " * 60,
]


@pytest.fixture(scope="module", params=[False, True], ids=["native", "pylate"])
def colbert(request, tmp_path_factory):
    return models.tiny_colbert(tmp_path_factory.mktemp("colbert") / "m", legacy=request.param)


@pytest.mark.parametrize("kind", ["document", "query"])
def test_it_gives_what_sentence_transformers_gives(colbert, kind):
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(str(colbert), device="cpu", model_kwargs={"dtype": "float32"})
    encode = model.encode_query if kind == "query" else model.encode_document
    encoder = load_encoder(str(colbert))
    tokens = encoder.encode_tokens(TEXTS, kind)
    assert encoder.recipe().multivector
    assert encoder.dim == 16
    for expected, (vectors, spans) in zip(encode(TEXTS), tokens, strict=True):
        np.testing.assert_allclose(vectors, expected.numpy(), atol=2e-6)
        assert len(spans) == len(vectors)
    if kind == "query":
        assert {len(vectors) for vectors, _ in tokens} == {12}  # filled up with masks
    else:
        # The last text was cut; [CLS], [D] and [SEP] have vectors and no place in the text.
        assert encoder.truncated == 1
        pieces = [TEXTS[0][start:end] for start, end in tokens[0].spans.tolist()]
        assert (pieces[:2], pieces[-1]) == (["", ""], "")
        assert "".join(pieces) == "thecatsatonthemat"


def test_it_is_searched_as_it_is_meant(colbert, corpus):
    from sentence_transformers import MultiVectorEncoder

    encode([corpus], model=str(colbert))
    model = MultiVectorEncoder(str(colbert), device="cpu", model_kwargs={"dtype": "float32"})
    (hits,) = search("the cat sleeps", ranking=Ranking(explain=True))
    texts = [hit.text for hit in hits]
    expected = model.similarity(
        model.encode_query(["the cat sleeps"]), model.encode_document(texts)
    )[0]
    np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-4)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    tokens = hits[0].explain["dense"]["tokens"]
    assert "".join(row["token"] for row in tokens) == "thecatsleeps"
    assert search("the cat sleeps")[0][0].score == hits[0].score  # now out of the cache


def test_what_the_model_decides_itself(colbert, corpus, run):
    for options in (["--pooling", "mean"], ["--layer", "1"], ["--max-tokens", "9"]):
        result = run("encode", "corpus.jsonl", "-m", colbert, *options)
        assert result.code == 2, options
    assert run("encode", "corpus.jsonl", "-m", colbert, "--pooling", "none").code == 0
    assert run("encode", "corpus.jsonl", "-m", colbert).err.startswith("note")


def test_its_own_treatment_of_queries_is_part_of_the_space(tmp_path):
    path = models.tiny_colbert(tmp_path / "m", legacy=True)
    before = ModelFiles(path).fingerprints()
    settings = path / "config_sentence_transformers.json"
    settings.write_text(settings.read_text().replace('"query_length": 12', '"query_length": 9'))
    assert ModelFiles(path).fingerprints()["settings"] != before["settings"]
    options = EncoderOptions(prompt="say: ")
    with_prompt = load_encoder(str(path), options).recipe()
    assert with_prompt.hash != load_encoder(str(path)).recipe().hash
