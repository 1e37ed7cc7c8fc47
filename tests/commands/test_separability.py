"""Classes and how they can be told apart, layers, truncations, and a training watched."""

import json

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from embcli.errors import InputError, UsageError
from embcli.pipelines.watch import Watch, watch
from tests.conftest import store_words
from tests.models import tiny_bert

DIM = 16
NAMES = ("ape", "bee", "cow")


@pytest.fixture
def classes(home):
    """Three classes of forty, the first two of them close, and one record with a wrong label."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, DIM)) * 2
    centres[1] = centres[0] + rng.standard_normal(DIM) * 0.4
    kinds = np.arange(120) % 3
    rows = (centres[kinds] + rng.standard_normal((120, DIM))).astype(np.float32)
    labels = kinds.copy()
    labels[2] = 0
    metas = [{"kind": NAMES[label], "alone": i} for i, label in enumerate(labels)]
    ids = [f"r{i}" for i in range(120)]
    store_words(home / "embcli.db", "things", ids, rows, metas)
    (home / "labels.tsv").write_text(
        "".join(f"{id}\t{NAMES[label]}\n" for id, label in zip(ids, labels, strict=True))
    )
    return rows, labels


def by_measure(result):
    assert result.code == 0, result.err
    return {row["measure"]: row for row in result.rows}


def test_measures_agree_with_scikit_learn(classes, run):
    rows, labels = classes
    found = by_measure(run("separability", "-c", "things", "-l", "kind"))
    expected = silhouette_score(rows, labels, metric="cosine")
    assert found["silhouette"]["value"] == pytest.approx(expected, abs=1e-5)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit @ unit.T - 2 * np.eye(len(unit))
    assert found["Thornton's index"]["value"] == pytest.approx(
        (labels[cosines.argmax(axis=1)] == labels).mean()
    )
    probe = found["linear probe, accuracy"]
    assert 0.7 < probe["value"] < 1
    assert probe["sd"] > 0
    assert probe["n"] == 120
    mean = unit.mean(axis=0)
    assert found["anisotropy"]["value"] == pytest.approx(
        (np.square(mean).sum() * 120**2 - 120) / (120 * 119), abs=1e-5
    )
    assert not found["persistence score"]["labelled"]
    assert all(row["labelled"] for name, row in found.items() if "NC" in name)


def test_labels_may_come_from_a_file(classes, run):
    by_field = run("separability", "-c", "things", "-l", "kind").out
    assert run("separability", "-c", "things", "--labels", "labels.tsv").out == by_field
    with open("labels.tsv", "a") as file:
        file.write("nobody\tape\n")
    result = run("separability", "-c", "things", "--labels", "labels.tsv")
    assert result.out == by_field
    assert "1 id not in 'things', such as 'nobody'" in result.err


def test_without_labels_no_package_is_needed(classes, run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("embcli.pipelines.separability.find_spec", lambda name: None)
    result = run("separability", "-c", "things")
    assert result.code == 0
    assert not any(row["labelled"] for row in result.rows)
    refused = run("separability", "-c", "things", "-l", "kind")
    assert (refused.code, "embcli[separability]" in refused.err) == (4, True)


def test_the_closest_classes_come_first(classes, run):
    words = ("separability", "-c", "things", "-l", "kind")
    first = run(*words, "--show", "pairs", "-k", "1").rows[0]
    assert {first["class_a"], first["class_b"]} == {"ape", "bee"}
    assert first["id_a"].startswith("r")
    assert first["text_a"] == first["id_a"]


def test_records_are_named(classes, run):
    words = ("separability", "-c", "things", "-l", "kind")
    errors = run(*words, "--show", "errors").rows
    wrong = next(row for row in errors if row["id"] == "r2")
    assert (wrong["label"], wrong["suggested"]) == ("ape", "cow")
    hardest = run(*words, "--show", "hardest", "-k", "3").rows
    assert hardest[0]["id"] == "r2"
    assert [row["margin"] for row in hardest] == sorted(row["margin"] for row in hardest)
    outliers = run(*words, "--show", "outliers", "-k", "5").rows
    assert outliers[0]["id"] == "r2"
    known = ("--unrecognizable", "r5", "--unrecognizable", "r8")
    scores = run(*words, "--show", "recognizability", "-k", "120", *known).rows
    assert len(scores) == 120
    assert scores[0]["score"] <= scores[-1]["score"]
    assert scores[0]["to_unrecognizable"] is not None
    assert run(*words, "--show", "recognizability", "-f", "ids").out.split()


def test_truncations_are_compared(classes, run, home):
    words = ("separability", "-c", "things", "-l", "kind", "--by-dims", "2,3,4,6,8,16")
    result = run(*words, "--plot", "plot.png", "--scatter", "scatter.svg")
    assert result.code == 0, result.err
    assert [row["space"] for row in result.rows] == [f"things[:{n}]" for n in (2, 3, 4, 6, 8, 16)]
    whole = by_measure(run("separability", "-c", "things", "-l", "kind"))
    last = result.rows[-1]
    for name, row in whole.items():
        assert last[name] == pytest.approx(row["value"])
    assert "persistence score" in result.err
    assert "over 6 spaces" in result.err
    assert (home / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (home / "scatter.svg").read_text()
    rows = run(*words, "--show", "correlations").rows
    from scipy.stats import spearmanr

    pair = next(
        row for row in rows
        if (row["label_free"], row["labelled"]) == ("effective rank", "silhouette")
    )  # fmt: skip
    expected = spearmanr(
        [row["effective rank"] for row in result.rows], [row["silhouette"] for row in result.rows]
    ).statistic
    assert pair["spearman"] == pytest.approx(expected)


def test_confusions_are_drawn(classes, run, home):
    result = run("separability", "-c", "things", "-l", "kind", "--confusion", "c.svg")
    assert result.code == 0
    assert "ape" in (home / "c.svg").read_text()


def test_layers_are_compared(corpus, run, home):
    tiny_bert(home / "model")
    for number in range(4):
        with open(corpus, "a") as file:
            for kind in ("pet", "money"):
                text = f"The {kind} number {number} is here."
                file.write(json.dumps({"id": f"{kind}{number}", "text": text, "kind": kind}) + "\n")
    assert run("encode", corpus, "-m", home / "model").code == 0
    result = run("separability", "-l", "kind", "--by-layer", "all", "--folds", "2")
    assert result.code == 0, result.err
    names = [row["space"] for row in result.rows]
    assert names == [f"default, layer {n}" for n in range(len(names))]
    assert len(names) > 1
    whole = by_measure(run("separability", "-l", "kind", "--folds", "2"))
    assert result.rows[-1]["silhouette"] == pytest.approx(whole["silhouette"]["value"], abs=1e-3)
    one = run("separability", "--by-layer", "1")
    assert [row["space"] for row in one.rows] == ["default, layer 1"]
    last = run("separability", "--by-layer=-1")
    assert [row["space"] for row in last.rows] == names[-1:]
    assert run("whiten", "fit", "-n", "w", "--method", "center").code == 0
    assert run("whiten", "apply", "w", "--to", "white").code == 0
    refused = run("separability", "-c", "white", "--by-layer", "1")
    assert (refused.code, "were mapped" in refused.err) == (2, True)
    assert (
        run(
            "encode", corpus, "-m", home / "model", "-c", "cut", "--chunk", "tokens=8,overlap=2"
        ).code
        == 0
    )
    refused = run("separability", "-c", "cut", "--by-layer", "1")
    assert (refused.code, "keeps chunks" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("-l", "kind", "--labels", "labels.tsv"), 2, "either"),
        (("-l", "nothing"), 3, "no record of collection 'things' has a field 'nothing'"),
        (("-l", "alone"), 3, "two classes are needed"),
        (("--labels", "none.tsv"), 3, "none.tsv"),
        (("--labels", "strange.tsv"), 3, "none of its 1 id is"),
        (("--labels", "twice.tsv"), 3, "twice.tsv:2: 'r0' has two labels"),
        (("--show", "pairs"), 2, "--show pairs take labels"),
        (("--confusion", "c.png"), 2, "take labels"),
        (("-l", "kind", "--unrecognizable", "r1"), 2, "is for --show recognizability"),
        (("--plot", "x.png"), 2, "compare spaces"),
        (("--by-dims", "17"), 2, "1 to 16 components, not 17"),
        (("--by-dims", "a"), 2, "whole numbers"),
        (("--by-layer", "1"), 2, "has no layers"),
        (("-l", "kind", "--by-dims", "2,4", "--show", "errors"), 2, "for one space"),
        (("--by-dims", "2,4", "--scatter", "x.png"), 2, "takes labels"),
        (("-l", "kind", "--show", "recognizability", "--unrecognizable", "zz"), 3, "no record"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_a_line(classes, run, home, words, code, message):
    (home / "strange.tsv").write_text("zz\tape\n")
    (home / "twice.tsv").write_text("r0\tape\nr0\tbee\n")
    result = run("separability", "-c", "things", *words)
    assert result.code == code, result.err
    errors = [line for line in result.err.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert message in errors[0]


def checkpoint(folder, number, spread):
    """Write vectors of two clusters, `spread` wide."""
    rng = np.random.default_rng(number)
    centres = np.eye(2, 8)[rng.integers(0, 2, 60)] * 3
    np.save(folder / f"step{number}.npy", centres + spread * rng.standard_normal((60, 8)))


def test_a_training_is_watched_until_it_stops_improving(home):
    """Checkpoints are measured as they come; the third without a new best ends it."""
    folder = home / "run"
    folder.mkdir()
    spreads = iter([2.0, 1.0, 0.3, 0.5, 0.7, 0.9, 0.1])
    number = iter(range(100))
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) % 2:
            checkpoint(folder, next(number), next(spreads))

    rows = list(watch(folder, Watch(patience=3, interval=0.01), sleep=sleep))
    assert [row["file"] for row in rows] == [f"step{n}.npy" for n in range(6)]
    assert [row["best"] for row in rows] == [True, True, True, False, False, False]
    assert [row["stopped"] for row in rows] == [False] * 5 + [True]
    assert rows[-1]["since"] == 3


def test_what_is_there_is_watched_once(home, run):
    from safetensors.numpy import save_file

    folder = home / "run"
    folder.mkdir()
    checkpoint(folder, 0, 1.0)
    rng = np.random.default_rng(0)
    save_file(
        {"vectors": rng.standard_normal((20, 4)).astype(np.float32)}, folder / "b.safetensors"
    )
    (folder / "c.npy").write_bytes(b"nothing")
    np.save(folder / "d.npy", np.arange(4))
    result = run("separability", "--watch", folder, "--once")
    assert result.code == 0
    assert {row["file"] for row in result.rows} == {"step0.npy", "b.safetensors"}
    assert "c.npy: cannot be read" in result.err
    assert "d.npy: an array of shape (4,)" in result.err
    (home / "empty").mkdir()
    assert run("separability", "--watch", home / "empty", "--once").code == 1
    assert run("separability", "--watch", home / "nowhere").code == 3
    assert run("separability", "--watch", folder, "--once", "-l", "kind").code == 2
    with pytest.raises(UsageError):
        Watch(patience=0)
    with pytest.raises(InputError):
        list(watch(home / "none"))


def test_the_figures_of_banking77(run, shared):
    """Silhouette and linear probe of the true labels, as other programs have them."""
    assert run("encode", shared / "banking77" / "test.csv").code == 0
    found = by_measure(run("separability", "-l", "category"))
    assert found["silhouette"]["value"] == pytest.approx(0.111, abs=0.01)
    assert found["linear probe, accuracy"]["value"] == pytest.approx(0.834, abs=0.01)


def test_checkpoints_are_of_any_float_type(home, run):
    """Trainings save bfloat16; lengths make no difference, however large."""
    import torch
    from safetensors.torch import save_file

    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    folder = home / "run"
    folder.mkdir()
    kinds = {"f16": torch.float16, "f32": torch.float32, "f64": torch.float64}
    for name, kind in (kinds | {"bf16": torch.bfloat16}).items():
        save_file({"a": rows.to(kind), "step": torch.ones(1)}, folder / f"{name}.safetensors")
    save_file({"a": rows.double() * 1e200}, folder / "large.safetensors")
    save_file({"a": torch.ones(4, 2, dtype=torch.int64)}, folder / "int.safetensors")
    save_file({"a": rows, "b": rows.clone()}, folder / "two.safetensors")
    result = run("separability", "--watch", folder, "--once")
    assert result.code == 0
    assert len(result.rows) == 5
    scores = [row["persistence score"] for row in result.rows]
    np.testing.assert_allclose(scores, scores[0], atol=0.01)
    assert "int.safetensors: a table of type I64" in result.err
    assert "two.safetensors: 2 tables" in result.err


def test_a_watch_is_told_as_it_goes(home, run):
    folder = home / "run"
    folder.mkdir()
    for number, spread in enumerate([2.0, 0.3, 1.0, 1.2, 1.4, 1.6]):
        checkpoint(folder, number, spread)
    result = run("separability", "--watch", folder, "--once", "-f", "table")
    assert "step1.npy: persistence score" in result.err
    assert result.err.count("stopped improving") == 1
    assert result.out.count("step") == 6


def test_labels_are_classes_as_they_are_written(home, run):
    """ "7" and "007" are two classes, and so are true and "1"; lists and nothing are none."""
    rng = np.random.default_rng(0)
    kinds = ["007", "7", 7, True, 1.5, "nan", "", [1], None]
    metas = [{"code": kinds[i % 9]} for i in range(180)]
    rows = rng.standard_normal((180, 6)).astype(np.float32)
    store_words("embcli.db", "coded", [f"r{i}" for i in range(180)], rows, metas)
    result = run("separability", "-c", "coded", "-l", "code", "--show", "hardest", "-k", "500")
    assert result.code == 0, result.err
    found = {row["label"] for row in result.rows}
    assert found == {"007", "7", "true", "1.5", "nan"}
    assert len(result.rows) == 120
    assert "120 of 180 records are of a class" in result.err


def test_what_is_not_defined_is_left_out(home, run):
    """Copies, classes of one point, vectors of zeros: the rest is measured."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.standard_normal((4, 8)), 10, axis=0).astype(np.float32)
    metas = [{"kind": "abcd"[i // 10]} for i in range(40)]
    store_words("embcli.db", "same", [f"r{i}" for i in range(40)], rows, metas)
    result = run("separability", "-c", "same", "-l", "kind")
    assert result.code == 0, result.err
    assert "Infinity" not in result.out
    assert "NaN" not in result.out
    found = {row["measure"]: row for row in result.rows}
    assert found["Fisher ratio"]["value"] is None
    assert found["linear probe, accuracy"]["value"] == 1
    drawn = run("separability", "-c", "same", "-l", "kind", "--by-dims", "4,8", "--plot", "x.png")
    assert drawn.code == 0, drawn.err
    rows[5] = 0
    store_words("embcli.db", "holed", [f"r{i}" for i in range(40)], rows, metas)
    holed = run("separability", "-c", "holed", "-l", "kind")
    assert holed.code == 0
    assert "1 vector of zeros, such as r5" in holed.err
    assert {row["n"] for row in holed.rows if row["labelled"]} == {39}
    one = run("diagnose", "-c", "same")
    assert one.code == 0
    assert {row["finding"]: row for row in one.rows}["near-duplicates"]["value"] == 1
