"""The `llm` package as a peer: its own storage path, with vectors computed beforehand."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

Entry = tuple[str, str, dict[str, Any]]  # id, text, metadata

NAME = "bench"


def isolate(folder: Path) -> None:
    """Keep llm from reading or writing the user's settings, here and in child processes."""
    os.environ["LLM_USER_PATH"] = str(folder)


def store(
    path: Path, entries: Iterable[Entry], vectors: Iterable[Sequence[float]], batch: int
) -> None:
    """Write entries with texts and metadata through llm's `embed_multi_with_metadata`."""
    import llm
    from sqlite_utils import Database

    class Precomputed(llm.EmbeddingModel):
        """Hands out the vectors it was given, one for each text in turn."""

        model_id = "precomputed"
        batch_size = batch

        def embed_batch(self, items: Iterable[str | bytes]) -> Iterator[Sequence[float]]:
            for _, vector in zip(items, source, strict=False):
                yield vector

    source = iter(vectors)
    db = Database(path)
    collection = llm.Collection(NAME, db, model=Precomputed())
    collection.embed_multi_with_metadata(entries, store=True, batch_size=batch)
    db.close()
