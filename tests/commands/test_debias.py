"""Measuring bias, taking it out, and what changed."""

import json
import shutil

import numpy as np
import pytest

from embcli import Store, search
from embcli.core.debiasing.subspace import bias_subspace
from embcli.core.maps import Edits, Linear, Map, Transform, Unit
from embcli.errors import InputError, StoreError, UsageError
from embcli.pipelines.debias_words import held_out, neutral
from embcli.pipelines.maps import compose_maps, invert_map
from tests.conftest import store_words

DIM = 12
PAIRS = [("woman", "man"), ("she", "he"), ("girl", "boy"), ("queen", "king")]


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def vectors_of(collection, words):
    with Store("embcli.db", readonly=True) as store:
        return store.collection(collection).vectors(list(words)).astype(np.float64)


@pytest.fixture
def biased(home):
    """Words with a direction of gender in them: pairs, and sixty neutral words."""
    rng = np.random.default_rng(0)
    gender = np.zeros(DIM)
    gender[0] = 1
    words, rows = [], []
    for first, second in PAIRS:
        middle = rng.standard_normal(DIM)
        words += [first, second]
        rows += [middle + 2 * gender, middle - 2 * gender]
    for number in range(60):
        words.append(f"job{chr(97 + number // 26)}{chr(97 + number % 26)}")
        rows.append(rng.standard_normal(DIM) + (1 if number % 2 else -1) * gender)
    store_words(home / "embcli.db", "words", words, np.array(rows, np.float32))
    jobs = words[8:]
    spec = {
        "name": "toy",
        "definitional": PAIRS,
        "specific": [word for pair in PAIRS for word in pair],
        "words": {"jobs": [*jobs[:30], "absent"]},
        "tests": [
            {
                "name": "T1",
                "targets": {"odd": jobs[1:17:2], "even": jobs[0:16:2]},
                "attributes": {"female": ["she", "girl"], "male": ["he", "boy"]},
            }
        ],
    }
    (home / "toy.json").write_text(json.dumps(spec))
    (home / "pairs.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS))
    return spec


def basis():
    rows = vectors_of("words", [word for pair in PAIRS for word in pair]).reshape(-1, 2, DIM)
    return bias_subspace(list(rows)).basis


def test_measures_name_their_words(biased, run):
    result = run("debias", "measure", "-c", "words", "-s", "toy.json", "--biased", "20")
    assert result.code == 0
    rows = {(row["measure"], row["set"]): row for row in result.rows}
    direct = rows["direct bias", "neutral jobs"]
    assert (direct["n"], direct["missing"]) == (30, 1)
    jobs = unit(vectors_of("words", biased["words"]["jobs"][:-1]))
    assert direct["value"] == pytest.approx(np.abs(jobs @ basis()[0]).mean())
    weat = rows["WEAT effect size", "T1"]
    assert weat["value"] > 0.5
    assert "all 12,870 partitions" in weat["detail"]
    assert weat["p_value"] == pytest.approx(round(weat["p_value"] * 12870) / 12870)
    assert rows["k-means purity", "20 most biased lower-case words a side"]["value"] > 0.8
    assert rows["SVM accuracy", "20 most biased a side"]["value"] > 0.8
    for name in ("subspace", "ripa", "weat", "mac", "rnsb", "rnd", "lipstick"):
        alone = run(
            "debias", "measure", "-c", "words", "-s", "toy.json", "--biased", "20", "-M", name
        )
        assert alone.rows
        assert [row for row in result.rows if row in alone.rows] == alone.rows
    zero = run("debias", "measure", "-c", "words", "-s", "toy.json", "-M", "weat", "--ddof", "0")
    (row,) = zero.rows
    assert row["value"] == pytest.approx(weat["value"] * np.sqrt(16 / 15))
    table = run("debias", "measure", "-c", "words", "-s", "toy.json", "-f", "table").out
    assert "PC1" in table
    assert "PC2" not in table


def test_hard_debiasing_keeps_its_theorems(biased, run):
    """Neutral words end orthogonal to the subspace, equalized pairs equally far from each."""
    before = basis()[0]
    fit = run("debias", "fit", "-c", "words", "-s", "toy.json", "-n", "fair", "--force")
    assert (fit.code, len(fit.rows)) == (0, 2)
    assert fit.rows[0]["after"] == pytest.approx(0, abs=1e-15)
    assert run("debias", "apply", "fair", "-c", "words", "--to", "new").code == 0
    jobs = [f"job{a}{b}" for a in "ab" for b in "abcdefgh"]
    neutral_words = vectors_of("new", jobs)
    assert np.abs(neutral_words @ before).max() < 1e-6
    np.testing.assert_allclose(np.linalg.norm(neutral_words, axis=1), 1, atol=1e-6)
    for first, second in PAIRS:
        a, b = vectors_of("new", [first, second])
        np.testing.assert_allclose(neutral_words @ a, neutral_words @ b, atol=1e-6)
        assert a @ before == pytest.approx(-(b @ before), abs=1e-6)
    with Store("embcli.db", readonly=True) as store:
        map = store.maps.get("fair")
        assert store.collection("new").recipe.base.hash == store.collection("words").recipe.hash
        assert store.collection("new").recipe.normalized
    assert map.fit["collections"] == {"source": "words"}
    assert map.map.edits.replaced[:2] == PAIRS[0]
    (info,) = run("maps", "info", "fair").rows
    assert info["edits"] == {"kept": 0, "replaced": 8}


def test_specific_words_that_are_no_pairs_stay(biased, run):
    spec = biased | {"equalize": [PAIRS[0]]}
    with open("toy.json", "w") as file:
        json.dump(spec, file)
    assert run("debias", "fit", "-c", "words", "-s", "toy.json", "-n", "fair").code == 0
    assert run("debias", "apply", "fair", "-c", "words", "--to", "new").code == 0
    stays = [word for pair in PAIRS[1:] for word in pair]
    np.testing.assert_allclose(
        vectors_of("new", stays), unit(vectors_of("words", stays)), atol=1e-6
    )


@pytest.mark.parametrize("method", ["projection", "soft", "mean-difference", "inlp", "leace"])
def test_every_method_takes_bias_out(biased, run, method):
    words = ("-c", "words", "-s", "toy.json", "-n", method, "-M", method)
    strength = ("--strength", "100000") if method == "soft" else ()
    result = run("debias", "fit", *words, "--biased", "25", *strength)
    assert result.code == 0, result.err
    direct = result.rows[0]
    assert direct["after"] < 0.6 * direct["before"]
    assert run("debias", "apply", method, "-c", "words", "--to", "new").code == 0
    report = run("debias", "report", "words", "new", "-s", "toy.json", "--biased", "20")
    assert report.code == 0
    former = next(row for row in report.rows if row["measure"] == "direct bias, former")
    assert former["after"] == pytest.approx(direct["after"], abs=1e-6)


def test_pairs_in_a_file_are_a_spec(biased, run):
    assert run("debias", "fit", "-c", "words", "-p", "pairs.tsv", "-n", "fair").code == 0
    assert run("debias", "apply", "fair", "-c", "words", "--to", "new").code == 0
    by_pairs = vectors_of("new", ["jobaa", "she"])
    assert run("debias", "fit", "-c", "words", "-s", "toy.json", "-n", "other").code == 0
    assert run("debias", "apply", "other", "-c", "words", "--to", "other").code == 0
    np.testing.assert_allclose(by_pairs, vectors_of("other", ["jobaa", "she"]), atol=1e-7)
    result = run("debias", "measure", "-c", "words", "-p", "pairs.tsv", "-M", "subspace")
    # Centred pairs have one component each.
    assert [row["set"] for row in result.rows] == ["PC1", "PC2", "PC3", "PC4"]
    assert sum(row["value"] for row in result.rows) == pytest.approx(1)


def test_words_are_ranked_along_the_direction(biased, run):
    result = run("debias", "words", "-c", "words", "-s", "toy.json", "-k", "3", "--with", "she")
    assert result.code == 0
    rows = result.rows
    assert [row["group"] for row in rows] == ["woman"] * 3 + ["man"] * 3
    values = [row["projection"] for row in rows]
    assert values == sorted(values, reverse=True)
    jobs = biased["words"]["jobs"][:-1]
    along = unit(vectors_of("words", jobs)) @ basis()[0]
    assert rows[0]["word"] == jobs[int(along.argmax())]
    assert all(row["neutral"] for row in rows)
    every = run(
        "debias", "words", "-c", "words", "-s", "toy.json", "-l", "records", "--all", "-f", "ids"
    )
    assert len(every.out.split()) == 68


def labelled(n=240):
    rng = np.random.default_rng(1)
    classes = np.arange(n) % 3
    centres = 2 * rng.standard_normal((3, DIM))
    rows = (rng.standard_normal((n, DIM)) + centres[classes]).astype(np.float32)
    metas = [{"kind": "abc"[c], "one": 1} for c in classes]
    store_words("embcli.db", "things", [f"thing {i}" for i in range(n)], rows, metas)
    return classes


@pytest.mark.parametrize("method", ["leace", "inlp", "mean-difference"])
def test_a_label_is_erased(home, run, method):
    """What classifiers find on held-out records is chance; class means are one afterwards."""
    classes = labelled()
    fit = run("debias", "fit", "-c", "things", "-l", "kind", "-n", "blind", "-M", method)
    assert fit.code == 0, fit.err
    probe, machine, cosine = fit.rows
    assert probe["before"] > 0.8
    assert probe["after"] < 0.5
    assert probe["chance"] == pytest.approx(1 / 3, abs=0.02)
    assert machine["n"] == probe["n"]
    assert 0.1 < cosine["after"] < 1
    assert run("debias", "apply", "blind", "-c", "things", "--to", "new").code == 0
    after = vectors_of("new", [f"thing {i}" for i in range(len(classes))])
    means = np.stack([after[classes == c].mean(axis=0) for c in range(3)])
    np.testing.assert_allclose(means - means[0], 0, atol=1e-6)
    with Store("embcli.db", readonly=True) as store:
        assert not store.collection("new").recipe.normalized
    report = run("debias", "report", "things", "new", "-l", "kind")
    rows = {(row["about"], row["measure"]): row for row in report.rows}
    assert rows["bias", "linear probe accuracy"]["after"] == probe["after"]
    assert rows["kept", "accuracy"]["verdict"].startswith("erased")


def test_away_from_texts(corpus, run):
    """Nothing of the texts is left, in queries neither."""
    assert run("encode", corpus).code == 0
    fit = run("debias", "fit", "--away", "money", "--away", "banks", "-n", "poor")
    assert fit.code == 0, fit.err
    assert run("debias", "apply", "poor", "--to", "new").code == 0
    from embcli import load_encoder

    unwanted = load_encoder("static").encode(["money", "banks"]).astype(np.float64)
    ids = ["cat", "dog", "bond", "bank", "tax"]
    assert np.abs(vectors_of("new", ids) @ unwanted.T).max() < 1e-6
    hits = run("search", "a cat on money", "-c", "new").rows
    through = run("search", "a cat on money", "--via", "poor").rows
    assert [hit["id"] for hit in hits] == [hit["id"] for hit in through]
    for one, other in zip(hits, through, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-6)


def test_queries_are_edited_as_records_were(home, run):
    """A specific word is found by itself; a neutral one loses what its record lost."""
    with open("w.jsonl", "w") as file:
        for word in ("mother", "father", "nurse", "doctor", "table"):
            file.write(json.dumps({"id": word, "text": word}) + "\n")
    assert run("encode", "w.jsonl").code == 0
    assert run("debias", "fit", "-n", "fair", "-s", "gender").code == 0
    assert run("debias", "apply", "fair", "--to", "new").code == 0
    for word in ("mother", "nurse"):
        (hit, *_) = search([word], collection="new", k=1)[0]
        assert (hit.id, hit.score) == (word, pytest.approx(1, abs=1e-6))
    refused = run("search", "mother", "--via", "fair")
    assert refused.code == 2
    assert "embcli debias apply fair" in refused.err
    # And so through a second map behind it.
    assert run("debias", "fit", "-n", "again", "--away", "wood", "-c", "new").code == 0
    assert run("debias", "apply", "again", "-c", "new", "--to", "newer").code == 0
    (hit, *_) = search(["mother"], collection="newer", k=1)[0]
    assert (hit.id, hit.score) == ("mother", pytest.approx(1, abs=1e-6))
    with pytest.raises(InputError, match="single words"):
        compose_maps(["fair", "fair"], "x")
    with pytest.raises(InputError, match="single words"):
        invert_map("fair", "x")
    assert run("maps", "export", "fair", "-o", "fair.safetensors").code == 0
    assert run("maps", "import", "fair.safetensors", "--name", "copy").code == 0
    with Store("embcli.db", readonly=True) as store:
        assert store.maps.get("copy").hash == store.maps.get("fair").hash
        assert store.maps.get("copy").space.hash == store.maps.get("fair").space.hash


def test_edits_do_not_fit_another_space(home):
    store_words("embcli.db", "words", ["a", "b"], np.eye(4, dtype=np.float32)[:2])
    edits = Edits(("a",), ("b",), np.ones((1, 3)))
    step = Transform.of(Unit(), Linear(np.eye(4)))
    with Store("embcli.db") as store:
        recipe = store.collection("words").recipe
        with pytest.raises(InputError, match="edits words"):
            store.maps.add(
                "x", Map(step, step, edits), method="hard", source=recipe, target=recipe, fit={}
            )


def test_held_out_records_are_the_same_everywhere():
    ids = [f"r{n}" for n in range(2000)]
    held = held_out(ids)
    assert 300 < held.sum() < 500
    assert np.array_equal(held_out(ids[::-1]), held[::-1])


def test_neutral_texts_have_no_word_of_the_spec(biased):
    from embcli.formats.bias_spec import read_spec

    spec = read_spec("toy.json")
    texts = ["she", "She", "job", "She sings", "a job, said he.", "the heron sings"]
    assert neutral(spec, texts).tolist() == [1, 2, 5]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("measure", "-c", "things"), 3, "0 of 10 definitional sets"),
        (("measure", "-c", "words", "-s", "nothing"), 2, "there is no spec 'nothing'"),
        (("measure", "-c", "words", "-s", "one.json"), 3, "at least two are needed"),
        (("measure", "-c", "words", "-s", "toy.json", "-M", "magic"), 2, "no measure 'magic'"),
        (("measure", "-c", "words", "-p", "pairs.tsv", "-M", "weat"), 3, "has not the words"),
        (("measure", "-c", "words", "-s", "toy.json", "--components", "9"), 3, "9"),
        (("measure", "-c", "words", "-s", "weat"), 3, "too few of the words"),
        (("measure", "-c", "words", "-s", "toy.json", "-p", "pairs.tsv"), 2, "either"),
        (("measure", "-c", "words", "-s", "toy.json", "--template", "A {}."), 2, "no model"),
        (("words", "-c", "words", "-s", "toy.json", "-l", "trees"), 2, "no list 'trees'"),
        (("words", "-c", "words", "-s", "toy.json", "--with", "tree"), 3, "no vector of 'tree'"),
        (("fit", "-c", "words", "-n", "x"), 2, "exactly one of"),
        (("fit", "-c", "words", "-n", "x", "-s", "toy.json", "-l", "kind"), 2, "exactly one of"),
        (("fit", "-c", "words", "-n", "x", "-l", "kind"), 3, "no record"),
        (("fit", "-c", "things", "-n", "x", "-l", "one"), 3, "two classes are needed"),
        (("fit", "-c", "things", "-n", "x", "-l", "kind", "-M", "hard"), 2, "--label"),
        (("fit", "-c", "words", "-n", "x", "--away", "tree"), 3, "no such word"),
        (("fit", "-c", "words", "-n", "x", "--away", " "), 2, "empty"),
        (("fit", "-c", "words", "-n", "x", "-s", "toy.json", "-M", "magic"), 2, "no method"),
        (("fit", "-c", "words", "-n", "taken", "-p", "pairs.tsv"), 2, "there is a map 'taken'"),
        (("apply", "nothing", "--to", "x"), 5, "there is no map 'nothing'"),
        (("report", "words", "words"), 2, "name two"),
        (("report", "words", "things", "-s", "toy.json"), 3, "things"),
        (("report", "words", "things", "--figure", "x.png"), 3, "no id in common"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_a_line(biased, run, words, code, message):
    labelled(30)
    with open("one.json", "w") as file:
        json.dump({"name": "one", "definitional": [["she", "he"], ["aunt", "uncle"]]}, file)
    assert run("debias", "fit", "-c", "words", "-p", "pairs.tsv", "-n", "taken").code == 0
    result = run("debias", *words)
    assert (result.code, result.out) == (code, ""), result.err
    errors = [line for line in result.err.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert message in errors[0]
    with Store("embcli.db", readonly=True) as store:
        assert [ends.name for ends in store.maps.ends()] == ["taken"]


def test_a_map_that_leads_elsewhere_is_not_applied_here(biased, run):
    store_words("embcli.db", "other", ["a"], np.ones((1, DIM), np.float32))
    with Store("embcli.db") as store:
        a, b = (store.collection(name).recipe for name in ("words", "other"))
        map = Map(Transform.of(Linear(np.eye(DIM))))
        store.maps.add("across", map, method="procrustes", source=a, target=b, fit={})
    result = run("debias", "apply", "across", "-c", "words", "--to", "x")
    assert (result.code, "embcli align apply across" in result.err) == (2, True)
    with pytest.raises(StoreError):
        search(["x"], collection="x")


def test_sentences_stand_for_words(corpus, run):
    """SEAT: every template makes a vector of every word."""
    assert run("encode", corpus).code == 0
    templates = ("--template", "This is {}.", "--template", "{} is here.")
    result = run("debias", "measure", "-s", "gender", "-M", "weat", *templates)
    assert result.code == 0
    row = result.rows[0]
    assert row["n"] == 64
    from embcli import load_encoder
    from embcli.core.debiasing.association import weat
    from embcli.formats.bias_spec import read_spec

    test = read_spec("gender").tests[0]
    sets = [
        load_encoder("static").encode(
            [text.replace("{}", word) for word in words.words for text in templates[1::2]]
        )
        for words in (*test.targets, *test.attributes)
    ]
    expected = weat(*sets)
    assert row["value"] == pytest.approx(expected.effect_size, abs=1e-6)
    assert row["p_value"] == pytest.approx(expected.p_value, abs=1e-6)
    assert run("debias", "measure", "--template", "no blank").code == 2


def test_case_is_ignored_when_asked(biased, run):
    with open("big.tsv", "w") as file:
        file.writelines(f"{a.upper()}\t{b.upper()}\n" for a, b in PAIRS)
    words = ("debias", "measure", "-c", "words", "-p", "big.tsv", "-M", "subspace")
    assert run(*words).code == 3
    folded = [row["value"] for row in run(*words, "-i").rows]
    plain = run(*words[:4], "-p", "pairs.tsv", "-M", "subspace").rows
    assert folded == [row["value"] for row in plain]
    # Specific words stay as they are, and pairs are equalized, however they are written.
    spec = json.dumps(biased | {"equalize": [PAIRS[0]]}).replace("girl", "GIRL")
    spec = spec.replace("woman", "WOMAN").replace("queen", "Queen")
    with open("other.json", "w") as file:
        file.write(spec)
    assert run("debias", "fit", "-c", "words", "-s", "other.json", "-i", "-n", "x").code == 0
    assert run("debias", "apply", "x", "-c", "words", "--to", "new").code == 0
    stays = ["girl", "queen", "she"]
    np.testing.assert_allclose(
        vectors_of("new", stays), unit(vectors_of("words", stays)), atol=1e-6
    )
    a, b = vectors_of("new", ["woman", "man"])
    assert a @ basis()[0] == pytest.approx(-(b @ basis()[0]), abs=1e-6)
    listed = run("debias", "words", "-c", "words", "-s", "other.json", "-i", "-l", "records", "-a")
    neutral_words = {row["word"] for row in listed.rows if row["neutral"]}
    assert neutral_words == {f"job{a}{b}" for a in "abc" for b in "abcdefghijklmnopqrstuvwxyz"} & {
        row["word"] for row in listed.rows
    }


def test_the_figures_of_google_news(gnews, run, shared):
    """Hard debiasing takes direct bias away, keeps most else, and hides the rest."""
    shutil.copy(gnews, "embcli.db")
    assert run("debias", "fit", "-c", "gnews", "-s", "gender", "-n", "fair").code == 0
    assert run("debias", "apply", "fair", "-c", "gnews", "--to", "fair").code == 0
    sets = [shared / "words" / name for name in ("questions-words.txt", "wordsim353.tsv")]
    sets = [item for file in sets for item in ("--word-set", file)]
    words = (
        "debias", "report", "gnews", "fair", *sets, "--ddof", "0", "--sample", "500",
        "--figure", "bias.svg",
    )  # fmt: skip
    result = run(*words)
    again = run(*words)
    assert (again.code, again.out) == (2, "")
    assert "bias.svg is there already" in again.err
    assert result.code == 0
    rows = {(row["measure"], row["set"]): row for row in result.rows}
    direct = rows["direct bias, former", "neutral professions"]
    assert direct["before"] == pytest.approx(0.0660, abs=5e-5)
    assert direct["after"] < 1e-6
    everything = rows["direct bias", "professions"]
    assert (everything["before"], everything["after"]) == pytest.approx((0.0701, 0.0092), abs=5e-5)
    expected = {"WEAT6": (1.952, 1.853), "WEAT7": (0.998, -1.129), "WEAT8": (1.285, -0.401)}
    for name, figures in expected.items():
        row = rows["WEAT effect size", name]
        assert (row["before"], row["after"]) == pytest.approx(figures, abs=1e-3)
    machine = rows["SVM accuracy", "2,500 most biased a side"]
    assert machine["before"] > 0.99
    assert 0.85 < machine["after"] < 0.95
    assert "much remains" in machine["verdict"]
    neighbours = rows["bias by neighbours", "neutral words of lists"]
    assert (neighbours["before"], neighbours["after"]) == pytest.approx((0.751, 0.542), abs=2e-3)
    analogies = rows["3CosAdd", "questions-words.txt"]
    assert analogies["change"] > -0.005
    assert rows["Spearman", "wordsim353.tsv"]["change"] > -0.005
    assert "much of it is still there" in result.err
    with open("bias.svg") as file:
        assert "professions along the gender direction" in file.read()


def test_erasure_of_google_news(gnews, run, shared):
    """A linear probe is at chance on held-out words, another machine is not, analogies stay."""
    shutil.copy(gnews, "embcli.db")
    fit = run("debias", "fit", "-c", "gnews", "-s", "gender", "-n", "leace", "-M", "leace")
    rows = {row["measure"]: row for row in fit.rows}
    probe = rows["linear probe accuracy"]
    assert probe["before"] > 0.99
    assert abs(probe["after"] - 0.5) < 3 * 0.5 / probe["n"] ** 0.5
    assert 0.85 < rows["SVM accuracy, rbf kernel"]["after"] < 0.97
    assert run("debias", "apply", "leace", "-c", "gnews", "--to", "new").code == 0
    questions = shared / "words" / "questions-words.txt"
    result = run(
        "debias", "report", "gnews", "new", "--word-set", questions, "--sample", "9", "-M", "weat"
    )
    rows = {(row["measure"], row["set"]): row for row in result.rows}
    assert rows["3CosAdd", questions.name]["change"] > -0.005


def test_a_fall_is_not_taken_for_granted(home, run, shared):
    """On the static table, WEAT7 rises after hard debiasing."""
    with open("w.jsonl", "w") as file:
        for word in ("nurse", "king", "table"):
            file.write(json.dumps({"id": word, "text": word}) + "\n")
    assert run("encode", "w.jsonl").code == 0
    assert run("debias", "fit", "-n", "fair", "-s", "gender").code == 0
    assert run("debias", "apply", "fair", "--to", "new").code == 0
    result = run("debias", "report", "default", "new", "-M", "weat")
    rows = {row["set"]: row for row in result.rows}
    assert (rows["WEAT7"]["before"], rows["WEAT7"]["after"]) == pytest.approx(
        (0.959, 1.068), abs=2e-3
    )
    assert rows["WEAT7"]["verdict"] == "rises, significant"


def test_no_plan_is_made_of_nonsense():
    from embcli.pipelines.debias_plan import Plan
    from embcli.pipelines.debias_subject import Settings

    for wrong in ({"strength": -1}, {"components": 0}, {"directions": 0}, {"biased": 0}):
        with pytest.raises(UsageError):
            Plan(away=("x",), **wrong)
    for wrong in ({"strictness": -1}, {"ddof": 2}, {"samples": 0}, {"restrict": 1}):
        with pytest.raises(UsageError):
            Settings(**wrong)


@pytest.mark.parametrize("spec", ["gender", "race", "religion"])
def test_every_spec_does_everything(corpus, run, spec):
    """Groups may be three; an end of the direction is called after the one farthest out there."""
    assert run("encode", corpus).code == 0
    assert run("debias", "measure", "-s", spec).code == 0
    fit = run("debias", "fit", "-s", spec, "-n", "fair", "--components", "2")
    assert fit.code == 0, fit.err
    assert fit.rows[0]["after"] < 1e-6 < fit.rows[0]["before"]
    assert run("debias", "apply", "fair", "--to", "new").code == 0
    report = run("debias", "report", "default", "new", "--figure", "x.png")
    assert report.code == 0, report.err
    rows = run("debias", "words", "-s", spec, "-a", "-f", "json")
    groups = {row["group"] for row in json.loads(rows.out)}
    assert len(groups) == 2
    from embcli import load_encoder
    from embcli.core.debiasing.subspace import bias_subspace, projections
    from embcli.formats.bias_spec import read_spec

    sets = [
        load_encoder("static").encode(words).astype(float) for words in read_spec(spec).definitional
    ]
    along = projections(np.concatenate(sets), bias_subspace(sets).basis)[:, 0]
    of_groups = along.reshape(len(sets), -1).mean(axis=0)
    first = read_spec(spec).definitional[0]
    expected = {first[of_groups.argmax()], first[of_groups.argmin()]}
    assert groups == expected


def test_nothing_is_left_of_what_is_taken_out(corpus, run):
    """What a map leaves of a text that it takes out whole is no vector, but rounding."""
    with open(corpus, "a") as file:
        file.write(json.dumps({"id": "t", "text": "terms and conditions"}) + "\n")
    assert run("encode", corpus).code == 0
    assert run("debias", "fit", "--away", "terms and conditions", "-n", "clean").code == 0
    applied = run("debias", "apply", "clean", "--to", "new")
    assert applied.code == 3
    assert "the map makes a vector of zeros of record 't'" in applied.err
    for way in (("-c", "new"), ("--via", "clean")):
        result = run("search", "terms and conditions", *way)
        assert (result.code, result.out) == (1, "")
        assert "leaves nothing of the query" in result.err
    scores = {hit["id"]: hit["score"] for hit in run("search", "a cat", "--via", "clean").rows}
    assert scores["t"] == 0
    near = run("search", "--like", "cat", "--via", "clean").rows
    assert "cat" not in {hit["id"] for hit in near}


def test_a_report_knows_what_a_map_was_fitted_to(biased, run):
    """Also where the spec was a file of the user's."""
    assert run("debias", "fit", "-c", "words", "-s", "toy.json", "-n", "fair").code == 0
    assert run("debias", "apply", "fair", "-c", "words", "--to", "new").code == 0
    named = run("debias", "report", "words", "new", "-s", "toy.json", "--biased", "20")
    known = run("debias", "report", "words", "new", "--biased", "20")
    assert known.out == named.out
    some = "id in ('joba" + "', 'joba".join("abcdefghijklmnop") + "')"
    assert run("debias", "apply", "fair", "-c", "words", "--to", "some", "-w", some).code == 0
    # A few records of the collection are all that can be compared.
    part = run("debias", "report", "words", "some", "-s", "toy.json", "-M", "lipstick")
    assert part.code in (0, 3)
    assert "bug" not in part.err


def test_too_few_records_are_no_classes(biased, run):
    for method in ("leace", "inlp"):
        result = run(
            "debias", "fit", "-c", "words", "-s", "toy.json", "-n", "x", "-M", method,
            "--biased", "4",
        )  # fmt: skip
        assert (result.code, result.out) == (3, "")
        assert "10 records at least" in result.err
    result = run("debias", "fit", "-c", "words", "--away", "she", "-n", "x", "--strength", "2")
    assert (result.code, "--strength is for method soft" in result.err) == (2, True)
