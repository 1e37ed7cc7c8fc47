"""Figures that README.md quotes of data that anybody can have, as the commands give them.

There is no peer, and nothing is timed: a part runs the commands that the README is about, and hands
on what they print. Claims are that the README quotes them rightly.

    python benchmarks/figures.py translation debias
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from statistics import mean
from subprocess import run
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from corpora import BEIR
from measure import figure, grid, leave
from models import minilm

from embcli import Composition, load_encoder, search
from embcli.core.correlation import spearman
from embcli.core.cosine import pair_cosines
from embcli.encoders import EncoderOptions

DATA = BEIR.parent
SUBJECTS = (
    "playing football", "cooking soup", "painting a portrait", "repairing a bicycle",
    "singing in a choir", "planting tomatoes", "teaching mathematics", "selling books",
)  # fmt: skip
PLACES = ("Tokyo", "Cairo", "Paris", "Lima", "Nairobi", "Oslo", "Mumbai", "Chicago")
MOODS = ("cheerfully", "sadly", "angrily", "calmly")
CITIES = (
    "Berlin", "Madrid", "London", "New York", "Beijing", "Delhi", "Lagos", "Toronto",
    "Buenos Aires", "Warsaw", "Athens", "Johannesburg",
)  # fmt: skip
FEW = 25  # pairs of words

Rows = list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}, but {', '.join(PARTS)}")
    if not DATA.is_dir():
        leave(f"there are no data at {DATA}")
    for name in arguments.parts or PARTS:
        with TemporaryDirectory() as folder:
            print(f"{name}:", flush=True)
            PARTS[name](Path(folder))


def embcli(folder: Path, *words: object) -> Rows:
    """Run a command in a folder; return the rows that it prints."""
    command = [sys.executable, "-m", "embcli", *map(str, words)]
    done = run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        leave(f"embcli {' '.join(command[3:])}: exit code {done.returncode}: {done.stderr}")
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def said(name: str, value: float) -> None:
    print(f"  {name}: {value:.4f}", flush=True)
    figure(name, value)


def records(path: Path, texts: Iterable[str], **more: list[str]) -> Path:
    """Write texts as records whose ids are their numbers."""
    with path.open("w", encoding="utf-8") as out:
        for number, text in enumerate(texts):
            further = {name: values[number] for name, values in more.items()}
            line = {"id": f"{number:05}", "text": text, **further}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
    return path


def table(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def lines(path: Path) -> list[str]:
    return path.read_text("utf-8").rstrip("\n").split("\n")


def respects(folder: Path) -> None:
    """Of sentences that cross subject, place and mood: those alike in the place."""
    crossed = list(product(SUBJECTS, PLACES, MOODS))
    texts = [f"A woman is {subject} in {place} {mood}." for subject, place, mood in crossed]
    places = [place for _, place, _ in crossed]
    made = records(folder / "crossed.jsonl", texts, place=places)
    embcli(folder, "encode", made, "-m", minilm())
    for name, composition in (("plain", None), ("--given", Composition(given=CITIES))):
        found = []
        for number, place in enumerate(places):
            like = f"{number:05}"
            (hits,) = search(like=like, composition=composition, k=20, db=folder / "embcli.db")
            found.append(mean(hit.meta["place"] == place for hit in hits))
        said(f"alike in place, {name}", mean(found))


def duplicates(folder: Path) -> None:
    """Of pairs that `dedup` puts together: those that people scored at 4 or more of 5."""
    pairs = [row for part in ("dev", "test") for row in table(DATA / f"stsb/stsb-en-{part}.csv")]
    texts = [text for one, two, _ in pairs for text in (one, two)]
    made = records(folder / "pairs.jsonl", texts)
    for model, path in (("static", "static"), ("MiniLM", str(minilm()))):
        embcli(folder, "encode", made, "-m", path, "-c", model)
        for threshold in (0.95, 0.9):
            rows = embcli(folder, "dedup", "-c", model, "-t", threshold)
            group = {row["id"]: row["group"] for row in rows}
            scores = [
                float(score)
                for number, (_, _, score) in enumerate(pairs)
                if group.get(f"{2 * number:05}", 0) == group.get(f"{2 * number + 1:05}", -1)
            ]
            said(f"scored 4 or more, {model}, {threshold}", mean(score >= 4 for score in scores))


def captions(folder: Path) -> None:
    """Of a thousand pictures with two captions: those whose other caption is found."""
    for side in (1, 2):
        texts = lines(DATA / f"multi30k/test_2016.{side}.en")
        embcli(folder, "encode", records(folder / f"{side}.jsonl", texts), "-c", f"side{side}")
    for name, options, by in (
        ("by meaning", (), "b_id"),
        ("by edit distance", ("--edit",), "edit_best"),
        ("mutual", ("--method", "mutual"), "b_id"),
    ):
        rows = embcli(folder, "match", "side1", "side2", *options)
        said(f"other caption found, {name}", mean(row["a_id"] == row[by] for row in rows))


def sentences(folder: Path) -> None:
    """STS-B by averages of word vectors, and by models that are distilled or built in."""
    firsts, seconds, scores = zip(*table(DATA / "stsb" / "stsb-en-test.csv"), strict=True)
    embcli(folder, "import", DATA / "words" / "gnews13k.npz", "-c", "gnews")
    made = records(folder / "texts.jsonl", [*firsts, *seconds])
    embcli(folder, "encode", made, "-c", "sts", "-m", "hash")
    embcli(folder, "distill", minilm(), "-o", "mini")
    rows = np.arange(len(scores))
    options = EncoderOptions(store=str(folder / "embcli.db"))
    for name, model in (
        ("SIF", "words:gnews"),
        ("SIF with a corpus", "words:gnews@sts"),
        ("distilled MiniLM", str(folder / "mini")),
        ("static", "static"),
    ):
        vectors = load_encoder(model, options).encode([*firsts, *seconds])
        cosines = pair_cosines(vectors[: len(firsts)], vectors[len(firsts) :], rows, rows)
        said(f"STS-B, {name}", spearman(cosines, list(map(float, scores))))


def tokens(folder: Path) -> None:
    """Compare a vector for every token with their mean."""
    for model, path, sets in (
        ("static", "static", ("adi",)),
        ("MiniLM", str(minilm()), ("adi", "med", "cranfield")),
    ):
        for name, pooling in product(sets, ((), ("--pooling", "none"))):
            collection = f"{model}-{name}-{len(pooling)}"
            corpus = BEIR / name / "corpus.jsonl"
            embcli(folder, "encode", corpus, "-c", collection, "-m", path, *pooling)
            judge = ("eval", "retrieval", BEIR / name, "-c", collection, "--measure", "nDCG@10")
            said(
                f"nDCG@10, {model}, {name}, {'tokens' if pooling else 'mean'}",
                embcli(folder, *judge)[0]["value"],
            )


def translation(folder: Path) -> None:
    """Word translation, Spanish to English, with MUSE's dictionaries."""
    place = DATA / "bli" / "es-en"
    for language in ("es", "en"):
        embcli(folder, "import", place / f"word2vec.{language}", "-c", language)
    train, test = (place / f"es-en.{part}.txt" for part in ("0-5000", "5000-6500"))
    methods = ("procrustes", "ridge", "rcsls", "vecmap", "cca")
    chosen = [word for method in methods for word in ("-M", method)]
    both = ("-s", "es", "-t", "en")
    known = [
        {line.partition(" ")[0] for line in lines(place / f"word2vec.{language}")[1:]}
        for language in ("es", "en")
    ]
    compared = embcli(folder, "align", "compare", *both, "-p", train, "--test", test, *chosen)
    shown: dict[str, list[str]] = {}
    for row in compared:
        if row["method"] in methods:
            shown.setdefault(row["method"], []).append(f"{100 * row['P@1']:.1f}")
            figure(f"{row['method']}, {row['retrieval']}", 100 * row["P@1"])
    few = folder / "few.txt"
    there = [line for line in lines(train) if all(map(set.__contains__, known, line.split()))]
    few.write_text("\n".join(there[:FEW]), "utf-8")
    fit = ("align", "fit", *both, "-p", few, "-n", "few", "-M", "procrustes", "--refine", "mutual")
    embcli(folder, *fit)
    refined = embcli(folder, "align", "eval", "few", "-p", place / "es-en.txt")
    shown["few pairs, refined"] = [f"{100 * row['P@1']:.1f}" for row in refined]
    for row in refined:
        figure(f"few pairs, refined, {row['retrieval']}", 100 * row["P@1"])
    grid("P@1, es→en", [row["retrieval"] for row in refined], shown)
    print(json.dumps(shown, indent=1))


