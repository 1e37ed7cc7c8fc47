"""Encoding in parts that any number of processes and machines share, and gathering them.

A plan says which records each part holds (`plan`); `part.encode_part` makes one part, whoever
calls it; a part is a Parquet file that is complete when it is there (`files`), in a directory or
at a URL (`folder`). `local` does this on one machine, `gather` puts parts into a store.
"""

from embcli.pipelines.shards.files import read_part
from embcli.pipelines.shards.part import (
    PartReport,
    encode_part,
    find_part,
    open_chunker,
    open_encoder,
    part_name,
)
from embcli.pipelines.shards.plan import Plan, plan_parts, read_plan

__all__ = [
    "PartReport",
    "Plan",
    "encode_part",
    "find_part",
    "open_chunker",
    "open_encoder",
    "part_name",
    "plan_parts",
    "read_part",
    "read_plan",
]
