"""`embcli search` with the default model finds what a plain mean of the same table finds.

Peer: nDCG@10 of an independent implementation (mean of the same token vectors; texts in capitals
lower-cased), as recorded with the data in ../shared/data/README.md. Judged by ir-measures
(pip install ir-measures). Queries without judgments are left out.

    python benchmarks/quality.py
    python benchmarks/quality.py --model hash
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from corpora import BEIR
from measure import require

from embcli import encode, search

REFERENCE = {"adi": 0.4446, "med": 0.6582, "cranfield": 0.3279, "cosqa": 0.3108, "npl": 0.3601}
K = 10

Judgments = dict[str, dict[str, int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="static")
    parser.add_argument("--data", type=Path, default=BEIR, help="folder with the BEIR sets")
    arguments = parser.parse_args()
    require("ir_measures", "ir-measures")
    if not arguments.data.is_dir():
        print(f"there are no retrieval sets at {arguments.data}", file=sys.stderr)
        raise SystemExit(4)

    measured = {name: ndcg(arguments.data / name, arguments.model) for name in REFERENCE}
    print(f"| nDCG@10 | {' | '.join(REFERENCE)} |")
    print(f"|---|{'---|' * len(REFERENCE)}")
    row(f"embcli, {arguments.model}", measured)
    row("reference, static", REFERENCE)
    mean = sum(measured.values()) / sum(REFERENCE.values())
    short = max(REFERENCE[name] - figure for name, figure in measured.items())
    print(
        f"ratio of means, embcli / reference: {mean:.4f}; "
        f"largest shortfall {short:.4f} (claim for static: <= 0.001)"
    )


def row(name: str, figures: dict[str, float]) -> None:
    print(f"| {name} | {' | '.join(f'{figure:.4f}' for figure in figures.values())} |")


def ndcg(folder: Path, model: str) -> float:
    import ir_measures

    judgments = read_judgments(folder / "qrels" / "test.tsv")
    queries = {id: text for id, text in read_queries(folder / "queries.jsonl") if id in judgments}
    with TemporaryDirectory() as temporary:
        db = Path(temporary, "store.db")
        encode([folder / "corpus.jsonl"], db=db, model=model)
        found = search(list(queries.values()), db=db, k=K)
    run = {
        query: {hit.id: hit.score for hit in hits}
        for query, hits in zip(queries, found, strict=True)
    }
    measure = ir_measures.nDCG @ K
    return float(ir_measures.calc_aggregate([measure], judgments, run)[measure])


def read_queries(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8") as lines:
        queries = [json.loads(line) for line in lines]
    return [(query["_id"], query["text"]) for query in queries]


def read_judgments(path: Path) -> Judgments:
    """Read query-id, corpus-id and score, tab-separated below a line with these names."""
    judgments: Judgments = defaultdict(dict)
    with path.open(encoding="utf-8") as lines:
        next(lines)
        for line in lines:
            query, document, score = line.split("\t")
            judgments[query][document] = int(score)
    return dict(judgments)


if __name__ == "__main__":
    main()