def bitext(folder: Path) -> None:
    """Find a thousand French translations of English sentences, both by `static`."""
    place = DATA / "multi30k"
    for language in ("en", "fr"):
        for part in ("train", "test_2016_flickr"):
            made = records(folder / f"{part}.jsonl", lines(place / f"{part}.{language}"))
            embcli(folder, "encode", made, "-c", f"{part}.{language}")
    test = ("-s", "test_2016_flickr.en", "-t", "test_2016_flickr.fr", "-p", "ids")
    some = folder / "some.tsv"
    some.write_text("".join(f"{n:05}\t{n:05}\n" for n in range(1000)))
    for name, pairs in (("29000", "ids"), ("1000", some)):
        both = ("-s", "train.en", "-t", "train.fr", "-p", pairs)
        embcli(folder, "align", "fit", *both, "-n", name, "-M", "cca")
        for row in embcli(folder, "align", "eval", name, *test):
            said(f"bitext, {name} pairs, CCA, {row['retrieval']}", 100 * row["P@1"])


def debias(folder: Path) -> None:
    """Show what each method does to the bias of 13,784 Google News vectors."""
    words = DATA / "words"
    embcli(folder, "import", words / "gnews13k.npz", "-c", "gnews")
    sets = ("questions-words.txt", "wordsim353.tsv", "simlex999.txt")
    wanted = [word for name in sets for word in ("--word-set", words / name)]
    for name, strength in (("soft", ()), ("soft-1000", ("--strength", 1000))):
        fit = ("-c", "gnews", "-s", "gender", "-n", name, "-M", "soft", *strength)
        direct, *_ = embcli(folder, "debias", "fit", *fit)
        said(f"{name}: {direct['measure']}, {direct['set']}", direct["after"])
    embcli(folder, "encode", records(folder / "few.jsonl", ["nurse", "king"]), "-c", "few")
    embcli(folder, "debias", "fit", "-c", "few", "-s", "gender", "-n", "fair")
    embcli(folder, "debias", "apply", "fair", "-c", "few", "--to", "fair")
    for row in embcli(folder, "debias", "report", "few", "fair", "-M", "weat"):
        if row["measure"] == "WEAT effect size" and row["set"] == "WEAT7":
            said("static, WEAT7, before", row["before"])
            said("static, WEAT7, hard", row["after"])
    found: dict[str, dict[str, float]] = {}
    for method in ("hard", "inlp", "leace"):
        fit = ("debias", "fit", "-c", "gnews", "-s", "gender", "-n", method, "-M", method)
        fitted = embcli(folder, *fit)
        embcli(folder, "debias", "apply", method, "-c", "gnews", "--to", method)
        report = ("debias", "report", "gnews", method, *wanted, "--ddof", 1, "--sample", 500)
        for row in [*embcli(folder, *report), *fitted]:
            what = f"{row['measure']}, {row['set']}"
            found.setdefault("before", {})[what] = row["before"]
            found.setdefault(method, {})[what] = row["after"]
    shown = {}
    for what in found["before"]:
        cells = [found[side].get(what) for side in found]
        if not what.startswith(("explained variance", "RND", "MAC", "mean cosine")):
            shown[what] = ["" if cell is None else f"{cell:.4f}" for cell in cells]
    for side, values in found.items():
        for what, value in values.items():
            if value is not None:
                figure(f"{side}: {what}", value)
    grid("gender", list(found), shown)
    print(json.dumps(shown, indent=1))


