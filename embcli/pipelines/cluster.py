"""Clustering a collection: found, described, compared with classes, and kept."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embcli.core.clustering.agglomerative import MOST
from embcli.core.clustering.agreement import agreement
from embcli.core.clustering.choice import mean_silhouette
from embcli.core.clustering.clusters import NOISE, Clusters, by_size
from embcli.core.clustering.describe import cohesion, medoids
from embcli.core.clustering.hierarchy import coarse_counts, coarser
from embcli.core.clustering.keywords import Keyword, keywords, labels_of
from embcli.core.neighbours import Neighbours
from embcli.core.optional import require
from embcli.errors import InputError, UsageError, counted
from embcli.pipelines.cluster_plan import Plan
from embcli.pipelines.cluster_report import assign_new
from embcli.pipelines.label_command import Request, ask
from embcli.pipelines.pairwise import Advance, Note
from embcli.pipelines.subject import Subject, neighbours_of
from embcli.store import Cluster, Collection, Found, Members, Store
from embcli.store.names import check_word

Row = dict[str, Any]
Ints = NDArray[np.int64]

_EXAMPLES = 8
# Components of the UMAP reduction in which density is looked for.
_REDUCED = 5


@dataclass(frozen=True, eq=False)
class Result:
    """What was found beyond what the store keeps.

    Attributes
    ----------
    curve : list of dict
        What was tried to choose the number of clusters.
    levels : list of Found
        Coarser clusterings, the finest first.
    assigned : int
        How many records that are not in a sample were put into its clusters.
    """

    curve: list[Row]
    levels: list[Found]
    assigned: int = 0


@dataclass(frozen=True)
class Naming:
    """How clusters are named.

    Attributes
    ----------
    top : int
        Keywords of each.
    command : str, optional
        A program that is handed keywords and examples of each on its standard input, and whose
        first line is the name.
    timeout : float
        Seconds that it may take.
    """

    top: int = 10
    command: str | None = None
    timeout: float = 60.0


def cluster(
    subject: Subject,
    plan: Plan,
    name: str,
    *,
    label: str | None = None,
    naming: Naming | None = None,
    note: Note = lambda message: None,
    advance: Advance = lambda done, total, count: None,
) -> Result:
    """Cluster records, say what clusters are like, and keep all that in the store.

    Parameters
    ----------
    subject : Subject
    plan : Plan
    name : str
        What to call the clustering; one of that name is replaced.
    label : str, optional
        A field of the metadata: classes that clusters are compared with.
    naming : Naming, optional
    note, advance : callable

    Raises
    ------
    ModelError
        A package that the method takes is not installed.
    UsageError
        The name cannot be one, or is needed for what the records are filtered by; the command is
        blank; or there are too many records for the linkage.
    InputError
        The vectors cannot be clustered so.
    """
    naming = naming or Naming()
    _check(subject, plan, name, naming)
    classes = None if label is None else subject.classes(label)
    curve: list[Row] = []
    fixed: dict[int, str] = {}
    measures: dict[str, Any] = {}
    if plan.known is None:
        clusters, curve = _found(subject, plan, note, advance)
    else:
        clusters, curve, measures, fixed = _discovered(subject, plan, plan.known, classes, advance)
    if not clusters.count:
        raise InputError(
            f"no cluster: all {len(subject):,} records are noise",
            hint="a smaller --min-size, or another --method",
        )
    measures = {**_measured(subject, clusters, label, classes), **measures}
    # What methods say of a sample is of one of their own.
    chosen = {"found among" if key == "sample" else key: v for key, v in subject.chosen.items()}
    arguments = {**plan.arguments, **chosen, **clusters.details}
    described = _described(subject, clusters.labels, naming, fixed, note, advance)
    levels = [
        _level(subject, labels, name, plan.method, arguments, naming.top)
        for labels in _coarser(subject, plan, clusters, note)
    ]
    finest = [clusters.labels, *(level.members.clusters for level in levels)]
    if levels:
        described = _with_parents(described, *finest[:2])
    for place in range(1, len(levels)):
        parents = _with_parents(levels[place - 1].clusters, *finest[place : place + 2])
        levels[place - 1] = replace(levels[place - 1], clusters=parents)
    members = Members(subject.keys, clusters.labels, clusters.strengths)
    base = Found(name, plan.method, arguments, measures, described, members)
    with_run = {"collection": subject.side.name, "name": name, **arguments}

    def keep(store: Store, source: Collection) -> None:
        with store.run("cluster", source.name, with_run) as counts:
            source.clusterings.add(base, levels)
            counts |= {"records": len(subject), "clusters": clusters.count}

    subject.write(keep)
    assigned = 0
    if "sample" in subject.chosen:
        _, assigned = assign_new(name, subject.side.name, db=subject.db)
        note(
            f"found among {counted(len(subject), 'record')} at random, of which measures and "
            f"keywords are; {assigned:,} more are in the cluster whose mean is nearest"
        )
    return Result(curve, levels, assigned)


def _check(subject: Subject, plan: Plan, name: str, naming: Naming) -> None:
    """Refuse what could not be kept, before it is made."""
    check_word(name, "clusters")
    where = subject.chosen.get("where", "")
    if name in subject.collection.clusterings.by_name() and re.search(r"\bcluster\b", where):
        raise UsageError(
            f"clusters {name!r} are there, and the records are filtered by clusters",
            hint="another --name",
        )
    if naming.command is not None and not naming.command.strip():
        raise UsageError("the command that names clusters is blank")
    linkage = plan.or_default("linkage")
    if plan.method == "agglomerative" and linkage != "ward" and len(subject) > MOST:
        raise UsageError(f"above {MOST:,} records --linkage is ward, not {linkage}")
    if plan.levels != "auto":
        clusterings = subject.collection.clusterings
        there = {each.name: each for each in clusterings.all()}
        own = [each.name for each in clusterings.levels(there[name])] if name in there else []
        for count in plan.levels:
            level = f"{name}-{count}"
            if level in there and level not in own:
                raise UsageError(
                    f"collection {subject.side.name!r} has clusters {level!r} already",
                    hint="another --name",
                )


def _coarser(subject: Subject, plan: Plan, clusters: Clusters, note: Note) -> list[Ints]:
    """Give coarser labels, the finest first."""
    if plan.levels == "auto":
        found = clusters.levels or coarser(
            subject.unit, clusters.labels, coarse_counts(clusters.count)
        )
    else:
        counts = sorted({count for count in plan.levels if count < clusters.count}, reverse=True)
        if len(counts) < len(set(plan.levels)):
            note(f"--levels: there are {clusters.count} clusters, and levels have fewer")
        found = coarser(subject.unit, clusters.labels, counts)
    by_count = {int(labels.max(initial=NOISE)) + 1: labels for labels in found}
    return [by_count[count] for count in sorted(by_count, reverse=True) if count > 0]


def _found(
    subject: Subject, plan: Plan, note: Note, advance: Advance
) -> tuple[Clusters, list[Row]]:
    """Cluster without known classes; give what was tried to choose k, too."""
    vectors, k, seed = subject.unit, plan.k, plan.seed
    curve: list[Row] = []
    if plan.method in ("kmeans", "gmm"):
        from embcli.core.clustering.kmeans import kmeans
        from embcli.core.clustering.mixture import gaussian_mixture

        if k is None:
            k, curve = _chosen(subject, plan, note, advance)
        _check_count(k, len(subject))
        if plan.method == "kmeans":
            return kmeans(vectors, k, seed=seed, advance=advance), curve
        return gaussian_mixture(vectors, k, seed=seed, **_mixture_options(plan)), curve
    if plan.method == "agglomerative":
        from embcli.core.clustering.agglomerative import agglomerative

        if k is not None:
            _check_count(k, len(subject))
        graph = _graph(subject, plan, note, advance) if len(subject) > MOST else None
        found = agglomerative(
            vectors, k, threshold=plan.threshold, linkage=plan.or_default("linkage"), graph=graph
        )
    elif plan.method == "leiden":
        from embcli.core.clustering.leiden import leiden

        graph = _graph(subject, plan, note, advance)
        found = leiden(graph, resolution=plan.or_default("resolution"), seed=seed)
    elif plan.method == "evoc":
        from embcli.core.clustering.evoc import MIN_SIZE, evoc

        found = evoc(vectors, min_size=plan.min_size or MIN_SIZE, seed=seed)
    else:
        from embcli.core.clustering.density import hdbscan
        from embcli.core.layout.umap import umap_layout

        require("sklearn", "HDBSCAN")
        require("numba", "the reduction by UMAP")
        graph = _graph(subject, plan, note, advance)
        # As is usual with UMAP, and in plots, the record itself counts.
        graph = Neighbours(graph.others[:, :-1], graph.cosines[:, :-1])
        dims = plan.dims or _REDUCED
        points = umap_layout(
            vectors, graph, dim=min(dims, len(subject) - 2), min_dist=0.0, seed=seed,
            advance=advance,
        )  # fmt: skip
        found = hdbscan(points, min_size=plan.min_size, min_samples=plan.min_samples)
        found = replace(found, details={**found.details, "reduced to": points.shape[1]})
    if plan.assign_noise and found.count:
        from embcli.core.clustering.density import reassign

        found = reassign(vectors, found)
    return found, curve


def _chosen(subject: Subject, plan: Plan, note: Note, advance: Advance) -> tuple[int, list[Row]]:
    from embcli.core.clustering.choice import choose_k

    method: Literal["kmeans", "gmm"] = "gmm" if plan.method == "gmm" else "kmeans"
    criterion = plan.criterion or "silhouette"
    choice = choose_k(
        subject.unit,
        method=method,
        criterion=criterion,
        seed=plan.seed,
        options=_mixture_options(plan) if method == "gmm" else {},
        advance=advance,
    )
    most = "the most that were tried" if choice.k == choice.curve[-1]["k"] else "chosen"
    note(f"{counted(choice.k, 'cluster')}, {most} by {criterion}; --show curve shows the others")
    return choice.k, [{**row, "chosen": row["k"] == choice.k} for row in choice.curve]


def _mixture_options(plan: Plan) -> dict[str, Any]:
    options = {} if plan.dims is None else {"dims": plan.dims}
    return {"covariance": plan.or_default("covariance"), **options}


def _check_count(k: int, n: int) -> None:
    if k > n:
        raise InputError(f"{k:,} clusters of {counted(n, 'record')}: there are not so many")


def _graph(subject: Subject, plan: Plan, note: Note, advance: Advance) -> Neighbours:
    k = plan.or_default("neighbours")
    return neighbours_of(subject, k, seed=plan.seed, note=note, advance=advance).near


def _discovered(
    subject: Subject, plan: Plan, field: str, truth: Sequence[str | None] | None, advance: Advance
) -> tuple[Clusters, list[Row], dict[str, Any], dict[int, str]]:
    """Find new clusters beside known classes; give the names of these by number, too."""
    from embcli.core.clustering.discovery import discover, discovery_accuracy

    classes = subject.classes(field)
    names = sorted({name for name in classes if name is not None})
    method: Literal["kmeans", "gmm"] = "gmm" if plan.method == "gmm" else "kmeans"
    number = {name: place for place, name in enumerate(names)}
    labelled = np.array([-1 if name is None else number[name] for name in classes], np.int64)
    found = discover(
        subject.unit, labelled, k=plan.k, method=method, seed=plan.seed, advance=advance
    )
    measures: dict[str, Any] = {"known classes": len(names), "new clusters": found.k - len(names)}
    if truth is not None:
        there = np.array([name is not None for name in truth])
        every = np.unique([name for name in truth if name is not None], return_inverse=True)
        numbers = np.full(len(truth), -1)
        numbers[there] = every[1]
        old = np.flatnonzero(np.isin(every[0], names))
        asked = there & (labelled < 0)
        if asked.any():
            accuracy = discovery_accuracy(
                found.clusters.labels[there], numbers[there], old, labelled[there] >= 0
            )
            measures |= {f"accuracy of {of}": value for of, value in accuracy._asdict().items()}
    curve = [{"k": k, "value": value, "chosen": k == found.k} for k, value in found.curve]
    fixed = {int(cluster): names[place] for place, cluster in enumerate(found.known)}
    return found.clusters, curve, measures, fixed


def _measured(
    subject: Subject, clusters: Clusters, label: str | None, classes: Sequence[str | None] | None
) -> dict[str, Any]:
    """Measure clusters by themselves and against classes."""
    labels = clusters.labels
    inside = np.flatnonzero(labels >= 0)
    measures: dict[str, Any] = {
        "records": len(labels),
        "clusters": clusters.count,
        "noise": 1 - len(inside) / len(labels),
        "silhouette": None,
    }
    if clusters.count > 1:
        measures["silhouette"] = mean_silhouette(subject.unit, labels)
    if classes is not None:
        there = np.array([name is not None for name in classes])
        _, numbers = np.unique([name for name in classes if name is not None], return_inverse=True)
        compared = agreement(labels[there], numbers.astype(np.int64))
        measures |= {"label": label, "labelled": int(there.sum()), **compared._asdict()}
    return measures


def _described(
    subject: Subject,
    labels: Ints,
    naming: Naming,
    fixed: Mapping[int, str],
    note: Note = lambda message: None,
    advance: Advance = lambda done, total, count: None,
) -> list[Cluster]:
    """Say what every cluster is like, and name it; noise comes first, if there is any."""
    words = keywords(subject.texts(), labels, top=naming.top)
    names = [fixed.get(number, name) for number, name in enumerate(labels_of(words))]
    centres = medoids(subject.unit, labels)
    sizes = np.bincount(labels[labels >= 0])
    if naming.command is not None:
        # Known classes have their names.
        requests = [
            request
            for request in _requests(subject, labels, words, centres)
            if request.number not in fixed
        ]
        asked = ask(naming.command, requests, timeout=naming.timeout, note=note, advance=advance)
        for request, answer in zip(requests, asked, strict=True):
            if answer is not None:
                taken = answer in names
                names[request.number] = f"{answer} ({request.number})" if taken else answer
    close = cohesion(subject.unit, labels)
    described = [
        Cluster(
            number, names[number], int(sizes[number]), int(subject.keys[centres[number]]),
            float(close[number]), [keyword.word for keyword in words[number]],
        )
        for number in range(len(sizes))
    ]  # fmt: skip
    noise = int((labels < 0).sum())
    return [Cluster(NOISE, "noise", noise, None, None, []), *described] if noise else described


def _requests(
    subject: Subject, labels: Ints, words: Sequence[Sequence[Keyword]], centres: Ints
) -> list[Request]:
    """Make what the program that names clusters is handed: the records next to the medoid."""
    requests = []
    for number, centre in enumerate(centres.tolist()):
        rows = np.flatnonzero(labels == number)
        cosines = subject.unit[rows] @ subject.unit[centre]
        nearest = rows[np.argsort(-cosines, kind="stable")[:_EXAMPLES]]
        records = subject.collection.get_by_key(subject.keys[nearest].tolist())
        texts = [records[key].text for key in subject.keys[nearest].tolist()]
        of_cluster = [keyword.word for keyword in words[number]]
        requests.append(Request(number, len(rows), of_cluster, texts))
    return requests


def _level(
    subject: Subject, labels: Ints, name: str, method: str, arguments: Mapping[str, Any], top: int
) -> Found:
    labels = by_size(labels)
    described = _described(subject, labels, Naming(top), {})
    count = int(labels.max()) + 1
    strengths = np.where(labels >= 0, 1, 0).astype(np.float32)
    return Found(
        f"{name}-{count}", method, {**arguments, "level": count}, {"clusters": count}, described,
        Members(subject.keys, labels, strengths),
    )  # fmt: skip


def _with_parents(clusters: Sequence[Cluster], labels: Ints, above: Ints) -> list[Cluster]:
    """Note in which coarser cluster most members of a cluster are."""

    def parent(number: int) -> int | None:
        most = Counter(above[labels == number].tolist()).most_common(1)[0][0]
        return None if most == NOISE else int(most)

    return [
        each if each.number == NOISE else replace(each, parent=parent(each.number))
        for each in clusters
    ]
