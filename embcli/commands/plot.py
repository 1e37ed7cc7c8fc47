"""`embcli plot`."""

import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from embcli.config import DEFAULT_COLLECTION
from embcli.errors import UsageError, counted
from embcli.options import DB, Db, Format, OutputFormat, Quiet, Seed, Where, complete_collection
from embcli.output import Column, Output, short

if TYPE_CHECKING:
    from embcli.pipelines.layouts import Laid
    from embcli.pipelines.plot import Look
    from embcli.pipelines.subject import Subject

PANEL = "Work"
ORDER = 22
EXAMPLE = "embcli plot --color language -o map.png"
LAYOUT = "The layout"
LOOK = "The look"
PLACES = (
    Column("id", "id"),
    Column("x", "x", right=True, show=short),
    Column("y", "y", right=True, show=short),
    Column("z", "z", right=True, show=short),
)
# Which options are of which kinds; those of no kind are of all.
KINDS = {
    "method": ("map", "compare"),
    "dims": ("map",),
    "neighbours": ("map", "compare", "graph"),
    "min_dist": ("map", "compare"),
    "perplexity": ("map", "compare"),
    "name": ("map", "compare"),
    "fresh": ("map", "compare"),
    "report": ("map",),
    "color": ("map", "compare", "dendrogram", "graph", "silhouette"),
    "label": ("map",),
}
LAYOUT_OPTIONS = ("method", "dims", "neighbours", "min_dist", "perplexity", "seed")
MEASURES = (
    Column("measure", "measure"),
    Column("value", "value", right=True, show=short),
    Column("n", "n", right=True, show="{:,}".format),
)


def complete_method() -> list[str]:
    """Offer the methods there are."""
    from embcli.pipelines.layouts import METHODS

    return list(METHODS)


