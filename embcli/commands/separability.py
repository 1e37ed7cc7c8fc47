"""`embcli separability`."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from embcli.config import DEFAULT_COLLECTION
from embcli.errors import NothingFoundError, UsageError, counted
from embcli.options import DB, Db, Out, OutputFormat, Quiet, complete_collection
from embcli.output import Column, Output, SkippedLog, ending, short

if TYPE_CHECKING:
    from embcli.pipelines.separability import Settings
    from embcli.pipelines.space import Space
    from embcli.store import Store

PANEL = "Work"
ORDER = 20
EXAMPLE = "embcli separability --label language"
COMPARING = "Several spaces"
WATCHING = "While a model is trained"
RECORDS = "Classes and records"

Show = Literal[
    "measures", "pairs", "hardest", "errors", "outliers", "recognizability", "correlations"
]


FIGURES = (
    Column("measure", "measure"),
    Column("value", "value", right=True, show=short),
    Column("sd", "± sd", right=True, show=short),
    Column("n", "n", right=True, show="{:,}".format),
    Column("meaning", "what it says", wrap=True, share=1),
)
SPACES = (
    Column("space", "space"),
    Column("dim", "dim", right=True),
    Column("Fisher ratio", "Fisher", right=True, show=short),
    Column("silhouette", "silhouette", right=True, show=short),
    Column("linear probe, accuracy", "linear", right=True, show=short),
    Column("Thornton's index", "1-NN", right=True, show=short),
    Column("persistence score", "persistence", right=True, show=short),
    Column("effective rank", "rank", right=True, show=short),
)
UNLABELLED = (
    *SPACES[:2],
    Column("persistence score", "persistence", right=True, show=short),
    Column("effective rank", "rank", right=True, show=short),
    Column("IsoScore", "IsoScore", right=True, show=short),
    Column("anisotropy", "anisotropy", right=True, show=short),
    Column("uniformity", "uniformity", right=True, show=short),
    Column("intrinsic dimension", "intrinsic", right=True, show=short),
)
ID = Column("id", "id", show=ending)
LABEL = Column("label", "label", share=2)
TEXT = Column("text", "text", share=3)
TABLES: dict[str, tuple[Column, ...]] = {
    "pairs": (
        Column("class_a", "class", wrap=True, share=2),
        Column("class_b", "and", wrap=True, share=2),
        Column("confused", "mixed", right=True, show=short),
        Column("fisher", "Fisher", right=True, show=short),
        Column("text_a", "taken for the other", wrap=True, share=3),
        Column("text_b", "the other way", wrap=True, share=3),
    ),
    "hardest": (
        ID,
        LABEL,
        Column("predicted", "taken for", share=2),
        Column("margin", "margin", right=True, show=short),
        TEXT,
    ),
    "errors": (
        ID,
        LABEL,
        Column("suggested", "neighbours say", share=2),
        Column("support", "share", right=True, show=short),
        TEXT,
    ),
    "outliers": (ID, LABEL, Column("z", "z", right=True, show="{:.1f}".format), TEXT),
    "recognizability": (
        ID,
        LABEL,
        Column("score", "score", right=True, show=short),
        Column("next", "nearest other", share=2),
        TEXT,
    ),
    "correlations": (
        Column("label_free", "without labels"),
        Column("labelled", "with labels"),
        Column("spearman", "Spearman", right=True, show=short),
        Column("n", "spaces", right=True),
    ),
}  # fmt: skip
WATCHED = (
    Column("file", "file"),
    Column("n", "n", right=True),
    Column("persistence score", "persistence", right=True, show=short),
    Column("effective rank", "rank", right=True, show=short),
    Column("uniformity", "uniformity", right=True, show=short),
    Column("best", "best"),
    Column("since", "since", right=True),
)


def command(
    collection: Annotated[
        list[str] | None,
        typer.Option(
            "--collection",
            "-c",
            help="The collection; several times to compare several.",
            autocompletion=complete_collection,
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label", "-l", metavar="FIELD", help="A field of the metadata: the classes."
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels", metavar="FILE", help="Classes from a file: an id, a tab and a label a line."
        ),
    ] = None,
    show: Annotated[
        Show,
        typer.Option(
            "--show",
            help="The measures; or classes that are hard to tell apart (pairs), records whose "
            "class is (hardest), likely label errors, outliers, records by recognizability; or of "
            "several spaces how measures without labels go with those that take them "
            "(correlations).",
            rich_help_panel=RECORDS,
        ),
    ] = "measures",
    k: Annotated[
        int,
        typer.Option(
            "--top", "-k", min=1, help="How many pairs or records.", rich_help_panel=RECORDS
        ),
    ] = 20,
    unrecognizable: Annotated[
        list[str] | None,
        typer.Option(
            "--unrecognizable",
            metavar="ID",
            help="A record that says nothing of any class; several times for several. By default "
            "they are guessed.",
            rich_help_panel=RECORDS,
        ),
    ] = None,
    confusion: Annotated[
        Path | None,
        typer.Option(
            "--confusion",
            metavar="FILE",
            help="Draw what a linear probe takes for what: .png, .svg or .pdf.",
            rich_help_panel=RECORDS,
        ),
    ] = None,
    by_dims: Annotated[
        str | None,
        typer.Option(
            "--by-dims",
            metavar="N,…",
            help="Compare truncations to the first N components, as of Matryoshka models.",
            rich_help_panel=COMPARING,
        ),
    ] = None,
    by_layer: Annotated[
        str | None,
        typer.Option(
            "--by-layer",
            metavar="all|N,…",
            help="Compare layers of the collection's model: texts are encoded again with each.",
            rich_help_panel=COMPARING,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Draw every measure over spaces.",
            rich_help_panel=COMPARING,
        ),
    ] = None,
    scatter: Annotated[
        Path | None,
        typer.Option(
            "--scatter",
            metavar="FILE",
            help="Draw the persistence score against the Fisher ratio, a point a space.",
            rich_help_panel=COMPARING,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace figures that are there.")] = False,
    watch: Annotated[
        Path | None,
        typer.Option(
            "--watch",
            metavar="DIR",
            help="Measure checkpoints' vectors (.npy, .safetensors) as they appear, without "
            "labels, until they stop improving.",
            rich_help_panel=WATCHING,
        ),
    ] = None,
    watched: Annotated[
        Literal["persistence score", "effective rank", "uniformity"],
        typer.Option("--watched", help="What is to improve.", rich_help_panel=WATCHING),
    ] = "persistence score",
    patience: Annotated[
        int,
        typer.Option(
            min=1,
            help="Checkpoints in a row without a new best after which it has stopped improving.",
            rich_help_panel=WATCHING,
        ),
    ] = 3,
    interval: Annotated[
        float, typer.Option(help="Seconds between two looks.", rich_help_panel=WATCHING)
    ] = 5.0,
    once: Annotated[
        bool,
        typer.Option("--once", help="Look once, at what is there.", rich_help_panel=WATCHING),
    ] = False,
    neighbours: Annotated[int, typer.Option("--neighbours", min=1, help="The k of kNN.")] = 10,
    folds: Annotated[int, typer.Option(min=2, help="Of cross-validation.")] = 5,
    sample: Annotated[
        int,
        typer.Option(
            min=10, help="Records drawn for what compares all with each other; n shows how many."
        ),
    ] = 10_000,
    classified: Annotated[
        int, typer.Option(min=10, help="Records drawn for classifiers; n shows how many.")
    ] = 20_000,
    shrinkage: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Of the scatter within classes; by default Ledoit and Wolf's.",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="For --by-layer: cpu, cuda, mps.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything drawn at random.")] = 0,
    db: Db = DB,
    format: OutputFormat = None,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Measure how well classes can be told apart, with labels and without, and where not.

    With --label or --labels: Fisher's ratio, silhouette, Davies-Bouldin, Calinski-Harabasz,
    Thornton's index, cross-validated classifiers (mean and standard deviation over folds) and
    neural collapse. Always: the persistence score of 0-dimensional homology (Ghalyan, Gourgoulias
    et al. 2023), effective rank, IsoScore, anisotropy, uniformity, hubness, intrinsic dimension.
    Vectors count at unit length.

    Over several collections, layers (--by-layer) or truncations (--by-dims): a row for each.
    """
    from embcli.pipelines.separability import Settings

    output = Output(format, out, quiet)
    if watch is not None:
        from embcli.pipelines.watch import Watch

        if any((collection, label, labels, by_dims, by_layer, plot, scatter, confusion)):
            raise UsageError("--watch looks at files in a folder, and takes no collection")
        _watch(output, watch, Watch(watched, patience, interval, once, sample, seed))
        return
    if label and labels:
        raise UsageError("give either --label or --labels")
    settings = Settings(neighbours, folds, sample, classified, shrinkage, seed)
    skipped = SkippedLog()
    names = list(dict.fromkeys(collection or [DEFAULT_COLLECTION]))
    several = len(names) > 1 or by_dims is not None or by_layer is not None
    if not several and (plot or scatter or show == "correlations"):
        raise UsageError(
            "--plot, --scatter and --show correlations compare spaces: several -c, --by-layer or "
            "--by-dims"
        )
    if scatter is not None and not (label or labels):
        raise UsageError("--scatter takes labels: --label FIELD, or --labels FILE")
    if not (label or labels) and (confusion or show not in ("measures", "correlations")):
        raise UsageError(f"--confusion and --show {show} take labels", hint="--label FIELD")
    if unrecognizable and show != "recognizability":
        raise UsageError("--unrecognizable is for --show recognizability")
    if several and (confusion or show not in ("measures", "correlations")):
        raise UsageError(f"--show {show} and --confusion are for one space")
    for figure in filter(None, (confusion, plot, scatter)):
        from embcli.viz.figure import check_figure

        check_figure(figure, extra="separability", force=force)
    with ExitStack() as stack, output.progress("texts") as advance:
        store = _opened(stack, db)
        spaces = _spaces(
            store, names, label, labels, by_dims, by_layer, folds, device, output, skipped, advance
        )
        if several:
            # Layers are in an order, and so are truncations; collections are not, nor both.
            along = len(names) == 1 and (by_layer is None or by_dims is None)
            _compare(output, spaces, settings, show, plot, scatter, joined=along)
        else:
            _one(output, next(spaces), settings, show, k, unrecognizable or (), confusion)
    skipped.close()
    raise typer.Exit(skipped.exit_code)


