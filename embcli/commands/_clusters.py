"""Tables of clusters, which several commands show."""

from collections.abc import Mapping, Sequence
from typing import Any

from embcli.errors import counted
from embcli.output import Column, Output, ending, pairs, plain, short

CLUSTERS = (
    Column("cluster", "", right=True),
    Column("name", "cluster", share=3),
    Column("size", "size", right=True, show="{:,}".format),
    Column("cohesion", "cohesion", right=True, show=short),
    Column("parent", "in", right=True),
    Column("text", "its most central text", share=4),
)
RECORDS = (
    Column("id", "id", share=2, show=ending),
    Column("cluster", "", right=True),
    Column("name", "cluster", share=2),
    Column("strength", "strength", right=True, show="{:.2f}".format),
    Column("text", "text", share=3),
    Column("meta", "metadata", share=1, show=pairs),
)
ODD = (
    Column("kind", "kind"),
    Column("id", "id", share=2, show=ending),
    Column("name", "cluster", share=2),
    Column("score", "score", right=True, show="{:.2f}".format),
    Column("of", "of", share=2, show=lambda id: ending(id) if id else ""),
    Column("text", "text", share=3),
)
CURVE = (
    Column("k", "clusters", right=True),
    Column("value", "value", right=True, show=short),
    Column("chosen", "", show=lambda chosen: "chosen" if chosen else ""),
)
# What is said of a clustering, and how it is written.
_SAID = {
    "noise": "noise",
    "silhouette": "silhouette",
    "v_measure": "V",
    "ari": "ARI",
    "nmi": "NMI",
    "purity": "purity",
    "accuracy": "accuracy",
}


def cluster_columns(rows: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    """Choose columns for clusters: keywords where they are not the names, parents if there are."""
    named = any(not row["name"].startswith(", ".join(row["keywords"][:2])) for row in rows)
    leveled = any(row["parent"] is not None for row in rows)
    keywords = Column("keywords", "keywords", share=3, show=", ".join)
    return tuple(
        column
        for column in (*CLUSTERS[:2], keywords, *CLUSTERS[2:])
        if (named or column is not keywords) and (leveled or column.key != "parent")
    )


def show_measures(output: Output, measures: Mapping[str, Any]) -> None:
    """Say on one line how good a clustering is."""
    said = [
        f"{title} {measures[key]:.4f}"
        for key, title in _SAID.items()
        if measures.get(key) is not None and (key != "noise" or measures[key])
    ]
    said += [
        f"{key} {plain(value)}"
        for key, value in measures.items()
        if key.startswith("accuracy of ") and value is not None
    ]
    if measures.get("label") is not None:
        records = counted(measures["labelled"], "record")
        said.append(f"against {measures['label']!r} of {records}")
    if said:
        output.summary(", ".join(said))
