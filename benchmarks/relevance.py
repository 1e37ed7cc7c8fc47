"""Where lists end with `--relevant`, and the weights that are built in for it.

Five retrieval sets of ../shared/data/beir, with `static` and the installed all-MiniLM-L6-v2. The
built-in weights are a logistic regression on all of them, with queries of other sets as examples
of what finds nothing; every set and model counts the same. What they are worth elsewhere is told
by fitting on four sets and cutting the lists of the fifth. Beside it: the best fixed number of
results and the best fixed cosine, both chosen with the set's own judgments, and what `embcli
calibrate` learns from these, cross-validated over queries.

Claims: calibrated lists have at least .9 of the F1 of the best fixed cosine, which was chosen in
hindsight; with weights from other sets, nine of ten queries on other subjects keep nothing; and the
calibration error after fitting is at most .03. All are means over sets and models.

    python benchmarks/relevance.py --stores FOLDER
"""

import argparse
import json
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import numpy as np
from corpora import BEIR
from hybrid import FIVE as SETS
from hybrid import store as encoded
from measure import figure, grid, leave
from sklearn.linear_model import LogisticRegression

from embcli import Store
from embcli.core.relevance import DEFAULT, Calibration, expected_f1_cut
from embcli.formats.trec import read_judgments
from embcli.pipelines.queries import QueryEncoder, QueryOptions
from embcli.pipelines.relevance import DEPTH, Judge, JudgedList, calibrate, judged_lists, quality
from embcli.pipelines.search import nearest

# What information science and electronics have to do with each other is no question for us.
KINDRED = {"adi", "npl"}
FOREIGN = 100  # queries of each other set
FOREIGN_WEIGHT = 1 / 3  # there are up to four other sets

Lists = dict[tuple[str, str, str], list[JudgedList]]  # by set, model, and whose queries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stores", type=Path, help="folder to keep the encoded sets in")
    arguments = parser.parse_args()
    if not BEIR.is_dir():
        leave(f"there are no retrieval sets at {BEIR}")
    with TemporaryDirectory() as temporary:
        folder = arguments.stores or Path(temporary)
        folder.mkdir(exist_ok=True)
        paths = {(n, m): encoded(folder, n, m) for n, m in product(SETS, ("static", "minilm"))}
        lists = dict(every_list(paths))
        report(lists, paths)
    print(f"fitted to all: {fitted(lists, lambda key: True)}")
    print(f"built in:      {DEFAULT}")


def every_list(
    paths: dict[tuple[str, str], Path],
) -> Iterator[tuple[tuple[str, str, str], list[JudgedList]]]:
    for (name, model), path in paths.items():
        with Store(path, readonly=True) as opened, opened.snapshot():
            collection = opened.collection("default")
            judge = Judge(collection)
            encoder = QueryEncoder(opened, collection, QueryOptions())
            for other in SETS:
                if other != name and {other, name} == KINDRED:
                    continue
                judged = relevant(other)
                texts = queries(other)
                ids = [id for id in judged if id in texts][: None if other == name else FOREIGN]
                vectors = encoder.encode([texts[id] for id in ids])
                answers = [judged[id] if other == name else set[str]() for id in ids]
                found = list(judged_lists(collection, judge, vectors, answers))
                yield (name, model, other), found


def relevant(name: str) -> dict[str, set[str]]:
    judged = read_judgments(BEIR / name / "qrels" / "test.tsv", lambda problem: None)
    positive = {q: {d for d, grade in of_q.items() if grade > 0} for q, of_q in judged.items()}
    return {query: ids for query, ids in positive.items() if ids}


def queries(name: str) -> dict[str, str]:
    lines = (BEIR / name / "queries.jsonl").read_text().splitlines()
    return {row["_id"]: row["text"] for row in map(json.loads, lines)}


