"""What is on a server."""

from typing import Any

from embcli.errors import StoreError
from embcli.servers import Server, connect

_COLUMNS = (
    "name", "state", "records", "vectors", "model", "dim", "dtype", "space", "chunking", "embcli",
    "facts",
)  # fmt: skip


def describe(url: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Say what a server is, and what collections are on it, or the one that the URL names.

    Returns
    -------
    server : dict
        ``name`` (the URL without the password) and ``product``.
    collections : list of dict
        ``name, state, records, vectors, model, dim, dtype, space`` (the hash of the recipe),
        ``chunking``, ``embcli`` (the version that pushed) and ``facts``: of the index, and what
        recall was measured. Of one that cannot be read only the name, with the reason as its state.

    Raises
    ------
    StoreError
        The server cannot be used, or there is no such collection.
    """
    with connect(url) as server:
        names = server.collections() if server.named is None else [server.named]
        rows = []
        for name in names:
            try:
                rows.append(_described(server, name))
            except StoreError as error:
                if server.named is not None:
                    raise
                # The others can be told.
                rows.append(dict.fromkeys(_COLUMNS) | {"name": name, "state": error.message})
        return {"name": str(server.address), "product": server.product}, rows


def _described(server: Server, name: str) -> dict[str, Any]:
    found = server.collection(name)
    if found is None:
        raise StoreError(f"no collection {name!r} at {server.address}")
    header = found.header
    records, vectors = found.counts()
    values = (
        name, header.state, records, vectors, header.recipe.model, header.recipe.dim, header.dtype,
        header.recipe.hash, header.chunking, header.embcli, {**header.facts, **found.facts()},
    )  # fmt: skip
    return dict(zip(_COLUMNS, values, strict=True))
