"""`embcli cluster`."""

import os
from typing import Annotated, Any, Literal

import typer

from embcli.commands._clusters import CURVE, ODD, RECORDS, cluster_columns, show_measures
from embcli.errors import UsageError, counted
from embcli.options import (
    COLLECTION,
    DB,
    CollectionName,
    Db,
    Out,
    OutputFormat,
    Quiet,
    Seed,
    Where,
)
from embcli.output import Output

PANEL = "Work"
ORDER = 21
EXAMPLE = "embcli cluster -k 4 --label language"
CLASSES = "Classes"
NAMING = "Names of clusters"
OPTIONS = "Options of methods"


def complete_method() -> list[str]:
    """Offer the methods there are."""
    from embcli.pipelines.cluster_plan import METHODS

    return list(METHODS)


def command(
    collection: CollectionName = COLLECTION,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-M",
            help="kmeans, gmm, agglomerative, hdbscan, evoc or leiden: 'embcli clusters methods' "
            "says what they do.",
            autocompletion=complete_method,
        ),
    ] = "kmeans",
    k: Annotated[
        str | None,
        typer.Option(
            "--clusters",
            "-k",
            metavar="N|auto",
            help="How many clusters; auto, the default, chooses by --criterion.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            "-n",
            help="What to call the clustering, if not as its method; one of that name is replaced.",
        ),
    ] = None,
    levels: Annotated[
        str | None,
        typer.Option(
            "--levels",
            metavar="N,…|auto",
            help="Coarser clusterings, too, of so many clusters each; auto for those of the "
            "method, or a quarter of the clusters each time.",
        ),
    ] = None,
    where: Where = None,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            min=3,
            metavar="N",
            help="Find clusters among so many records, at random, and put the others into the "
            "cluster whose mean is nearest.",
        ),
    ] = None,
    show: Annotated[
        Literal["clusters", "records", "outliers", "curve"],
        typer.Option(
            "--show",
            help="The clusters; every record with its cluster; what is far from its cluster, and "
            "what is there twice (outliers); or what was tried to choose how many clusters there "
            "are (curve).",
        ),
    ] = "clusters",
    outliers: Annotated[
        bool, typer.Option("--outliers", help="The same as --show outliers.")
    ] = False,
    top: Annotated[int, typer.Option("--top", min=1, help="How many outliers to show.")] = 20,
    label: Annotated[
        str | None,
        typer.Option(
            "--label",
            "-l",
            metavar="FIELD",
            help="A field of the metadata: classes that the clusters are compared with.",
            rich_help_panel=CLASSES,
        ),
    ] = None,
    known: Annotated[
        str | None,
        typer.Option(
            "--known",
            metavar="FIELD",
            help="A field that some records have: their classes, which stay together, while new "
            "clusters are found beside them (generalized category discovery; kmeans, gmm).",
            rich_help_panel=CLASSES,
        ),
    ] = None,
    keywords: Annotated[
        int,
        typer.Option(
            "--keywords",
            min=1,
            help="Keywords of each cluster, by class-based TF-IDF.",
            rich_help_panel=NAMING,
        ),
    ] = 10,
    label_command: Annotated[
        str | None,
        typer.Option(
            "--label-command",
            metavar="COMMAND",
            help="A program that reads keywords and examples of one cluster from standard input "
            "and writes its name; where it fails, the keywords stay.",
            rich_help_panel=NAMING,
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout", min=0.1, help="Seconds that it may take for one.", rich_help_panel=NAMING
        ),
    ] = 60.0,
    criterion: Annotated[
        Literal["silhouette", "bic", "stability"] | None,
        typer.Option(
            "--criterion",
            help="What chooses the number of clusters: silhouette, the default, how alike "
            "clusterings of parts are (stability) or, of gmm, the Bayesian information criterion "
            "(bic).",
            rich_help_panel=OPTIONS,
        ),
    ] = None,
    min_size: Annotated[
        int | None,
        typer.Option(
            "--min-size",
            min=2,
            help="hdbscan, evoc: fewest records of a cluster.",
            rich_help_panel=OPTIONS,
        ),
    ] = None,
    min_samples: Annotated[
        int | None,
        typer.Option(
            "--min-samples",
            min=1,
            help="hdbscan: neighbours that density is measured with.",
            rich_help_panel=OPTIONS,
        ),
    ] = None,
    assign_noise: Annotated[
        bool,
        typer.Option(
            "--assign-noise",
            help="hdbscan, evoc: put noise into the nearest cluster.",
            rich_help_panel=OPTIONS,
        ),
    ] = False,
    dims: Annotated[
        int | None,
        typer.Option(
            "--dims",
            min=2,
            help="hdbscan: dimensions of the UMAP reduction; gmm: principal components.",
            rich_help_panel=OPTIONS,
        ),
    ] = None,
    neighbours: Annotated[
        int | None,
        typer.Option(
            "--neighbours",
            min=2,
            help="hdbscan, leiden: of the graph; 15 by default.",
            rich_help_panel=OPTIONS,
        ),
    ] = None,
    resolution: Annotated[
        float | None,
        typer.Option(
            "--resolution",
            help="leiden: higher gives more clusters; 1 by default.",
            rich_help_panel=OPTIONS,
        ),
    ] = None,
    linkage: Annotated[
        Literal["ward", "average", "complete"] | None,
        typer.Option(
            "--linkage",
            help="agglomerative: what is nearest; ward by default.",
            rich_help_panel=OPTIONS,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="agglomerative: distance up to which clusters are joined.",
            rich_help_panel=OPTIONS,
        ),
    ] = None,
    covariance: Annotated[
        Literal["diag", "full", "tied", "spherical"] | None,
        typer.Option(
            "--covariance", help="gmm: of each component; tied by default.", rich_help_panel=OPTIONS
        ),
    ] = None,
    seed: Seed = 0,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Find clusters in a collection, name them by keywords, and keep them.

    Vectors count at unit length. The clusters are kept in the store: 'embcli clusters' lists them,
    filters know them ('embcli search "query" --where "cluster = 3"'), and 'embcli plot' draws them.
    The same command with the same seed gives the same clusters.

    With --label it is measured how they agree with classes that are known: V-measure, adjusted
    Rand index, NMI and purity, noise counting as a cluster.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from embcli.pipelines import cluster_report as report
    from embcli.pipelines.cluster import Naming, cluster
    from embcli.pipelines.cluster_plan import Plan
    from embcli.pipelines.memory import NEEDS
    from embcli.pipelines.subject import open_subject
    from embcli.store import Store

    output = Output(format, out, quiet)
    if k not in (None, "auto") and not k.isdecimal():
        raise UsageError(f"-k takes a number or auto, not {k!r}")
    plan = Plan(
        method,
        None if k in (None, "auto") else int(k),
        criterion,
        min_size,
        min_samples,
        dims,
        neighbours,
        resolution,
        threshold,
        linkage,
        covariance,
        assign_noise,
        _levels(levels),
        known,
        seed,
    )
    show = "outliers" if outliers else show
    if show == "curve" and (plan.k is not None or method not in ("kmeans", "gmm")):
        raise UsageError(
            "--show curve is of what was tried to choose -k, with --method kmeans and gmm"
        )
    name = name or method
    with (
        output.progress("records") as advance,
        open_subject(
            db,
            collection,
            where=where,
            sample=sample,
            seed=seed,
            need=NEEDS[method],
            option="--sample",
            note=output.note,
        ) as subject,
    ):
        if show == "outliers":
            report.ask_for_odd(subject.collection)
        result = cluster(
            subject,
            plan,
            name,
            label=label,
            naming=Naming(keywords, label_command, timeout),
            note=output.note,
            advance=advance,
        )
    with Store(db, readonly=True) as store, store.snapshot():
        source = store.collection(collection)
        clustering = source.clusterings.get(name)
        if show == "curve":
            output.rows(result.curve, CURVE, id="k")
        elif show == "records":
            output.rows(report.record_rows(source, clustering), RECORDS)
        elif show == "outliers":
            rows: list[dict[str, Any]] = report.odd_rows(source, clustering, top, note=output.note)
            output.rows(rows, ODD)
            if not rows:
                output.note("there are no outliers and no duplicates")
        else:
            rows = report.cluster_rows(source, source.clusterings.clusters(clustering))
            output.rows(rows, cluster_columns(rows), id="cluster")
    show_measures(output, clustering.measures)
    found = clustering.measures["records"]
    output.summary(
        f"{counted(clustering.measures['clusters'], 'cluster')} of "
        f"{counted(found + result.assigned, 'record')}, kept as {name!r}"
        + "".join(f", {level.name!r}" for level in result.levels)
    )


def _levels(text: str | None) -> tuple[int, ...] | Literal["auto"]:
    from embcli.pipelines.cluster_plan import numbers

    if text is None:
        return ()
    return "auto" if text == "auto" else tuple(numbers("--levels", text))
