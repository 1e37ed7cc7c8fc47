"""The frame: discovery, help, errors, exit codes, formats. Every command meets these."""

import csv
import io
import json
import shlex
import subprocess
import sys

import numpy as np
import pytest
from typer.main import get_command

from embcli import __version__, cli
from embcli.cli import build_app
from embcli.errors import EmbcliError, exit_codes
from tests.conftest import ROOT


def leaves(command=None, path=()):
    """Every command that can be run, with the words that name it."""
    command = command or get_command(build_app())
    if not getattr(command, "commands", None):
        yield path, command
        return
    for name, sub in command.commands.items():
        yield from leaves(sub, (*path, name))


COMMANDS = dict(leaves())
EXAMPLES = {
    path: command.epilog.partition("[bold]")[2].partition("[/bold]")[0].replace("\\[", "[")
    for path, command in COMMANDS.items()
}
READERS = [
    ("search", "a storm at sea"),
    ("search", "--like", "tambora-1815"),
    ("show", "tambora-1815", "apollo-11-moon-1969-en"),
    ("info",),
    ("models",),
    ("collections", "list"),
    ("collections", "info"),
    ("encode", "examples/corpus.jsonl", "--dry-run"),
]


@pytest.fixture
def stored(run, examples):
    assert run("encode", "examples/corpus.jsonl").code == 0
    assert run("encode", "examples/corpus.jsonl", "-c", "hashed", "-m", "hash").code == 0


def test_every_module_in_commands_is_a_command():
    found = {
        path.stem.removesuffix("_") for path in (ROOT / "embcli" / "commands").glob("[!_]*.py")
    }
    assert {path[0] for path in COMMANDS} == found


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_is_documented(run, path):
    command = COMMANDS[path]
    assert command.help
    for parameter in command.params:
        assert parameter.help, f"{path}: {parameter.name} has no help"
    result = run(*path, "--help")
    assert result.code == 0
    assert "Example:" in result.out.rstrip().splitlines()[-1] + result.out.splitlines()[-2]
    assert f"`embcli {' '.join(path)}" in (ROOT / "README.md").read_text()


