"""What a run was made on: processor, memory, system, versions of what took part, and the code."""

import json
import os
import platform
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_OWN = ("numpy", "tokenizers", "typer", "wordllama", "safetensors", "sqlite-utils")
_MEASURING = ("measure.py", "corpora.py", "watched.py")
_ASK = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
def known(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
found = {name: known(name) for name in sys.argv[1:]}
print(json.dumps({name: one for name, one in found.items() if one}))
"""


def describe(peers_python: str) -> dict[str, Any]:
    """Describe this machine, and the libraries of this Python and of the peers'."""
    names = [*_OWN, *pinned()]
    machine = {
        "processor": processor(),
        "threads": os.cpu_count(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": system(),
        "python": platform.python_version(),
        "libraries": versions(sys.executable, names),
    }
    if Path(peers_python).absolute() != Path(sys.executable).absolute():
        machine["peers"] = versions(peers_python, names)
    return machine


def pinned() -> dict[str, str]:
    """Read the peers and their versions from the extra `bench`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = project["optional-dependencies"]["bench"]
    return dict(requirement.split("==") for requirement in extra)


def versions(python: str, names: list[str]) -> dict[str, str]:
    asked = subprocess.run([python, "-c", _ASK, *names], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(asked.stdout)
    return found


def processor() -> str:
    """Name the processor, and what of it matters to products of matrices."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    facts = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    flags = facts.get("flags", "").split()
    units = {"AVX2": "avx2", "AVX-512": "avx512f", "AMX": "amx_tile"}
    has = [unit for unit, flag in units.items() if flag in flags]
    return f"{facts.get('model name', platform.processor())} ({', '.join(has) or 'plain'})"


def system() -> str:
    release = platform.freedesktop_os_release() if sys.platform == "linux" else {}
    return f"{release.get('PRETTY_NAME', platform.system())}, kernel {platform.release()}"


def revision(root: Path, script: str) -> dict[str, str]:
    """Name the commit, and the code that is run: nothing where it was changed since.

    That is the package, the script, and what scripts measure with.
    """
    files = ("embcli", f"benchmarks/{script}", *(f"benchmarks/{name}" for name in _MEASURING))
    try:
        changed = git(root, "status", "--porcelain", "--", "embcli", "benchmarks/*.py")
        commit = git(root, "rev-parse", "--short=7", "HEAD")
        trees = git(root, "rev-parse", *(f"HEAD:{file}" for file in files)).split()
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "", "code": ""}
    if changed:
        return {"commit": f"{commit} with changes", "code": ""}
    return {"commit": commit, "code": " ".join(tree[:12] for tree in trees)}


def git(root: Path, *arguments: str) -> str:
    asked = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
    )
    return asked.stdout.strip()
