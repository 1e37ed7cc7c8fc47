"""What is not needed is not imported: start-up is a feature."""

import subprocess
import sys

import numpy as np
import pytest

from embcli import Store
from embcli.core.maps import Linear, Map, Shift, Transform
from tests.models import tiny_bert

HEAVY = {
    "torch", "transformers", "sentence_transformers", "sklearn", "scipy", "umap", "matplotlib",
    "pandas", "wordllama", "sqlite_utils", "zstandard", "pyarrow", "h5py",
}  # fmt: skip


def imported(*arguments, stdin=""):
    """Top-level modules that a cold process of this command has imported when it is done.

    It is stopped by any warning: what users see is as clean as what tests see.
    """
    code = (
        "import sys; from embcli.cli import main; code = main(sys.argv[1:]); "
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("words", [["--help"], ["search", "--help"], ["--version"]])
def test_help_needs_next_to_nothing(words):
    assert not imported(*words) & (HEAVY | {"numpy", "tokenizers", "sqlite3"})


def test_models_are_listed_without_loading_them():
    assert not imported("models") & (HEAVY | {"numpy", "tokenizers", "sqlite3"})


def test_search_imports_no_heavy_library(run, corpus):
    run("encode", "corpus.jsonl")
    modules = imported("search", "a cat", "--where", "year > 2000")
    assert not modules & HEAVY
    assert "rich" not in modules
    assert "numpy" in modules


def test_search_through_a_map_imports_no_heavy_library(run, corpus):
    for collection, model in (("old", "static"), ("new", "hash")):
        run("encode", "corpus.jsonl", "-c", collection, "-m", model)
    with Store("embcli.db") as store:
        new, old = (store.collection(name).recipe for name in ("new", "old"))
        map = Map(Transform.of(Linear(np.eye(1024, 256))), Transform.of(Shift(np.ones(256))))
        store.maps.add("m", map, method="test", source=new, target=old, fit={})
    assert not imported("search", "a cat", "-c", "old", "-m", "hash") & HEAVY
    assert not imported("search", "a cat", "-c", "new", "-m", "static") & HEAVY
    assert not imported("align", "--help") & (HEAVY | {"numpy", "tokenizers", "sqlite3"})


def test_search_by_example_needs_no_tokenizer(run, corpus):
    run("encode", "corpus.jsonl")
    assert "tokenizers" not in imported("search", "--like", "cat")


def test_encode_imports_no_heavy_library(corpus):
    assert not imported("encode", "corpus.jsonl") & (HEAVY - {"sqlite_utils", "zstandard"})


def test_a_query_of_a_transformer_needs_neither_torch_nor_the_model_twice(run, corpus, home):
    tiny_bert(home / "model")
    assert run("encode", "corpus.jsonl", "-m", "model").code == 0
    modules = imported("search", "a cat")
    assert not modules & HEAVY
    assert "tokenizers" in modules
    assert not imported("search", "a cat") & (HEAVY | {"tokenizers", "safetensors"})


def test_export_needs_what_its_format_needs(run, corpus):
    run("encode", "corpus.jsonl")
    assert not imported("export", "x.faiss") & HEAVY
    assert not imported("export", "-") & (HEAVY | {"tokenizers"})


def test_importing_the_package_costs_nothing():
    code = "import sys; import embcli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not set(done.stdout.split()) & (HEAVY | {"numpy", "typer"})


def test_the_list_of_commands_is_that_of_all_of_them(run):
    """It is made without their options, and each command without the others."""
    from typer.main import get_command

    from embcli.cli import build_app

    whole, listed = get_command(build_app()), get_command(build_app(listed=True))
    assert [*whole.commands] == [*listed.commands]
    for name, command in whole.commands.items():
        shown = listed.commands[name]
        assert (shown.get_short_help_str(999), shown.rich_help_panel) == (
            command.get_short_help_str(999),
            command.rich_help_panel,
        )
        assert [*get_command(build_app(name)).commands] == [name]