def _opened(stack: ExitStack, db: Path) -> "Store":
    from embcli.store import Store

    store = stack.enter_context(Store(db, readonly=True))
    stack.enter_context(store.snapshot())
    return store


def _spaces(
    store: "Store",
    names: Sequence[str],
    label: str | None,
    labels: str | None,
    by_dims: str | None,
    by_layer: str | None,
    folds: int,
    device: str | None,
    output: Output,
    skipped: SkippedLog,
    advance: Any,
) -> Iterator["Space"]:
    """Give the spaces that are asked for, one after the other."""
    from embcli.pipelines.memory import NEEDS
    from embcli.pipelines.sides import Side
    from embcli.pipelines.space import (
        Space,
        label_by_field,
        label_by_file,
        layers,
        truncations,
        without_zeros,
    )

    fewest = max(folds, 2)
    for name in names:
        side = Side.load(store.collection(name), output.note, need=NEEDS["separability"])
        side = without_zeros(side, output.note)
        found = None
        if label is not None:
            found = label_by_field(side, label, fewest, output.note)
        elif labels is not None:
            found = label_by_file(side, labels, fewest, output.note, skipped)
        space = Space(name, side, side.vectors, found)
        if by_layer is not None:
            wanted = None if by_layer == "all" else _numbers("--by-layer", by_layer)
            yield from layers(
                space, store, wanted, device=device, note=output.note, advance=advance
            )
        if by_dims is not None:
            yield from truncations(space, _numbers("--by-dims", by_dims))
        if by_layer is None and by_dims is None:
            yield space


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} takes whole numbers, divided by commas, not {text!r}") from None


