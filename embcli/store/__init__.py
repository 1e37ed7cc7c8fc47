"""The store: one SQLite file with spaces, collections, records and vectors."""

from embcli.store.collection import Collection, Written
from embcli.store.records import Record
from embcli.store.store import CollectionInfo, Run, SpaceInfo, Store

__all__ = ["Collection", "CollectionInfo", "Record", "Run", "SpaceInfo", "Store", "Written"]