def fitted(lists: Lists, takes: Callable[[tuple[str, str, str]], bool]) -> Calibration:
    """Fit weights to the lists whose set and queries are taken."""
    rows, labels, weights = [], [], []
    for key, several in lists.items():
        if takes(key):
            rows += [item.described for item in several]
            labels += [item.relevant for item in several]
            size = sum(len(item.relevant) for item in several)
            own = key[0] == key[2]
            weight = (1 if own else FOREIGN_WEIGHT) * 1e4 / size
            weights.append(np.full(size, weight))
    model = LogisticRegression(C=1e6, max_iter=1000)
    model.fit(np.concatenate(rows), np.concatenate(labels), np.concatenate(weights))
    a, b, c = model.coef_[0].tolist()
    return Calibration(float(model.intercept_[0]), (a, b, c))


def report(lists: Lists, paths: dict[tuple[str, str], Path]) -> None:
    columns = "fixed k | fixed cosine | other sets | ECE | kept | nothing kept, foreign | "
    print(f"\n| F1 | {columns}calibrated | ECE | kept |\n|---|{'---|' * 9}")
    rows: dict[str, list[float]] = {}
    for (name, model), path in paths.items():
        own = lists[name, model, name]
        elsewhere = fitted(lists, lambda key, name=name: name not in (key[0], key[2]))
        from_others = quality("other sets", own, [elsewhere] * len(own))
        foreign = [
            expected_f1_cut(elsewhere.probabilities(item.described)) == 0
            for key, several in lists.items()
            if key[:2] == (name, model) and key[2] != name
            for item in several
        ]
        _, calibrated = calibrate(
            BEIR / name / "qrels" / "test.tsv", str(BEIR / name / "queries.jsonl"), db=path
        )
        row = [
            best_count(own), best_cosine(path, name), from_others.f1, from_others.ece,
            from_others.kept, mean(foreign), calibrated.f1, calibrated.ece, calibrated.kept,
        ]  # fmt: skip
        rows[f"{name}, {model}"] = row
        print(f"| {name}, {model} | {shown(row)} |", flush=True)
        calibrate(db=path)
    rows["mean"] = means = np.mean(list(rows.values()), axis=0).tolist()
    heads = [head.strip() for head in f"{columns}calibrated | ECE | kept".split("|")]
    grid("F1", heads, {name: shown(row).split(" | ") for name, row in rows.items()})
    print(f"| mean | {shown(means)} |\n")
    figure("F1, calibrated / best fixed cosine", means[6] / means[1])
    figure("foreign queries that keep nothing", means[5])
    figure("calibration error", means[7])
    print(f"F1 calibrated / best fixed cosine: {means[6] / means[1]:.3f} (claim: >= .9)")
    print(f"foreign queries that keep nothing: {means[5]:.2f} (claim: >= .9)")
    print(f"calibration error after fitting: {means[7]:.4f} (claim: <= .03)")


def best_count(lists: list[JudgedList]) -> float:
    return max(
        mean(2 * item.relevant[:k].sum() / (k + item.total) for item in lists)
        for k in range(1, DEPTH + 1)
    )


def best_cosine(path: Path, name: str) -> float:
    """F1 of the best of a hundred thresholds."""
    with Store(path, readonly=True) as opened, opened.snapshot():
        collection = opened.collection("default")
        judged, texts = relevant(name), queries(name)
        there = collection.sources({id for ids in judged.values() for id in ids})
        answers = {q: {id for id in ids if id in there} for q, ids in judged.items() if q in texts}
        answers = {q: ids for q, ids in answers.items() if ids}
        vectors = QueryEncoder(opened, collection, QueryOptions()).encode(
            [texts[query] for query in answers]
        )
        found = nearest(collection, vectors, DEPTH)
    best = 0.0
    for least in np.linspace(0, 1, 101):
        values = []
        for ids, of_query in zip(answers.values(), found, strict=True):
            kept = [item.record.id for item in of_query if item.score >= least]
            values.append(2 * len(ids.intersection(kept)) / (len(kept) + len(ids)))
        best = max(best, mean(values))
    return best


def shown(figures: list[float]) -> str:
    return " | ".join(f"{value:.3f}" if value < 1 else f"{value:.1f}" for value in figures)


if __name__ == "__main__":
    main()
