import json

import numpy as np
import pytest

from embcli import Recipe, Record, Store
from embcli.core.alignment import METHODS, Pairs
from embcli.core.maps import Linear, Map, NotInvertibleError, Transform
from embcli.errors import InputError
from embcli.pipelines.align_measure import Split
from embcli.pipelines.align_plan import parsed_options
from tests.conftest import store_words

WORDS = 120
DIM = 8


@pytest.fixture
def two(home):
    """Two languages: the second is the first turned around, with a little noise."""
    rng = np.random.default_rng(0)
    spanish = rng.normal(size=(WORDS, DIM)).astype(np.float32)
    turn = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    noise = 0.05 * rng.normal(size=(WORDS, DIM))
    english = (spanish @ turn + noise).astype(np.float32)
    order = rng.permutation(WORDS)
    store_words("embcli.db", "es", [f"s{i}" for i in range(WORDS)], spanish)
    store_words("embcli.db", "en", [f"e{i}" for i in order], english[order])
    (home / "pairs.txt").write_text("".join(f"s{i} e{i}\n" for i in range(100)) + "s0 e1\nx y\n")
    (home / "test.txt").write_text("".join(f"s{i} e{i}\n" for i in range(100, WORDS)))


def fit(run, *more, name="m", pairs="pairs.txt"):
    return run("align", "fit", "-s", "es", "-t", "en", "-p", pairs, "-n", name, *more)


def info(run, name="m"):
    (row,) = run("maps", "info", name).rows
    return row


def test_fit_keeps_a_map_with_what_was_held_out(run, two):
    result = fit(run, "-M", "procrustes")
    assert result.code == 0
    assert [row["retrieval"] for row in result.rows] == ["nn", "csls"]
    assert result.rows[1]["P@1"] >= 0.95
    # Of 100 sources five tenths are held out in turn, with their ten or eleven pairs.
    assert [result.rows[0][key] for key in ("sources", "splits", "candidates")] == [50, 5, WORDS]
    assert result.rows[0]["pairs"] in (90, 91)
    assert "pairs.txt: 101 of 102 pairs have both sides in 'es' and 'en' (100 of 101" in result.err
    assert result.err.endswith("map 'm' by procrustes: 'es' → 'en', both sides are mapped\n")
    kept = info(run)["fit"]
    assert kept["pairs"] == {"origin": "pairs.txt", "given": 102, "count": 101, "sources": 100}
    assert kept["held_out"] == {
        key: value for key, value in result.rows[1].items() if key != "chosen"
    }
    assert (kept["seed"], kept["auto"], kept["collections"]) == (
        0, False, {"source": "es", "target": "en"},
    )  # fmt: skip
    with Store("embcli.db") as store:
        (last, *_) = store.runs()
        assert (last.command, last.status) == ("align fit", "done")


def test_the_map_is_fitted_to_all_pairs(run, two):
    fit(run, "-M", "procrustes", "-O", "normalize=none")
    with Store("embcli.db", readonly=True) as store:
        map = store.maps.get("m").map
        vectors = [
            store.collection(name).vectors([f"{initial}{i}" for i in range(100)])
            for name, initial in (("es", "s"), ("en", "e"))
        ]
    extra = np.vstack([vectors[0], vectors[0][:1]]), np.vstack([vectors[1], vectors[1][1:2]])
    rows = np.arange(101)
    expected = METHODS["procrustes"].fit(Pairs(*extra, rows, rows), normalize="none")
    assert map.source.apply(vectors[0]) == pytest.approx(
        expected.source.apply(vectors[0]), abs=1e-5
    )


def test_auto_takes_what_does_best(run, two):
    rows = fit(run).rows
    chosen = {row["method"] for row in rows if row["chosen"]}
    assert len(chosen) == 1
    under_csls = {row["method"]: row["MRR"] for row in rows if row["retrieval"] == "csls"}
    assert len(under_csls) > 2
    assert under_csls[chosen.pop()] == max(under_csls.values())