def spaces(folder: Path) -> None:
    """How far known classes are apart."""
    news = table(DATA / "ag_news" / "test.csv")
    made = records(
        folder / "news.jsonl",
        [f"{title} {text}" for _, title, text in news],
        category=[row[0] for row in news],
    )
    shown = {}
    wanted = {"silhouette": "silhouette", "linear probe, accuracy": "linear probe"}
    for name, file, model in (
        ("banking77, static", DATA / "banking77" / "test.csv", "static"),
        ("banking77, MiniLM", DATA / "banking77" / "test.csv", str(minilm())),
        ("AG News, static", made, "static"),
    ):
        collection = name.replace(", ", "-").replace(" ", "")
        embcli(folder, "encode", file, "-m", model, "-c", collection)
        rows = embcli(folder, "separability", "-l", "category", "-c", collection)
        values = {row["measure"]: row["value"] for row in rows if row["value"] is not None}
        shown[name] = [f"{values[measure]:.3f}" for measure in wanted]
        for measure, value in values.items():
            figure(f"{name}: {measure}", value)
    grid("classes", list(wanted.values()), shown)
    print(json.dumps(shown, indent=1))


def clusters(folder: Path) -> None:
    """Cluster with defaults and seed 0, and compare with known classes."""
    news = table(DATA / "ag_news" / "test.csv")
    made = records(
        folder / "news.jsonl",
        [f"{title} {text}" for _, title, text in news],
        category=[row[0] for row in news],
    )
    questions = DATA / "banking77" / "test.csv"
    for name, file, k in (("banking77", questions, 77), ("AG News", made, 4)):
        store = ("-d", folder / f"{k}.db")
        embcli(folder, "encode", file, "-m", minilm(), *store)
        for how in (("-k", k), ("-M", "hdbscan")):
            embcli(folder, "cluster", *how, "--label", "category", *store)
        for row in embcli(folder, "clusters", "list", *store):
            for measure in ("v_measure", "ari", "noise", "clusters"):
                said(f"{name}, {row['name']}: {measure}", row["measures"][measure])


PARTS: dict[str, Callable[[Path], None]] = {
    part.__name__: part
    for part in (
        respects, duplicates, captions, sentences, tokens, translation, bitext, debias, spaces,
        clusters,
    )
}  # fmt: skip


if __name__ == "__main__":
    main()
