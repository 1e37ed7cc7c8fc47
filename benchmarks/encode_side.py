"""One side of `encode.py`, in a process of its own: load, warm up, encode once, report.

It is told what to do by a JSON object and imports nothing of the other side, so that peers may
live in other environments. Loading and warming up are not timed; embcli compares its precision
with float32 in the warm-up.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import numpy as np
from measure import inside
from numpy.typing import NDArray

Encode = Callable[[list[str]], NDArray[np.float32]]
Facts = dict[str, Any]

_WARM_UP = 64
_PRODUCTS = 10
_WIDTH = {"cpu": 2048, "cuda": 8192}


def main() -> None:
    task = json.loads(sys.argv[1])
    texts = json.loads(Path(task["texts"]).read_text(encoding="utf-8"))
    make = embcli if task["side"] == "embcli" else sentence_transformers
    encode, facts = make(task)
    encode(texts[:_WARM_UP] if task["device"] == "cpu" else texts)
    found: list[NDArray[np.float32]] = []
    with utilisation(task["device"]) as samples:
        cost = inside(lambda: found.append(encode(texts)))
    np.save(task["vectors"], found[0])
    report = {"wall": cost.wall, "cpu": cost.cpu, **facts()}
    if samples:
        report["busy"] = float(np.mean(samples))
    if task["side"] == "embcli":
        report["peak"] = matmul_peak(task["device"])
    print(json.dumps(report))


def sentence_transformers(task: dict[str, Any]) -> tuple[Encode, Callable[[], Facts]]:
    from sentence_transformers import SentenceTransformer

    changed = {"backend": task["backend"]} if task["backend"] else {}
    if task["dtype"]:
        changed["model_kwargs"] = {"dtype": task["dtype"]}
    model = SentenceTransformer(task["model"], device=task["device"], **changed)
    return model.encode, lambda: {"precision": task["dtype"] or "default"}


def embcli(task: dict[str, Any]) -> tuple[Encode, Callable[[], Facts]]:
    from embcli.encoders import EncoderOptions, load_encoder

    options = EncoderOptions(device=task["device"], dtype=task["dtype"] or "auto")
    encoder: Any = load_encoder(task["model"], options)

    def facts() -> Facts:
        import torch

        modules = encoder._torch._model.modules()
        linear = [module for module in modules if isinstance(module, torch.nn.Linear)]
        return {
            "precision": encoder.facts()["dtype"],
            "weights": sum(layer.weight.numel() for layer in linear),
        }

    return encoder.encode, facts


def matmul_peak(device: str) -> float:
    """Measure floating-point operations per second of a large product in bfloat16."""
    import torch

    n = _WIDTH[device]
    a, b = (torch.randn(n, n, device=device).bfloat16() for _ in range(2))

    def products() -> None:
        for _ in range(_PRODUCTS):
            a @ b
        if device == "cuda":
            torch.cuda.synchronize()

    products()
    return 2 * n**3 * _PRODUCTS / min(inside(products).wall for _ in range(5))


@contextmanager
def utilisation(device: str) -> Iterator[list[float]]:
    """Sample how much of the time the GPU has something to do, in per cent."""
    samples: list[float] = []
    smi = shutil.which("nvidia-smi")
    if device != "cuda" or smi is None:
        yield samples
        return
    query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
    with Popen([smi, *query], stdout=PIPE, text=True) as sampler:
        try:
            yield samples
        finally:
            sampler.terminate()
            printed, _ = sampler.communicate()
    samples += [float(line) for line in printed.split() if line.isdigit()]


if __name__ == "__main__":
    main()