def test_few_pairs_leave_no_figures(run, two, home):
    (home / "few.txt").write_text("".join(f"s{i} e{i}\n" for i in range(20)))
    result = fit(run, pairs="few.txt")
    assert (result.code, result.out) == (0, "")
    assert "20 sources, too few to hold 10 out: fitted by procrustes, no figures" in result.err
    assert info(run)["fit"]["held_out"] is None


def test_names_are_not_taken_twice(run, two):
    assert fit(run, "-M", "procrustes").code == 0
    result = fit(run, "-M", "procrustes")
    assert (result.code, "there is a map 'm' already" in result.err) == (2, True)
    assert fit(run, "-M", "procrustes", "--force").code == 0
    assert fit(run, name="a b").code == 2


def test_bad_lines_do_not_stop_it(run, two, home):
    with (home / "pairs.txt").open("a") as file:
        file.write("lonely\n")
    result = fit(run, "-M", "procrustes")
    assert (result.code, len(result.rows)) == (3, 2)
    assert "skipped: pairs.txt:103: expected two words" in result.err
    assert info(run)["name"] == "m"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-M", "magic"], "no method 'magic' (there are: procrustes, "),
        (["-M", "procrustes", "-O", "nothing=1"], "has no option 'nothing' (it has: normalize="),
        (["-M", "ridge", "-O", "alpha"], "expected NAME=VALUE"),
        (["-O", "alpha=1"], "--option goes with a --method"),
        (["--holdout", "1"], "--holdout is a share"),
        (["-M", "procrustes", "-O", "normalize=magic"], "no normalization 'magic'"),
    ],
)
def test_wrong_usage(run, two, more, message):
    result = fit(run, *more)
    assert (result.code, message in result.err) == (2, True), result.err
    assert run("maps", "list").rows == []


@pytest.mark.parametrize("more", [["--refine", "mutual"], ["--robust"], ["--select", "5"]])
def test_what_needs_pairs(run, two, more):
    result = fit(run, *more, pairs="none")
    assert (result.code, "need pairs" in result.err) == (2, True)


def test_numbers_that_are_none_are_not_kept(run, two):
    for power in ("1e300", "-2", "nan"):
        assert fit(run, "-M", "procrustes", "-O", f"power={power}").code == 2
    assert fit(run, "-M", "mlp", "-O", "decay=-1").code == 2
    assert fit(run, "-M", "procrustes", "--seed", "-1").code == 2
    assert fit(run, "-M", "procrustes", "-O", "normalize=1").code == 2
    assert fit(run, "--rounds", "3").code == 2
    assert run("maps", "list").rows == []
    huge = Map(Transform.of(Linear(np.full((DIM, DIM), 1e300))))
    with Store("embcli.db") as store:
        space = store.collection("es").recipe
        with pytest.raises(InputError, match="not finite or too large"):
            store.maps.add("huge", huge, method="m", source=space, target=space, fit={})


def test_vectors_that_are_all_the_same(run, two):
    store_words("embcli.db", "flat", [f"e{i}" for i in range(40)], np.ones((40, DIM), np.float32))
    result = run("align", "fit", "-s", "es", "-t", "flat", "-p", "pairs.txt", "-n", "m",
                 "-M", "procrustes")  # fmt: skip
    assert (result.code, "nothing is left of the target (40 vectors)" in result.err) == (3, True)


def test_columns_the_other_way_round(run, two, home):
    lines = [f"e{i} s{i}\n" for i in range(60)] + [f"s{i} e{i}\n" for i in range(60, 80)]
    (home / "swapped.txt").write_text("".join(lines))
    assert "the other way round: 60 pairs" in fit(run, pairs="swapped.txt").err


def test_methods_without_pairs_and_with(run, two):
    result = fit(run, "-M", "procrustes", pairs="none")
    assert (result.code, "method 'procrustes' needs pairs" in result.err) == (2, True)