def _one(
    output: Output,
    space: "Space",
    settings: "Settings",
    show: Show,
    k: int,
    unrecognizable: Sequence[str],
    confusion: Path | None,
) -> None:
    from embcli.pipelines import separability_records as records
    from embcli.pipelines.separability import measured

    if confusion is not None:
        records.draw_confusion(space, settings, confusion, output.note)
    if show == "measures":
        rows = [figure.row() for figure in measured(space, settings)]
        if output.format == "table":
            rows = [
                row | {"meaning": f"{row['meaning']} ({row['detail']})"} if row["detail"] else row
                for row in rows
            ]
        output.rows(rows, FIGURES, id="measure")
        return
    found = {
        "pairs": lambda: records.pairs(space, settings, k, output.note),
        "hardest": lambda: records.hardest(space, settings, k, output.note),
        "errors": lambda: records.errors(space, settings, k),
        "outliers": lambda: records.outlying(space, settings, k),
        "recognizability": lambda: records.recognized(
            space, settings, k, unrecognizable, output.note
        ),
    }[show]()
    output.rows(found, TABLES[show], id="class_a" if show == "pairs" else "id")
    if not found:
        output.note("there are none")


def _compare(
    output: Output,
    spaces: Iterator["Space"],
    settings: "Settings",
    show: Show,
    plot: Path | None,
    scatter: Path | None,
    *,
    joined: bool,
) -> None:
    from embcli.pipelines import separability as pipeline

    rows, figures = pipeline.compared(spaces, settings)
    found = pipeline.correlations(rows, figures)
    if show == "correlations":
        output.rows(found, TABLES["correlations"], id="label_free")
    else:
        has_labels = any(figure.labelled for figure in figures)
        output.rows(rows, SPACES if has_labels else UNLABELLED, id="space")
    if plot is not None:
        pipeline.draw_comparison(rows, figures, plot, joined=joined, note=output.note)
    if scatter is not None:
        pipeline.draw_scatter(rows, found, scatter)
    verdict = pipeline.verdict_of(rows, found)
    if verdict:
        output.summary(verdict)


