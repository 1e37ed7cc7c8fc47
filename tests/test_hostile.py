"""Input that means harm: what is promised in SECURITY.md, clause by clause."""

import ast
import json
import os
import threading
import time
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from xml.etree import ElementTree

import pytest

from embcli import Record, Store
from embcli.encoders import EncoderOptions
from embcli.errors import EmbcliError
from embcli.options import Format
from embcli.output import Column, Output, Table, ending, printable
from embcli.pipelines.label_command import Request, ask
from tests.conftest import ROOT

# Colour, the window's title, a bell, a C1 introducer, directions, a line's end, markup.
EVIL = "a\x1b[31m\x1b]0;t\x07\x9b2J\x7f\u202egnp.exe\u061c\u2066\u2028[/b][link=x]"
OBEYED = set("\x1b\x07\x9b\x7f\u202e\u061c\u2066\u2028")
SOURCES = sorted((ROOT / "embcli").rglob("*.py"))


def test_nothing_in_a_table_is_obeyed(capsys):
    """Neither in values, whatever a column makes of them, nor in what is above them."""
    columns = (Column("a", EVIL), Column("b", "b", show=str), Column("c", "c", show=ending))
    row = {"a": EVIL, "b": EVIL, "c": f"/one/two/three/{EVIL}"}
    Output(Format.table).tables([Table([row], columns, EVIL)])
    out = capsys.readouterr().out
    assert not OBEYED & set(out)
    assert "[/b]" in "".join(out.split())


def test_json_means_the_same_and_nothing_in_it_is_obeyed(capsys):
    for format in (Format.json, Format.ndjson):
        Output(format).rows([{"id": EVIL, EVIL: "é😀"}], ())
        out = capsys.readouterr().out
        assert not OBEYED & set(out)
        assert "é😀" in out
        (row,) = json.loads(out) if format is Format.json else [json.loads(out)]
        assert row == {"id": EVIL, EVIL: "é😀"}


def test_what_a_spreadsheet_would_compute_is_exported_as_it_is(run, home):
    """As csv, pandas and sqlite-utils do: a quote before it would be other data."""
    texts = ["=1+1", "+1", "-1+2", "@SUM(1)", "\tx", "\rx", '=HYPERLINK("http://x","y")']
    lines = [json.dumps({"id": str(n), "text": text}) for n, text in enumerate(texts)]
    (home / "a.jsonl").write_text("\n".join(lines))
    run("encode", "a.jsonl")
    run("export", "v.csv")
    assert run("import", "v.csv", "-c", "again").code == 0
    found = run("show", "-c", "again", *map(str, range(len(texts)))).rows
    assert [row["text"] for row in found] == texts


def test_pipes_and_devices_as_input(run, home):
    os.mkfifo(home / "folder.jsonl")
    (home / "folder").mkdir()
    os.mkfifo(home / "folder" / "never.jsonl")  # would wait for ever
    (home / "folder" / "a.txt").write_text("a text")
    (home / "folder" / "zero.txt").symlink_to("/dev/zero")
    assert run("encode", "folder").code == 0
    assert [row["id"] for row in run("search", "text").rows] == ["folder/a.txt:1"]
    writer = threading.Thread(target=(home / "folder.jsonl").write_text, args=['"through a pipe"'])
    writer.start()
    assert run("encode", "folder.jsonl", "-c", "pipe").code == 0
    writer.join()
    refused = run("encode", "/dev/zero", "-c", "zero")
    assert refused.code == 3
    assert "NUL bytes" in refused.err


