"""Known classes: accuracy on unlabelled records, the number of classes, and time, of each method.

The protocol of Vaze et al. 2022: half of the classes are known, and half of their records labelled.
Plain k-means knows no labels; k-means++ is the paper's start: centres of new classes are drawn from
unlabelled records, the more likely the further they are from known classes.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/discovery.py banking77 MODEL [SEEDS]
    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/discovery.py ag_news MODEL [SEEDS]
"""

import csv
import sys
import time
from pathlib import Path

import numpy as np
from measure import figure, grid
from sklearn.cluster import KMeans

from embcli import load_encoder
from embcli.core.clustering import semi_supervised
from embcli.core.clustering.discovery import discover, discovery_accuracy

DATA = Path(__file__).parent.parent.parent / "shared" / "data"


def read(corpus):
    """Read texts and classes."""
    if corpus == "banking77":
        with open(DATA / corpus / "test.csv", encoding="utf-8") as stream:
            return zip(
                *((row["text"], row["category"]) for row in csv.DictReader(stream)), strict=True
            )
    with open(DATA / corpus / "test.csv", encoding="utf-8") as stream:
        return zip(*((f"{row[1]}. {row[2]}", row[0]) for row in csv.reader(stream)), strict=True)


def plus_plus(unit, classes, k, seed):
    """Fit semi-supervised k-means from three k-means++ starts and take the best."""
    free = unit[classes < 0]
    known = int(classes.max()) + 1
    means = np.stack([unit[classes == one].mean(axis=0) for one in range(known)])
    fits = []
    for start in range(3):
        draw = np.random.default_rng([seed, start])
        centres = means
        while len(centres) < k:
            squares = np.square(semi_supervised._distances(free, centres)).min(axis=1)
            row = draw.choice(len(free), p=squares / squares.sum(dtype=float))
            centres = np.vstack([centres, free[row]])
        fits.append(semi_supervised._lloyd(unit, classes, centres))
    return min(fits, key=lambda fit: fit.objective).labels


def methods(unit, classes, count, seed):
    """Give every way to cluster, by name."""
    return {
        "k-means, no labels": lambda: KMeans(count, n_init=3, random_state=0).fit_predict(unit),
        "k-means++ start": lambda: plus_plus(unit, classes, count, seed),
        "kmeans": lambda: discover(unit, classes, k=count),
        "gmm": lambda: discover(unit, classes, k=count, method="gmm"),
        "kmeans, k estimated": lambda: discover(unit, classes),
    }


def main():
    corpus, model = sys.argv[1:3]
    texts, categories = read(corpus)
    unit = np.asarray(load_encoder(model).encode(list(texts)), np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    truth = np.unique(categories, return_inverse=True)[1]
    count = int(truth.max()) + 1
    results = {}
    for seed in range(int(sys.argv[3]) if len(sys.argv) > 3 else 3):
        draw = np.random.default_rng(seed)
        known = np.sort(draw.choice(count, count // 2, replace=False))
        labelled = np.isin(truth, known) & (draw.random(len(truth)) < 0.5)
        classes = np.where(labelled, np.searchsorted(known, truth), -1)
        for way, fit in methods(unit, classes, count, seed).items():
            start = time.process_time()
            found = fit()
            spent = time.process_time() - start
            labels = found if isinstance(found, np.ndarray) else found.clusters.labels
            accuracy = discovery_accuracy(labels, truth, known, labelled)
            results.setdefault(way, []).append(
                (*(100 * x for x in accuracy), labels.max() + 1, spent)
            )
    print(f"{corpus}, {Path(model).name}, {count} classes: all, old, new %; clusters; CPU s")
    rows, every = {}, {}
    for way, runs in results.items():
        means = np.mean(runs, axis=0)
        rows[way] = [f"{value:.1f}" for value in means]
        every[way] = means[0]
        figure(f"accuracy, {way}", means[0])
        each = " ".join(f"{run[3]:.0f}" for run in runs)
        print(
            f"{way:20} {means[0]:5.1f} {means[1]:5.1f} {means[2]:5.1f}  {each:12} {means[4]:5.1f}"
        )
    figure("accuracy, kmeans - k-means, no labels", every["kmeans"] - every["k-means, no labels"])
    grid(
        f"{corpus}, {Path(model).parent.name or model}, {count} classes",
        ["all %", "old %", "new %", "clusters", "CPU s"],
        rows,
    )


if __name__ == "__main__":
    main()
