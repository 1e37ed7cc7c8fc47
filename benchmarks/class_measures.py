"""How far classes are apart, all measures with labels, beside scikit-learn.

Claims: the exact cosine silhouette of 20,000 × 384 takes at most 1/20 of the CPU seconds of
scikit-learn's silhouette_score and is the same number; Calinski–Harabasz, Davies–Bouldin, Fisher's
ratios, which take the scatter matrix, and neural collapse together take at most 3 times those of
scikit-learn's first two; and everything, for 100,000 records of 77 classes, neighbours of all of
them included, takes at most 90 CPU seconds, less than two minutes on 2 cores that are free, and
less than 2 GiB.

Vectors are Gaussian around the means of their classes, and wide enough for a linear probe to be
wrong now and then. The comparison runs in this process, the whole in one of its own.

    OPENBLAS_NUM_THREADS=1 python benchmarks/class_measures.py
"""

import argparse
import sys

import numpy as np
from measure import alternate, cold, figure, inside, ratio, require, table

from embcli.core.separability.classifiers import centroid, cross_validate, linear, neighbours
from embcli.core.separability.neighbourhood import neighbourhood, outliers, silhouette
from embcli.core.separability.recognizability import recognizability
from embcli.core.separability.scatter import (
    calinski_harabasz,
    davies_bouldin,
    fisher,
    neural_collapse,
    pair_fisher,
    pair_mahalanobis,
    scatter,
)

CLASSES, DIM, WIDTH = 77, 384, 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=20_000, help="beside scikit-learn")
    parser.add_argument("--all-records", type=int, default=100_000, help="of the whole")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--whole", action="store_true", help="only that, in this process")
    arguments = parser.parse_args()
    require("sklearn", "scikit-learn")
    if arguments.whole:
        whole(*classes(arguments.all_records))
        return
    compare(arguments.records, arguments.runs)
    command = [sys.executable, __file__, "--whole", "--all-records", str(arguments.all_records)]
    cost, printed = cold(command)
    print()
    table(f"everything, {arguments.all_records:,} x {DIM}, {CLASSES} classes", {"embcli": cost})
    print(printed, end="")
    figure("everything, CPU s", cost.cpu)
    figure("everything, peak MiB", cost.peak)
    print(f"{cost.cpu:.0f} CPU s and {cost.peak:.0f} MiB (claim: <= 90 s, < 2048 MiB)")


def compare(records: int, runs: int) -> None:
    from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score

    vectors, labels = classes(records)
    sides = {
        "embcli silhouette": lambda: inside(lambda: silhouette(vectors, labels)),
        "scikit-learn silhouette": lambda: inside(
            lambda: silhouette_score(vectors, labels, metric="cosine")
        ),
        "embcli scatter": lambda: inside(lambda: from_scatter(vectors, labels)),
        "scikit-learn CH and DB": lambda: inside(
            lambda: (
                calinski_harabasz_score(vectors, labels),
                davies_bouldin_score(vectors, labels),
            )
        ),
    }
    costs = alternate(sides, runs)
    table(f"{records:,} x {DIM}, {CLASSES} classes", costs)
    one, other = (costs[name] for name in ("scikit-learn silhouette", "embcli silhouette"))
    ratio("scikit-learn / embcli, silhouette", one, other, ">= 20")
    one, other = (costs[name] for name in ("scikit-learn CH and DB", "embcli scatter"))
    ratio("scikit-learn / embcli, scatter", one, other, ">= .33")
    apart = silhouette(vectors, labels).mean - silhouette_score(vectors, labels, metric="cosine")
    print(f"silhouettes differ by {abs(apart):.1e}")


def from_scatter(vectors: np.ndarray, labels: np.ndarray) -> tuple[object, ...]:
    found = scatter(vectors, labels)
    return (
        fisher(found), calinski_harabasz(found), davies_bouldin(found), neural_collapse(found),
        pair_fisher(found), pair_mahalanobis(found),
    )  # fmt: skip


def whole(vectors: np.ndarray, labels: np.ndarray) -> None:
    from_scatter(vectors, labels)
    found = silhouette(vectors, labels).mean
    recognizability(vectors, labels)
    near = neighbourhood(vectors, labels)
    far = outliers(vectors, labels)
    probes = [cross_validate(vectors, labels, how) for how in (linear, neighbours(), centroid)]
    accuracies = ", ".join(f"{probe.accuracy:.3f}" for probe in probes)
    print(
        f"silhouette {found:.4f}, 1-NN {near.separability:.3f}, {len(far.rows):,} outliers; "
        f"linear, neighbours and centroid, of {len(probes[0].rows):,} records: {accuracies}"
    )


def classes(records: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw unit vectors and their labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, records)
    means = rng.standard_normal((CLASSES, DIM), np.float32)
    vectors = rng.standard_normal((records, DIM), np.float32)
    vectors *= np.float32(WIDTH)
    vectors += means[labels]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, labels


if __name__ == "__main__":
    main()