def command(
    ctx: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="What to draw into: .png, .svg or .pdf, or .html for a page that can be moved, "
            "searched and selected from, with nothing fetched from anywhere.",
        ),
    ] = None,
    collection: Annotated[
        list[str] | None,
        typer.Option(
            "--collection",
            "-c",
            help="The collection; two for --kind compare.",
            autocompletion=complete_collection,
        ),
    ] = None,
    kind: Annotated[
        Literal["map", "similarity", "dendrogram", "graph", "scree", "compare", "silhouette"],
        typer.Option(
            "--kind",
            help="A map of all records; of a few, cosines of all pairs (similarity), a tree of "
            "merges (dendrogram) or nearest neighbours as a graph; the variance of principal "
            "components (scree); two collections side by side (compare); how well groups hold "
            "together (silhouette).",
        ),
    ] = "map",
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-M",
            help="umap, pca, tsne, localmap or densmap.",
            autocompletion=complete_method,
            rich_help_panel=LAYOUT,
        ),
    ] = "umap",
    dims: Annotated[
        int, typer.Option("--dims", min=2, max=3, help="2 or 3.", rich_help_panel=LAYOUT)
    ] = 2,
    neighbours: Annotated[
        int | None,
        typer.Option(
            "--neighbours",
            min=2,
            help="How far umap and densmap look: few show detail, many the whole, 15 by default; "
            "of --kind graph the lines of a record, 5 by default.",
            rich_help_panel=LAYOUT,
        ),
    ] = None,
    min_dist: Annotated[
        float | None,
        typer.Option(
            "--min-dist",
            help="How near umap and densmap put records; 0.1 by default.",
            rich_help_panel=LAYOUT,
        ),
    ] = None,
    perplexity: Annotated[
        float | None,
        typer.Option(
            "--perplexity", help="How far tsne looks; 30 by default.", rich_help_panel=LAYOUT
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            "-n",
            help="What to call the layout, if not as its method.",
            rich_help_panel=LAYOUT,
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh", help="Lay out anew, even if that was done before.", rich_help_panel=LAYOUT
        ),
    ] = False,
    where: Where = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=3, metavar="N", help="Only so many records, at random."),
    ] = None,
    report: Annotated[
        bool,
        typer.Option("--report", help="Measure how much of the neighbourhoods the layout keeps."),
    ] = False,
    color: Annotated[
        str | None,
        typer.Option(
            "--color",
            metavar="FIELD",
            help="A field of the metadata, cluster, cluster.NAME or none; by default clusters, if "
            "there are any. Numbers become a scale.",
            rich_help_panel=LOOK,
        ),
    ] = None,
    label: Annotated[
        bool | None,
        typer.Option(
            "--label/--no-label",
            help="Write names of groups into the map; by default where a legend has no room for "
            "them.",
            show_default=False,
            rich_help_panel=LOOK,
        ),
    ] = None,
    title: Annotated[
        str | None,
        typer.Option("--title", help="By default the collection.", rich_help_panel=LOOK),
    ] = None,
    dark: Annotated[
        bool, typer.Option("--dark", help="Light on dark.", rich_help_panel=LOOK)
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    seed: Seed = 0,
    db: Db = DB,
    format: OutputFormat = None,
    quiet: Quiet = False,
) -> None:
    """Draw a collection: as a map on which near records are near, or in other ways.

    The layout is kept in the store: drawing it again takes no time, in other colours or as another
    kind of file, and records that come later are placed in it without moving the others. Without
    --out, a terminal shows a small map, and a pipe gets the coordinates.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from embcli.pipelines import plot
    from embcli.pipelines.layouts import LayoutPlan, laid_out, plan_of
    from embcli.pipelines.memory import NEEDS
    from embcli.pipelines.subject import open_subject

    output = Output(format, None, quiet)
    names = list(dict.fromkeys(collection or [DEFAULT_COLLECTION]))
    if len(names) != (2 if kind == "compare" else 1):
        raise UsageError(
            "--kind compare takes two collections: -c A -c B"
            if kind == "compare"
            else f"--kind {kind} takes one collection"
        )
    given = {option for option in (*KINDS, "seed") if _is_given(ctx, option)}
    for option, kinds in KINDS.items():
        if kind not in kinds and option in given:
            flag = f"--{option.replace('_', '-')}"
            raise UsageError(f"--kind {kind} takes no {flag} (of {', '.join(kinds)} it is)")
    of_layout = None if kind == "graph" else neighbours
    plan = LayoutPlan(method, dims, of_layout, min_dist, perplexity, seed)
    if kind != "map" and out is None:
        raise UsageError(f"--kind {kind} is drawn into a file", hint="--out FILE.png")
    if out is not None:
        _check(out, kind, dims, force)
    with ExitStack() as stack:
        subjects = [
            stack.enter_context(
                open_subject(
                    db,
                    each,
                    where=where,
                    sample=None if kind == "compare" else sample,
                    seed=seed,
                    need=NEEDS[method if kind in ("map", "compare") else "pca"],
                    option=None if kind == "compare" else "--sample",
                    note=output.note,
                )
            )
            for each in names
        ]
        rows: list[Any] = []
        if kind == "compare":
            subjects, rows = plot.in_common(subjects, sample, seed)
        subject = subjects[0]
        shown = len(rows[0]) if rows else len(subject)
        if name is not None and not fresh and not given & {*LAYOUT_OPTIONS}:
            kept = subject.collection.layouts.find(name)
            plan = plan if kept is None else plan_of(kept)
        # What cannot be drawn is said before a layout that takes time.
        colour = None
        if kind in ("map", "silhouette"):
            colour = plot.colouring(subject, color)
        elif kind in KINDS["color"]:
            colour = plot.grouping(subject, color, kind)
        look = plot.Look(colour, label, title, dark, force)
        if out is not None and kind == "map":
            _check(out, kind, dims, force, len(subject))
        laid, measured = [], []
        with output.progress("steps") as advance:
            if kind in ("map", "compare"):
                laid = [
                    laid_out(each, plan, name, fresh=fresh, note=output.note, advance=advance)
                    for each in subjects
                ]
            if report:
                measured = plot.reported(subject, laid[0], seed, output.note, advance)
        if out is None:
            _show(output, subject, laid[0], look, report=report)
        else:
            draw = {
                "map": lambda: plot.draw_map(subject, laid[0], out, plan, look, output.note),
                "compare": lambda: plot.draw_comparison(
                    subjects, rows, laid, out, look, output.note
                ),
                "similarity": lambda: plot.draw_similarity(subject, out, look, output.note),
                "dendrogram": lambda: plot.draw_dendrogram(subject, out, look, output.note),
                "graph": lambda: plot.draw_graph(
                    subject, out, neighbours or 5, look, seed, output.note
                ),
                "scree": lambda: plot.draw_scree(subject, out, look, output.note),
                "silhouette": lambda: plot.draw_silhouette(subject, out, look, output.note),
            }
            draw[kind]()
        if report:
            output.rows(measured, MEASURES, id="measure")
            if not measured:
                output.note("of fewer than four records nothing is measured")
    if out is not None:
        output.summary(f"{counted(shown, 'record')} → {out}")


def _is_given(ctx: typer.Context, option: str) -> bool:
    source = ctx.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _check(out: Path, kind: str, dims: int, force: bool, count: int = 0) -> None:
    """Refuse what could not be written, before anything is computed."""
    if out.suffix.lower() in (".html", ".htm"):
        if kind != "map" or dims == 3:
            raise UsageError("pages are of flat maps", hint="an ending of .png, .svg or .pdf")
        from embcli.viz.page import check_page

        check_page(out, count, force=force)
        return
    from embcli.viz.figure import FORMATS, check_figure

    if out.suffix.lower().removeprefix(".") not in FORMATS:
        endings = ", ".join(f".{name}" for name in FORMATS)
        page = ", or in .html as a page" if kind == "map" else ""
        raise UsageError(f"a figure ends in one of {endings}{page}, not as {os.fspath(out)!r} does")
    check_figure(out, extra="plot", force=force)


def _show(output: Output, subject: "Subject", laid: "Laid", look: "Look", *, report: bool) -> None:
    """Show a small map in the terminal, or write coordinates into a pipe."""
    from embcli.pipelines.plot import coordinate_rows

    if output.format is not Format.table:
        if not report:
            output.rows(coordinate_rows(subject, laid), PLACES)
        return
    from embcli.viz.terminal import terminal_map

    colour = look.colour
    groups = None if colour is None else colour.groups
    if colour is not None and groups is None:
        output.note(f"{colour.title!r} has numbers, which the terminal does not show")
    size = shutil.get_terminal_size()
    lines = terminal_map(
        laid.coordinates[:, :2],
        groups,
        width=min(size.columns, 100),
        height=min(max(size.lines - 4, 8), 30),
        colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ,
        unicode="utf" in (sys.stdout.encoding or "").lower(),
    )
    for line in lines:
        sys.stdout.write(f"{line}\n")
    output.note("--out FILE.png or FILE.html draws it into a file")
