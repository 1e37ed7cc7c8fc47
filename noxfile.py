"""What is run by hand: the suite on every Python, lint, coverage, mutants of `core/`.

``nox -l`` lists the sessions, ``nox -s tests-3.13`` runs one. What follows ``--`` goes to pytest,
or names the modules whose mutants are to be tried: ``nox -s mutation -- topk alignment/ridge``.
"""

import re
import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "tests"]
nox.options.error_on_missing_interpreters = False

# Typer takes 3.11 at least.
PYTHONS = ["3.11", "3.12", "3.13"]
CONSTRAINED = ("-c", "constraints.txt")
SETTINGS = """
[tool.mutmut]
source_paths = ["embcli"]
only_mutate = ["embcli/core/{module}.py"]
pytest_add_cli_args_test_selection = ["{tests}"]
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0"]
do_not_mutate_patterns = ['raise [A-Za-z]*Error\\(']
timeout_multiplier = 5.0
"""
# Hypothesis draws the same for every mutant, few examples, and does not look for smaller ones.
HYPOTHESIS = """

from hypothesis import Phase, settings

settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], database=None)
settings.load_profile("mutants")
"""
# Where an error would be a wrong answer rather than a failure.
MUTATED = (
    "topk", "quantize", "fusion", "feedback", "diversity", "maps", "whitening", "csls",
    "neighbours", "maxsim", "muvera", "matching", "judged", "significance", "relevance",
    "alignment/procrustes", "alignment/ridge", "debiasing/association", "debiasing/subspace",
    "separability/scatter", "clustering/kmeans", "clustering/agreement",
)  # fmt: skip


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the suite, or what is named, as CI does."""
    session.install(*CONSTRAINED, "-e", ".[dev]")
    session.run(
        "pytest", "-n", "auto", "--maxprocesses", "4", "--dist", "worksteal", *session.posargs
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Look for what linters and type checkers find."""
    session.install(*CONSTRAINED, "-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure what the tests go through, by package."""
    session.install(*CONSTRAINED, "-e", ".[dev]")
    session.run("pytest", "--cov", "--cov-report=", *(session.posargs or ["-n", "auto"]))
    session.run("python", ".ci/coverage_by_package.py")


@nox.session
def mutation(session: nox.Session) -> None:
    """Change `core/` in small ways, one at a time, and see whether the module's tests fail."""
    session.install(*CONSTRAINED, "-e", ".[dev]", "mutmut")
    root, work = Path.cwd(), Path(session.create_tmp())
    for module in session.posargs or MUTATED:
        where = Path("tests/core", module)
        tests = where.with_name(f"test_{where.name}.py")
        shutil.rmtree(work / "mutants", ignore_errors=True)
        for name in ("embcli", "tests", "examples"):
            shutil.copytree(root / name, work / name, dirs_exist_ok=True)
        settings = SETTINGS.format(module=module, tests=tests)
        append(root / "pyproject.toml", settings, work / "pyproject.toml")
        append(root / "tests/conftest.py", HYPOTHESIS, work / "tests/conftest.py")
        few = re.sub(r"max_examples=\d{2,}", "max_examples=25", (root / tests).read_text())
        (work / tests).write_text(few)
        with session.chdir(work):
            session.log(f"{module}, by {tests}")
            session.run("mutmut", "run", silent=True)
            session.run("mutmut", "results")
            session.run("mutmut", "export-cicd-stats", silent=True)
        session.log(f"{module}: {(work / 'mutants/mutmut-cicd-stats.json').read_text()}")


def append(source: Path, text: str, target: Path) -> None:
    """Write a file with something at its end."""
    target.write_text(source.read_text() + text)
