"""Tables of clusters, which several commands show."""

from typing import Any

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


def show_measures(output: Output, measures: dict[str, Any]) -> None:
    """Say on one line how good a clustering is."""
    said = [f"{title} {measures[key]:.4f}" for key, title in _SAID.items() if measures.get(key)]
    said += [
        f"{key} {plain(value)}" for key, value in measures.items() if key.startswith("accuracy, ")
    ]
    if measures.get("label") is not None:
        said.append(f"against {measures['label']!r} of {measures['labelled']:,} records")
    if said:
        output.summary(", ".join(said))