# Batches and columns that wait in unnamed files, which nobody else can write; a job for the process
# that leads Ray, through its standard input.
OWN = {
    "writing.py": {"pickle"},
    "import_.py": {"marshal"},
    "numpy_files.py": {"marshal"},
    "ray_driver.py": {"pickle"},
    "ray_engine.py": {"pickle"},
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_unpickled_or_run(path):
    """Of what comes from outside."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            allowed = OWN.get(path.name, set())
            assert not names & {"pickle", "dill", "cloudpickle", "joblib", "marshal"} - allowed
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        assert called not in ("eval", "exec", "compile", "torch.load", "os.system", "yaml.load")
        if called in ("np.load", "numpy.load") or called.endswith("format.read_array"):
            assert ast.unparse(keywords["allow_pickle"]) == "False"
        if "shell" in keywords:
            assert path.name == "label_command.py"
        trusted = keywords.get("trust_remote_code")
        assert not (isinstance(trusted, ast.Constant) and trusted.value)


def test_code_of_models_is_never_trusted_by_default():
    from embcli.cli import _command

    (field,) = [f for f in fields(EncoderOptions) if f.name == "trust_remote_code"]
    assert field.default is False

    def commands(group):
        for command in group.commands.values():
            yield from commands(command) if hasattr(command, "commands") else [command]

    flags = [
        option
        for command in commands(_command())
        for option in command.params
        if option.name == "trust_remote_code"
    ]
    assert len(flags) > 3
    assert not any(option.default for option in flags)


def test_a_program_that_names_clusters_gets_texts_on_its_standard_input_only(home):
    evil = "$(touch pwned) `touch pwned` ; touch pwned # ' \" \n| touch pwned"
    said = []
    labels = ask(
        'tr "\\0" "\\n" < /proc/$$/environ | grep -c pwned; tr "\\0" " " < /proc/$$/cmdline >&2',
        [Request(0, 1, [evil], [evil])], note=said.append,
    )  # fmt: skip
    assert labels == ["0"] or said  # grep finds nothing and ends with 1
    assert not (home / "pwned").exists()
    assert "touch" not in "".join(said)


STATEMENTS = (
    "ATTACH DATABASE ':memory:' AS m", "SELECT writefile('x', 'y')", "SELECT readfile('/x')",
    "SELECT edit('x')", "PRAGMA temp_store_directory = '/'", "PRAGMA trusted_schema = 1",
    "CREATE TEMP TRIGGER t AFTER INSERT ON records BEGIN SELECT 1; END", "PRAGMA key = 'x'",
    "INSERT INTO records_fts (records_fts) VALUES ('rebuild')", "SELECT fts3_tokenizer('x')",
    "REPLACE INTO records (id) VALUES ('x')", "PRAGMA mmap_size = 0", "RELEASE s", "ROLLBACK",
    "CREATE VIRTUAL TABLE temp.v USING fts5vocab(main, records_fts, row)",
    "EXPLAIN DELETE FROM runs",
    "SELECT * FROM fsdir('/')", "SELECT zeroblob(1) FROM records; DROP TABLE records",
)  # fmt: skip


@pytest.mark.parametrize("statement", STATEMENTS)
def test_sql_that_does_more_than_read(run, corpus, home, statement):
    with Store("embcli.db") as store:
        from embcli import Recipe

        recipe = Recipe({"model": "m", "dim": 1, "normalized": False, "maps": []})
        store.create_collection("default", recipe).add([Record("a", "a")], [[1.0]])
    before = sorted(path.name for path in home.iterdir()), (home / "embcli.db").read_bytes()
    result = run("sql", statement)
    assert (result.code, result.out) == (2, ""), result.out
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert before == (
        sorted(path.name for path in home.iterdir()), (home / "embcli.db").read_bytes()
    )  # fmt: skip


def test_drawings_hold_texts_and_no_scripts(home):
    pytest.importorskip("matplotlib")
    from embcli.viz.map import map_figure

    evil = "</text><script>alert(1)</script><a xlink:href='javascript:x'>&amp;"
    points = [[0, 0], [1, 0], [0, 1], [1, 1]]
    map_figure(points, Path("f.svg"), groups=[evil, "b", evil, "b"], legend=evil, title=evil)
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse("f.svg").iter()}
    assert not tags & {"script", "a", "foreignObject", "image", "iframe"}


def test_errors_show_hostile_names_of_files(run, home):
    name = f"{printable(EVIL)[:3]}\x1b[31m\u202e.jsonl"
    (home / name).write_text("[]")
    result = run("encode", name)
    assert result.code == 3
    assert not OBEYED & set(result.err)


@pytest.mark.parametrize(
    "text",
    [
        "9" * 100_000, "9" * 100_000 + "x", "a" + "-" * 100_000, "a" + " " * 100_000 + "b",
        '"' * 99_999, "`" * 99_999, ":" * 100_000, "a:" + "1" * 100_000 + "x", "a. " * 30_000,
        "@" + " " * 100_000 + "x", "x','" * 30_000, "1." * 50_000, "\\" * 99_999, "a=1 and " * 9000,
    ],
    ids=range(14),
)  # fmt: skip
def test_no_text_takes_the_square_of_its_length(text):
    """Regular expressions that try every way of dividing a text would take minutes."""
    from embcli.formats.vectors.delimited import _numbered_runs, _parsed_list
    from embcli.pipelines.analogy import parse_terms
    from embcli.pipelines.chunking import Chunking
    from embcli.pipelines.composition import _WEIGHTED, _WEIGHTED_NAME
    from embcli.store.maps import _check_name
    from embcli.store.where import compile_where

    start = time.process_time()
    for read in (
        compile_where, Chunking.parse, _check_name, _WEIGHTED.fullmatch, _WEIGHTED_NAME.fullmatch,
        lambda text: parse_terms([text]), lambda text: _numbered_runs([text, f"e{text}"]),
        lambda text: _parsed_list(f"[{text}"), printable,
    ):  # fmt: skip
        with suppress(EmbcliError):
            read(text)
    assert time.process_time() - start < 2