def _watch(output: Output, folder: Path, how: Any) -> None:
    from embcli.pipelines.watch import watch

    last: dict[str, Any] = {}
    interrupted: list[KeyboardInterrupt] = []

    def rows() -> Iterator[dict[str, Any]]:
        for row in _until_interrupted(watch(folder, how, warn=output.note), interrupted):
            last.update(row)
            if output.format == "table":  # which comes at the end
                best = "the best so far" if row["best"] else f"{row['since']} since the best"
                output.summary(f"{row['file']}: {how.measure} {row[how.measure]:.4f}, {best}")
            yield row
            output.flush()  # somebody waits for every line
            if not row["stopped"]:
                continue
            output.summary(
                f"{how.measure} has stopped improving: no new best in "
                f"{counted(row['since'], 'checkpoint')}"
            )

    output.rows(rows(), WATCHED, id="file")
    if not last and not interrupted:
        raise NothingFoundError(f"{folder} has no checkpoint that can be measured yet")
    if interrupted:
        raise interrupted[0]


def _until_interrupted(
    rows: Iterator[dict[str, Any]], interrupted: list[KeyboardInterrupt]
) -> Iterator[dict[str, Any]]:
    """Give what there is until Ctrl-C, so that what was measured is shown."""
    try:
        yield from rows
    except KeyboardInterrupt as interrupt:
        interrupted.append(interrupt)
