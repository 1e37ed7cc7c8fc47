"""`embcli search` finds what an independent implementation of the same model finds.

Peer: nDCG@10 as recorded with the data in ../shared/data/README.md. For the default model it is
that of a plain mean of the same token vectors (texts in capitals lower-cased); for `minilm`, which
stands for the installed all-MiniLM-L6-v2, that of sentence-transformers. Judged by ir-measures
(pip install ir-measures). Queries without judgments are left out. MiniLM is also held against the
similarities that people gave to the pairs of the English STS benchmark's test set: Spearman's
correlation with the cosine.

    python benchmarks/quality.py
    python benchmarks/quality.py --model hash
    python benchmarks/quality.py --model minilm
"""

import argparse
import csv
import json
import sys
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import models
from corpora import BEIR
from measure import figure, grid, require

from embcli import encode, search
from embcli.encoders import load_encoder

STATIC = {"adi": 0.4446, "med": 0.6582, "cranfield": 0.3279, "cosqa": 0.3108, "npl": 0.3601}
MINILM = {"adi": 0.4975, "med": 0.7875, "cranfield": 0.3817, "cosqa": 0.5926, "npl": 0.4335}
STSB = BEIR.parent / "stsb" / "stsb-en-test.csv"
STSB_MINILM = 0.8203
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

    if arguments.model == "minilm":
        model, reference, peer = str(models.minilm()), MINILM, "sentence-transformers"
        require("sentence_transformers", "sentence-transformers")
    else:
        model, reference, peer = arguments.model, STATIC, "static"
    measured = {name: ndcg(arguments.data / name, model) for name in reference}
    print(f"| nDCG@10 | {' | '.join(reference)} |")
    print(f"|---|{'---|' * len(reference)}")
    row(f"embcli, {arguments.model}", measured)
    row(f"reference, {peer}", reference)
    rows = {f"embcli, {arguments.model}": measured, f"reference, {peer}": reference}
    grid("nDCG@10", list(reference), {n: [f"{x:.4f}" for x in r.values()] for n, r in rows.items()})
    mean = sum(measured.values()) / sum(reference.values())
    short = max(reference[name] - value for name, value in measured.items())
    apart = max(abs(reference[name] - value) for name, value in measured.items())
    figure("largest shortfall", short)
    figure("furthest apart", apart)
    if reference is STATIC:
        claim = f"largest shortfall {short:.4f} (claim for static: <= 0.001)"
    else:
        claim = f"furthest apart {apart:.4f} (claim: <= 0.005)"
    print(f"ratio of means, embcli / reference: {mean:.4f}; {claim}")
    if reference is MINILM and STSB.is_file():
        found = spearman(STSB, model)
        figure("STS-B, Spearman", found)
        figure("STS-B, apart", abs(found - STSB_MINILM))
        print(f"STS-B, Spearman: {found:.4f}, reference {STSB_MINILM} (claim: within 0.001)")


def row(name: str, figures: dict[str, float]) -> None:
    print(f"| {name} | {' | '.join(f'{value:.4f}' for value in figures.values())} |")


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


def spearman(file: Path, model: str) -> float:
    """Correlate the cosines of the pairs in `file` with what people said of them."""
    from scipy.stats import spearmanr

    with file.open(encoding="utf-8", newline="") as lines:
        firsts, seconds, scores = zip(*csv.reader(lines), strict=True)
    vectors = load_encoder(model).encode([*firsts, *seconds])
    cosines = (vectors[: len(firsts)] * vectors[len(firsts) :]).sum(axis=1)
    return float(spearmanr(cosines, [float(score) for score in scores]).statistic)


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
