"""The completion scripts in completions/ are what Typer generates today.

After a change of Typer: EMBCLI_UPDATE_COMPLETIONS=1 pytest tests/test_completions.py
"""

import os
import subprocess
import sys

import pytest
from typer.completion import get_completion_script

from embcli.options import Format, complete_model
from tests.conftest import ROOT

FILES = {"bash": "embcli.bash", "zsh": "_embcli", "fish": "embcli.fish"}


@pytest.mark.parametrize("shell", FILES)
def test_scripts_are_current(shell):
    path = ROOT / "completions" / FILES[shell]
    script = get_completion_script(prog_name="embcli", complete_var="_EMBCLI_COMPLETE", shell=shell)
    if os.environ.get("EMBCLI_UPDATE_COMPLETIONS"):
        path.write_text(script + "\n")
    assert path.read_text() == script + "\n"


def test_install_completion(home):
    environment = {**os.environ, "HOME": str(home), "SHELL": "/bin/bash"}
    # Typer looks for the shell among the ancestors of the process.
    script = f'"{sys.executable}" -m embcli --install-completion; exit $?'
    words = ["bash", "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "embcli" in (home / ".bashrc").read_text()


def test_values_are_completed(run, examples, monkeypatch):
    run("encode", "examples/corpus.jsonl", "-c", "history")

    def offered(words):
        monkeypatch.setenv("_EMBCLI_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        return set(run().out.split())

    assert {"encode", "search", "show"} <= offered("embcli ")
    assert {"--like", "--where"} <= offered("embcli search --")
    assert offered("embcli search x -c ") == {"history"}
    assert offered("embcli search x -d none.db -c ") == set()
    assert offered("embcli search x -m ") == set(complete_model())
    assert offered("embcli search x -f ") == set(Format)
