"""The store: one SQLite file with spaces, collections, records and vectors."""

from embcli.store.chunks import Chunk, Chunks
from embcli.store.clusterings import Cluster, Clustering, Clusterings, Found, Members
from embcli.store.collection import Collection, Written
from embcli.store.graphs import Graph, Graphs
from embcli.store.layouts import Layout, Layouts, Points
from embcli.store.maps import Maps, StoredMap
from embcli.store.records import Record
from embcli.store.store import CollectionInfo, IndexInfo, Run, SpaceFacts, SpaceInfo, Store

__all__ = [
    "Chunk",
    "Chunks",
    "Cluster",
    "Clustering",
    "Clusterings",
    "Collection",
    "CollectionInfo",
    "Found",
    "Graph",
    "Graphs",
    "IndexInfo",
    "Layout",
    "Layouts",
    "Maps",
    "Members",
    "Points",
    "Record",
    "Run",
    "SpaceFacts",
    "SpaceInfo",
    "Store",
    "StoredMap",
    "Written",
]
