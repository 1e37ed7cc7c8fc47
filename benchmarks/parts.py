"""Encoding into parts and gathering them, beside one `embcli encode` into a store.

The static model and sentences of six to fourteen words, every command a cold process: the least
that can be encoded in a second of work, so that what parts cost besides shows most. What comes out
is compared: the same records, and vectors to 1e-5. With Ray the parts are made on a cluster that
the command starts on this machine and ends again; that takes seconds of its own, whatever there is
to do.

    python benchmarks/parts.py
"""

import argparse
import json
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from corpora import sentences
from measure import Cost, alternate, cold, figure, program, ratio, table

from embcli import Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    embcli = program("embcli")
    with TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus.jsonl"
        with corpus.open("w", encoding="utf-8") as out:
            for number, text in enumerate(sentences(arguments.records, seed=1)):
                out.write(json.dumps({"id": f"s{number}", "text": text}) + "\n")
        made = 0

        def run(*words: str) -> Cost:
            return cold([embcli, *words, "-q"])[0]

        def new(kind: str) -> str:
            nonlocal made
            made += 1
            return str(folder / f"{kind}{made}")

        def whole() -> Cost:
            return run("encode", str(corpus), "-d", new("whole") + ".db")

        def parts(*options: str) -> Cost:
            # Files are named by their way from the store's folder.
            beside = ["-d", str(folder / "none.db")]
            return run("encode", str(corpus), "--to", new("parts") + "/", *beside, *options)

        def gathered() -> Cost:
            into = new("gathered") + ".db"
            return run("import", newest(folder, "parts*[0-9]"), "-d", into)

        sides = {
            "encode into a store": whole,
            "encode --to DIR/": parts,
            "import DIR": gathered,
            "encode --to DIR/ --workers 2": lambda: parts("--workers", "2"),
        }
        if find_spec("ray") is not None:
            sides["encode --to DIR/ --engine ray"] = lambda: parts("--engine", "ray")
        costs = alternate(sides, arguments.runs, warm=False)
        table(f"{arguments.records:,} sentences, static", costs, arguments.records)
        both = Cost(*map(sum, zip(costs["encode --to DIR/"], costs["import DIR"], strict=True)))
        equal = same(newest(folder, "whole*.db"), newest(folder, "gathered*.db"))
        figure("parts gathered are what one encode makes", float(equal))
        print("the same records and vectors" if equal else "NOT the same")
        claim = "at most 2.5"
        ratio(
            "parts and gathering / encode into a store", both, costs["encode into a store"], claim
        )


def newest(folder: Path, pattern: str) -> str:
    return str(max(folder.glob(pattern), key=lambda path: path.stat().st_mtime))


def same(one: str, other: str) -> bool:
    sides = []
    for db in (one, other):
        with Store(db, readonly=True) as store:
            batch = next(store.collection("default").batches(1 << 30))
        order = np.argsort(batch.ids)
        columns = (batch.ids, batch.texts, batch.metas, batch.sources, batch.hashes)
        sides.append(
            ([np.array(column)[order].tolist() for column in columns], batch.vectors[order])
        )
    return sides[0][0] == sides[1][0] and np.allclose(sides[0][1], sides[1][1], atol=1e-5)


if __name__ == "__main__":
    main()