def test_options_are_read_by_the_type_of_their_default():
    def fitted(pairs, *, flag=False, count=3, size=0.5, kind="a", seed=0):
        raise NotImplementedError

    class Told:
        name = "m"
        options = fitted.__kwdefaults__

    told = parsed_options(
        Told, {"flag": "True", "count": "4", "size": "1e-3", "kind": "b"}
    )  # fmt: skip
    assert told == {"flag": True, "count": 4, "size": 0.001, "kind": "b"}
    for wrong in ({"flag": "1"}, {"count": "4.5"}, {"size": "nan"}, {"size": "x"}, {"seed": "1"}):
        with pytest.raises(Exception, match="option"):
            parsed_options(Told, wrong)


def test_splits_share_no_source():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 300, 1000)
    vectors = rng.normal(size=(300, 2)).astype(np.float32)
    pairs = Pairs(vectors, np.zeros((1000, 2)), rows, np.arange(1000))
    splits = Split.several(pairs, 0.1, 0)
    tested = [set(split.test.rows.tolist()) for split in splits]
    assert len(set().union(*tested)) == sum(map(len, tested)) == 5 * 29
    for split in splits:
        assert not set(split.train.rows.tolist()) & set(split.test.rows.tolist())
        assert sorted([*split.train.columns, *split.test.columns]) == list(range(1000))
    assert not Split.several(pairs, 0, 0)[0].measurable


def test_equal_vectors_are_held_out_together():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 2)).astype(np.float32).repeat(4, axis=0)
    pairs = Pairs(vectors, vectors, np.arange(200), np.arange(200))
    for split in Split.several(pairs, 0.2, 0):
        assert len(split.test.rows) == 40
        assert not set(split.train.rows // 4) & set(split.test.rows // 4)


def test_eval(run, two):
    fit(run, "-M", "procrustes")
    result = run("align", "eval", "m", "-p", "test.txt")
    assert [row["retrieval"] for row in result.rows] == ["nn", "isf", "csls"]
    assert all(row["P@1"] >= 0.9 and row["sources"] == 20 for row in result.rows)
    shape = {row["measure"]: row["value"] for row in
             run("align", "eval", "m", "-p", "test.txt", "--geometry").rows}  # fmt: skip
    assert shape["orthogonality error"] < 1e-6
    assert "hubness (skewness) of the target, by CSLS" in shape
    result = run("align", "eval", "m", "-p", "test.txt", "--source", "en")
    assert (result.code, "map 'm' has 'es' as its source" in result.err) == (2, True)
    assert run("align", "eval", "m", "-p", "none").code == 2
    assert run("align", "eval", "m", "-p", "ids").code == 3


def test_compare(run, two):
    result = run("align", "compare", "-s", "es", "-t", "en", "-p", "pairs.txt", "--test",
                 "test.txt", "-M", "procrustes", "-M", "ridge")  # fmt: skip
    assert result.code == 0
    rows = {(row["method"], row["retrieval"]): row for row in result.rows}
    assert {method for method, _ in rows} == {"none", "procrustes", "ridge"}
    assert rows["procrustes", "csls"]["P@1"] >= 0.9 > rows["none", "csls"]["P@1"]
    assert rows["procrustes", "nn"]["sources"] == 20
    fit(run, "-M", "procrustes")
    measured = run("align", "eval", "m", "-p", "test.txt").rows
    assert rows["procrustes", "csls"]["MRR"] == pytest.approx(measured[2]["MRR"])


def test_selected_pairs_and_records(run, two):
    result = fit(run, "-M", "procrustes", "--select", "30")
    assert "chose 30 sources of 100" in result.err
    assert info(run)["fit"]["pairs"]["sources"] == 30
    rows = run("align", "select", "-c", "es", "-k", "5").rows
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0]["id"] == rows[0]["text"]
    assert len(run("align", "select", "-c", "es", "-k", "500", "-f", "ids").out.split()) == WORDS


def test_robust_fits_without_wrong_pairs(run, two, home):
    rng = np.random.default_rng(1)
    wrong = rng.permutation(30)
    lines = [f"s{i} e{wrong[i] if i < 30 else i}\n" for i in range(100)]
    (home / "noisy.txt").write_text("".join(lines))
    scores = []
    for more in ([], ["--robust"]):
        assert fit(run, "-M", "procrustes", "--force", *more, pairs="noisy.txt").code == 0
        with Store("embcli.db", readonly=True) as store:
            map = store.maps.get("m").map
            a = store.collection("es").vectors([f"s{i}" for i in range(100, WORDS)])
            b = store.collection("en").vectors([f"e{i}" for i in range(100, WORDS)])
        mapped, target = map.source.apply(a), map.target.apply(b)
        mapped /= np.linalg.norm(mapped, axis=1, keepdims=True)
        scores.append((mapped * target).sum(axis=1).mean())
    assert scores[1] > scores[0] + 0.01


