"""The page of benchmarks says what was measured, and what README.md says of it is there."""

import json
import re
import sys
import tomllib

import pytest

from tests.conftest import ROOT

FOLDER = ROOT / "benchmarks"
# What the scripts share; every other file is a benchmark, and claims something.
SHARED = {
    "claims.py", "corpora.py", "encode_side.py", "llm_peer.py", "machine.py", "measure.py",
    "models.py", "report.py", "run.py", "watched.py",
}  # fmt: skip


pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the benchmarks are not here")


@pytest.fixture
def modules(monkeypatch):
    """The modules of the folder, which is no package."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import claims
    import measure
    import report

    yield claims, report, measure
    for name in ("claims", "report", "measure"):
        sys.modules.pop(name)


@pytest.fixture
def runs(modules):
    return modules[0].read()


@pytest.fixture(scope="module")
def kept():
    return json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))


def test_every_run_is_of_a_script_and_every_script_has_one(runs):
    names = [run.name for run in runs]
    assert len(names) == len(set(names))
    scripts = {path.name for path in FOLDER.glob("*.py")} - SHARED
    assert {run.script for run in runs} == scripts


def test_every_claim_has_one_threshold(runs):
    for run in runs:
        for claim in run.claims:
            given = [claim.at_most, claim.at_least, claim.about]
            assert sum(threshold is not None for threshold in given) == 1, claim


def test_what_was_measured_is_what_is_claimed(runs, kept):
    """A figure under another name would leave its claim unjudged, and nobody would notice."""
    assert set(kept["results"]) <= {run.name for run in runs}
    for run in runs:
        result = kept["results"].get(run.name, {}).get("full")
        if result is not None:
            assert {claim.figure for claim in run.claims} <= set(result["figures"]), run.name


def test_the_page_is_what_was_measured(modules, runs, kept):
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert modules[1].page(text, runs, kept) == text, "python benchmarks/run.py --page"


def test_verdicts_are_computed(modules):
    claims, report, _ = modules
    claim = claims.Claim("at most one", "seconds", at_most=1)
    run = claims.Run("it", "it.py", (claim,))
    figures = {"figures": {"seconds": 2.0}}
    older = {"older": {"figures": {"seconds": 1.0}}}

    def row(of_run):
        return next(line for line in report.claims([run], {"results": {"it": of_run}})
                    if line.startswith("| at most"))  # fmt: skip

    assert "| ≤ 1 | 2 | **no** |" in row({"full": figures} | older)
    assert "| 2 (smaller); 1 (older) | **no** (smaller); yes (older) |" in row(
        {"quick": figures} | older
    )
    assert "| not run | not run |" in row({})
    assert "| 1 (older) | **failed to run**; yes (older) |" in row({"failed": {}} | older)
    # Smaller sizes say nothing of memory and seconds.
    claim = claims.Claim("at most one", "seconds", at_most=1, unit="s")
    run = claims.Run("it", "it.py", (claim,))
    assert "| 1 s (older) | yes (older) |" in row({"quick": figures} | older)
    assert "| not run | not run |" in row({"quick": figures})
    assert [claims.number(value) for value in (0.9999999, 0.5, 12.0)] == ["1", "0.5", "12"]
    assert not claim.holds(float("nan"))
    near = claims.Claim("about", "x", about=2, within=0.5)
    assert [near.holds(value) for value in (1.4, 1.5, 2.5, 2.6)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--peers-python", "/nonexistent"], "--peers-python /nonexistent: no such program"),
        (["--cache", "/dev/null/x"], "--cache /dev/null/x: Not a directory"),
    ],
)
def test_a_campaign_that_cannot_begin_says_why(modules, monkeypatch, capsys, words, message):
    import run

    monkeypatch.setattr(sys, "argv", ["run.py", "--only", "startup", *words])
    with pytest.raises(SystemExit, match="2"):
        run.main()
    assert message in capsys.readouterr().err
    sys.modules.pop("run")


def test_a_failure_is_told_and_stays_until_the_same_succeeds(modules, monkeypatch, tmp_path):
    import run

    claims = modules[0]
    kept = {"machines": [], "results": {}}
    outcomes = iter(["exit code 1", "", ""])
    one = claims.Run("it", "it.py", (), arguments="--all", quick="--some")

    def measured(*_):
        return {"figures": {}, **({"error": error} if (error := next(outcomes)) else {})}

    for name, value in {
        "measured": measured, "judged": lambda *_: "", "save": lambda *_: None,
        "write_page": lambda *_: None, "describe": lambda *_: {}, "read": list,
        "revision": lambda *_: {"commit": "", "code": ""},
    }.items():  # fmt: skip
        monkeypatch.setattr(run, name, value)
    for quick, failed, left in ((False, 1, True), (True, 0, True), (False, 0, False)):
        arguments = run.argparse.Namespace(
            cache=tmp_path, peers_python="", quick=quick, again=False, only=None
        )
        assert run.campaign([one], kept, arguments) == failed
        assert ("failed" in kept["results"]["it"]) == left
    sys.modules.pop("run")


def test_scripts_hand_on_what_they_print(modules, tmp_path, monkeypatch, capsys):
    _, _, measure = modules
    measure.ratio("a / b", measure.Cost(4, 2), measure.Cost(1, 1), "none")
    file = tmp_path / "figures"
    monkeypatch.setenv(measure.FIGURES, str(file))
    measure.ratio("a / b", measure.Cost(4, 2), measure.Cost(1, 1), "none")
    measure.table("side", {"a": measure.Cost(4, 2)})
    assert capsys.readouterr().out.count("a / b: wall 4.00, CPU 2.00") == 2
    found = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert found[:2] == [
        {"figure": "a / b: wall", "value": 4}, {"figure": "a / b: CPU", "value": 2},
    ]  # fmt: skip
    assert found[2]["rows"] == {"a": ["4.000", "2.000"]}


def test_links_to_the_page_lead_somewhere(modules):
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    anchors = {modules[1].anchor(line.lstrip("# ")) for line in page.split("\n") if line[:1] == "#"}
    patterns = {
        "README.md": r"benchmarks/README\.md#([^)]+)\)",
        "CHANGELOG.md": r"benchmarks/README\.md#([^)]+)\)",
        "benchmarks/README.md": r"\]\(#([^)]+)\)",
    }
    for name, pattern in patterns.items():
        found = re.findall(pattern, (ROOT / name).read_text(encoding="utf-8"))
        assert set(found) <= anchors, name
        assert found or name == "CHANGELOG.md"


def test_peers_have_one_version_each():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = dict(item.split("==") for item in project["optional-dependencies"]["bench"])
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split("\n")
    tested = dict(line.lower().split("==") for line in lines if "==" in line)
    for name, version in pinned.items():
        assert tested.get(name.replace("-", "_"), tested.get(name, version)) == version
