"""The store: one SQLite file with spaces, collections, records and vectors."""

from embcli.store.chunks import Chunk, Chunks
from embcli.store.collection import Collection, Written
from embcli.store.maps import Maps, StoredMap
from embcli.store.records import Record
from embcli.store.store import CollectionInfo, IndexInfo, Run, SpaceFacts, SpaceInfo, Store

__all__ = [
    "Chunk",
    "Chunks",
    "Collection",
    "CollectionInfo",
    "IndexInfo",
    "Maps",
    "Record",
    "Run",
    "SpaceFacts",
    "SpaceInfo",
    "Store",
    "StoredMap",
    "Written",
]