def test_robust_and_refine_say_what_they_did(run, two):
    assert "--robust: fitted to " in fit(run, "-M", "procrustes", "--robust").err
    result = fit(run, "-M", "procrustes", "--refine", "mutual", "--force")
    assert "--refine: " in result.err
    assert "pairs found" in result.err


@pytest.mark.parametrize(("name", "package", "extra"), [
    ("mlp", "torch", "transformers"), ("structure", "scipy", "align"), ("ot", "ot", "align"),
])  # fmt: skip
def test_packages_that_are_missing_are_named(run, two, monkeypatch, name, package, extra):
    from embcli.core import alignment

    found = alignment.find_spec
    monkeypatch.setattr(alignment, "find_spec", lambda p: None if p == package else found(p))
    result = fit(run, "-M", name, pairs="none" if name == "ot" else "pairs.txt")
    assert result.code == 4
    assert f"needs the package {package!r}" in result.err
    assert f"pip install 'embcli[{extra}]'" in result.err
    assert len(run("align", "methods").rows) == len(METHODS)
    compared = run("align", "compare", "-s", "es", "-t", "en", "-p", "pairs.txt", "--test",
                   "test.txt", "-M", "procrustes", "-M", name)  # fmt: skip
    if name != "ot":
        assert compared.code == 0
        assert f"note: {name}: method {name!r} needs" in compared.err


def test_methods(run):
    rows = run("align", "methods").rows
    assert [row["method"] for row in rows] == list(METHODS)
    by_name = {row["method"]: row for row in rows}
    assert by_name["procrustes"]["options"]["normalize"] == "unit,center,unit"
    assert json.dumps(rows)
    assert "Schönemann" in run("align", "methods", tty=True).out


@pytest.fixture
def upgrade(run, examples):
    """The same texts by two models, and a map from the one to the other."""
    for model, name in (("hash", "new"), ("static", "old")):
        assert run("encode", examples / "beir" / "corpus.jsonl", "-m", model, "-c", name).code == 0
    assert run("align", "fit", "-s", "new", "-t", "old", "-n", "up", "-M", "procrustes").code == 0
    return ("--queries", examples / "beir" / "queries.jsonl",
            "--qrels", examples / "beir" / "qrels" / "test.tsv")  # fmt: skip


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize(
    "name", ["procrustes", "ridge", "cca", "vecmap", "rcsls", "mean-shift", "relative"]
)
def test_maps_of_every_method_compose_and_invert_or_refuse(run, home, name, normalized):
    """A is turned into B, and B into C: where a composition is made, it is the direct way."""
    rng = np.random.default_rng(0)
    a = (rng.normal(size=(400, DIM)) + 1).astype(np.float32)
    if normalized:
        a /= np.linalg.norm(a, axis=1, keepdims=True)
    turns = [np.linalg.qr(rng.normal(size=(DIM, DIM)))[0].astype(np.float32) for _ in range(2)]
    b = a @ turns[0]
    c = b @ turns[1]
    spaces = dict(zip("abc", (a, b, c), strict=True))
    if name == "mean-shift":
        spaces = {"a": a, "b": a + 0.3 * turns[0][0], "c": a - 0.4 * turns[1][0]}
    with Store("embcli.db") as store:
        for key, vectors in spaces.items():
            unit = normalized and name != "mean-shift"
            recipe = Recipe({"model": key, "dim": DIM, "normalized": unit, "maps": []})
            records = [Record(str(i), f"text {i}") for i in range(len(vectors))]
            store.create_collection(key, recipe).add(records, vectors)
    for source, target in ("ab", "bc"):
        assert run("align", "fit", "-s", source, "-t", target, "-n", source + target,
                   "-M", name).code == 0  # fmt: skip
    composed = run("maps", "compose", "ab", "bc", "--to", "ac")
    inverted = run("maps", "invert", "ab", "--to", "ba")
    assert {composed.code, inverted.code} <= {0, 3}
    if name in ("procrustes", "ridge", "vecmap", "cca"):
        assert composed.code == 0
    for command, map, ends in ((composed, "ac", "ac"), (inverted, "ba", "ba")):
        if command.code == 0:
            row = run("align", "eval", map, "-s", ends[0], "-t", ends[1]).rows[0]
            # RCSLS is not exact where Procrustes is.
            assert row["P@1"] >= (0.95 if name == "rcsls" else 0.99), map
    if composed.code == 3:
        with pytest.raises(NotInvertibleError), Store("embcli.db", readonly=True) as store:
            store.maps.get("ab").map.then(store.maps.get("bc").map)