@pytest.fixture
def aligned(run, stored):
    """Two models' vectors of the same texts, a map between them, and one that goes on."""
    from embcli import Recipe, Store
    from embcli.core.maps import Linear, Map, Transform

    assert run("encode", "examples/corpus.jsonl", "-m", "hash", "-c", "hashed").code == 0
    assert run(
        "align", "fit", "-s", "hashed", "-t", "default", "-n", "upgrade", "-M", "procrustes"
    ).code == 0  # fmt: skip
    assert run("maps", "export", "upgrade", "-o", "upgrade.safetensors").code == 0
    with Store("embcli.db") as store:
        target = store.collection("default").recipe
        store.maps.add(
            "onward", Map(Transform.of(Linear(np.eye(256)[::-1].copy()))), method="made up",
            source=target, target=Recipe({**target.settings, "weights": "others"}), fit={},
        )  # fmt: skip


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_example_runs(run, stored, path, request):
    if path[0] in ("align", "maps"):
        request.getfixturevalue("aligned")
    if path == ("align", "fit"):
        run("maps", "rm", "upgrade", "--yes")
    if path in (("debias", "apply"), ("debias", "report")):
        assert run("debias", "fit", "--name", "fair", "--spec", "gender").code == 0
    if path == ("debias", "report"):
        assert run("debias", "apply", "fair", "--to", "unbiased").code == 0
    if path[0] == "clusters":
        assert run("cluster", "-k", "4", "--name", "topics").code == 0
    if path[0] == "layouts":
        assert run("plot").code == 0
    if path == ("whiten", "apply"):
        assert run("whiten", "fit", "--name", "white").code == 0
    words = shlex.split(EXAMPLES[path])
    unquoted = [*shlex.shlex(EXAMPLES[path], punctuation_chars="?")]
    assert "?" not in unquoted, "zsh takes ? for a pattern that has to match a file"
    if path[0] in ("push", "pull"):
        request.getfixturevalue("disk")  # which stands in for the server of the example
        assert run("push", next(word for word in words if "://" in word)).code == 0
    assert words[: len(path) + 1] == ["embcli", *path]
    result = run(*words[1:])
    assert (result.code, "error" in result.err) == (0, False), result.err


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_every_result_in_every_format(run, stored, words):
    rows = run(*words, "-f", "ndjson").rows
    assert rows
    assert all(row.keys() == rows[0].keys() for row in rows)
    as_json = json.loads(run(*words, "-f", "json").out)
    as_csv = list(csv.DictReader(io.StringIO(run(*words, "-f", "csv").out)))
    as_tsv = run(*words, "-f", "tsv").out.splitlines()
    as_ids = run(*words, "-f", "ids").out.splitlines()
    table = run(*words, "-f", "table").out
    strings = {key for key in rows[0] if all(isinstance(row[key], str) for row in rows)}
    for row, object, record, line, id in zip(
        rows, as_json, as_csv, as_tsv[1:], as_ids, strict=True
    ):
        assert object == row or words[0] == "info"
        assert list(record) == list(row)
        assert all(record[key] == row[key] for key in strings)
        assert line.count("\t") == len(row) - 1
        assert id == str(row.get("id", row.get("name")))
    assert as_tsv[0].split("\t") == list(rows[0])
    assert len(table.splitlines()) > 3


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_a_terminal_gets_a_table_and_a_pipe_gets_ndjson(run, stored, words, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    piped = run(*words)
    assert piped.rows
    assert "\x1b" not in piped.out + piped.err
    shown = run(*words, tty=True)
    assert "─" in shown.out
    assert "\x1b[" in shown.out
    monkeypatch.setenv("NO_COLOR", "1")
    assert not set(_colours(run(*words, tty=True).out))


def _colours(text):
    """Escape codes that set a colour; bold is not one."""
    import re

    for codes in re.findall(r"\x1b\[([\d;]*)m", text):
        yield from (c for c in codes.split(";") if c and 30 <= int(c) < 108)


@pytest.mark.parametrize("words", READERS, ids=" ".join)
def test_quiet_leaves_results_alone(run, stored, words):
    loud, quiet = run(*words), run(*words, "-q")
    assert quiet.err == ""
    assert words[0] == "info" or quiet.out == loud.out


@pytest.mark.parametrize(
    ("name", "format"), [("o.json", "json"), ("o.csv", "csv"), ("o", "ndjson")]
)
def test_results_into_a_file(run, stored, home, name, format):
    result = run("search", "a storm at sea", "-o", name)
    assert result.out == ""
    assert (home / name).read_text() == run("search", "a storm at sea", "-f", format).out
    run("search", "a storm at sea", "-f", "table", "-o", name)
    assert "─" in (home / name).read_text()


def test_a_file_that_cannot_be_written(run, stored):
    result = run("models", "-o", "no/such/folder/x.json")
    assert (result.code, result.err) == (
        2,
        "error: cannot write no/such/folder/x.json (No such file or directory)\n",
    )


def test_version(run):
    assert run("--version").out == f"embcli {__version__}\n"


def test_nothing_asked_for_shows_help(run):
    result = run()
    assert (result.code, result.err) == (2, "")
    assert "Usage: embcli" in result.out


def test_help_is_grouped(run):
    out = run("-h").out
    for panel in ("Work", "Look", "Keep"):
        assert f"─ {panel} ─" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serach", "x"], "error: No such command 'serach'. Did you mean 'search'?; try: embcli"),
        (["search", "x", "--tpo", "3"], "error: No such option: --tpo"),
        (
            ["search", "x", "-k", "0"],
            "error: Invalid value for '--top' / '-k': Input should be greater than",
        ),
        (["search", "x", "-k", "many"], "error: Invalid value for '--top' / '-k'"),
        (["encode"], "error: Missing argument"),
        (["search"], "error: give one of QUERY, --like ID, --like-file FILE and --queries FILE"),
        (["search", "x", "--like", "y"], "error: give one of"),
        (["search", "x", "-f", "xml"], "error: Invalid value for '--format'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(run, words, message):
    result = run(*words)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith(message)
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["search", "x"], 5, "error: there is no store at embcli.db; try: embcli encode FILE"),
        (["encode", "no.jsonl"], 3, "error: no.jsonl: no such file or directory"),
        (["models", "info"], 2, "error: "),
        (["vacuum"], 5, "error: there is no store at embcli.db"),
        (["collections", "rm", "x", "--yes"], 5, "error: there is no store"),
        (["info", "-d", "."], 5, "error: . is a directory, not a store"),
    ],
)
def test_failures_are_one_line(run, words, code, message):
    result = run(*words)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith(message)
    assert result.err.count("\n") == 1


def test_exit_codes_are_distinct_and_documented():
    classes = EmbcliError.__subclasses__()
    assert len({cls.exit_code for cls in classes}) == len(classes)
    readme = (ROOT / "README.md").read_text()
    for code, meaning in exit_codes().items():
        assert f"| {code} | {meaning} |" in readme


def test_a_bug_is_admitted_without_a_traceback(run, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(cli, "_command", broken)
    result = run("models")
    assert result.code == 70
    assert "bug in embcli: ZeroDivisionError: oops" in result.err
    assert "Traceback" not in result.err
    monkeypatch.setenv("EMBCLI_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run("models")


def test_debug_shows_where_an_error_came_from(run, monkeypatch):
    monkeypatch.setenv("EMBCLI_DEBUG", "1")
    with pytest.raises(EmbcliError):
        run("search", "x")


def test_the_store_can_come_from_the_environment(run, examples, home, monkeypatch):
    monkeypatch.setenv("EMBCLI_DB", str(home / "elsewhere.db"))
    assert run("encode", "examples/corpus.jsonl").code == 0
    assert run("search", "x", "-d", home / "elsewhere.db").code == 0
    assert not (home / "embcli.db").exists()


def test_the_readmes_python_runs(examples):
    block = (ROOT / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3


def test_the_readmes_first_command_is_what_the_tests_know():
    first, second = (ROOT / "README.md").read_text().split("```sh\n")[1:3]
    assert "embcli encode examples/corpus.jsonl &&" in first
    assert 'embcli search "vaccine against smallpox" -k 3' in first
    assert ".venv/bin/pytest" in second.partition("```")[0]