def test_backward_compatibility(run, upgrade):
    result = run("align", "eval", "up", *upgrade, "--new", "new")
    assert result.code == 0
    row = next(r for r in result.rows if (r["retrieval"], r["measure"]) == ("nn", "nDCG@10"))
    old = run("eval", "retrieval", "examples/beir", "-c", "old", "--measure", "nDCG@10").rows
    new = run("eval", "retrieval", "examples/beir", "-c", "new", "--measure", "nDCG@10").rows
    assert row["old_to_old"] == pytest.approx(old[0]["value"], abs=1e-6)
    assert row["new_to_new"] == pytest.approx(new[0]["value"], abs=1e-6)
    assert row["wins"] + row["ties"] + row["losses"] == 8
    assert row["difference"] == pytest.approx(row["new_to_old"] - row["old_to_old"])
    assert "backward compatible through 'up'" in result.err
    through = run("eval", "retrieval", "examples/beir", "-c", "old", "--via", "up",
                  "--measure", "nDCG@10").rows  # fmt: skip
    assert row["new_to_old"] == pytest.approx(through[0]["value"], abs=1e-6)
    losers = run("align", "eval", "up", *upgrade, "--losers", "2").rows
    assert len(losers) <= 2
    assert all(row["difference"] < 0 for row in losers)


def test_a_map_is_judged_from_either_end(run, upgrade):
    result = run("align", "eval", "up", *upgrade, "--old", "new", "--new", "old")
    assert result.code == 0
    forward = run("align", "eval", "up", *upgrade, "--new", "new").rows
    assert result.rows[0]["old_to_old"] == forward[0]["new_to_new"]
    assert result.rows[0]["new_to_new"] == forward[0]["old_to_old"]


def test_compatibility_through_a_map_of_another_space(run, upgrade, examples):
    corpus = examples / "beir" / "corpus.jsonl"
    assert run("encode", corpus, "-m", "static", "--pooling", "none", "-c", "other").code == 0
    result = run("align", "eval", "up", *upgrade, "--old", "other")
    assert (result.code, "is in another space" in result.err) == (2, True)


def test_options_of_compatibility_go_together(run, upgrade):
    assert run("align", "eval", "up", *upgrade[:2]).code == 2
    assert run("align", "eval", "up", "--new", "new").code == 2


def test_words_of_two_languages(run, home, shared):
    """Real vectors: the figures that the project holds itself to."""
    folder = shared / "bli" / "es-en"
    for language in ("es", "en"):
        target = home / f"{language}.txt"
        target.write_bytes((folder / f"word2vec.{language}").read_bytes())
        assert run("import", target, "-c", language).code == 0
    result = run("align", "compare", "-s", "es", "-t", "en", "-p", folder / "es-en.0-5000.txt",
                 "--test", folder / "es-en.5000-6500.txt",
                 "-M", "procrustes", "-M", "vecmap", "-M", "rcsls")  # fmt: skip
    scores = {row["method"]: row["P@1"] for row in result.rows if row["retrieval"] == "csls"}
    assert scores["procrustes"] >= 0.778
    assert scores["vecmap"] >= 0.786
    assert scores["rcsls"] >= 0.779
