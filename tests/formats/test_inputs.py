import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embcli.errors import InputError
from embcli.formats.inputs import _matches, expand


def touch(home, *names):
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("x")


def names(*arguments, **options):
    return [source.name for source in expand(map(str, arguments), **options).sources]


def test_directories_are_walked_in_order(home):
    touch(home, "d/b.txt", "d/a/z.jsonl.gz", "d/.git/x.txt", "d/.hidden.txt", "d/a.jot")
    os.mkfifo(home / "d" / "pipe.txt")
    found = expand(["d"])
    assert [source.name for source in found.sources] == ["d/b.txt", "d/a/z.jsonl.gz"]
    assert found.ignored == 1
    assert names("d/**/*.[jt]*") == ["d/a.jot", "d/a/z.jsonl.gz", "d/b.txt"]


def test_one_name_per_file_however_spelled(home):
    touch(home, "a.txt", "sub/b.txt")
    assert names("a.txt", "./a.txt", "sub/../a.txt", home / "a.txt", ".") == ["a.txt", "sub/b.txt"]


def test_one_name_per_file_wherever_the_command_is_run(home, monkeypatch):
    touch(home, "a/notes.txt", "b/notes.txt")
    for folder in "ab":
        monkeypatch.chdir(home / folder)
        assert names("notes.txt", base=home) == [f"{folder}/notes.txt"]


def test_a_file_outside_the_base_has_its_full_name(home):
    touch(home, "a.txt")
    (home / "sub").mkdir()
    assert names("a.txt", base="sub") == [(home / "a.txt").as_posix()]


def test_a_name_with_glob_characters_that_exists_is_that_file(home):
    touch(home, "a[1].txt")
    assert names("a[1].txt") == ["a[1].txt"]


def test_a_name_that_is_not_utf_8(home):
    with open(os.fsencode(home) + b"/caf\xe9.txt", "w") as file:
        file.write("x")
    assert names(".") == ["caf\\xe9.txt"]


@pytest.mark.parametrize("argument", ["none.txt", "*.nothing", "none/*.txt", "\0"])
def test_missing_inputs_are_named(argument):
    with pytest.raises(InputError, match="no such file"):
        expand([argument])


def test_a_directory_without_anything_to_read(home):
    (home / "d").mkdir()
    with pytest.raises(InputError, match=r"d: no file in this directory .* \.jsonl"):
        expand(["d"])
    assert names("d", "*.txt", may_be_empty=True) == []
    with pytest.raises(InputError, match="no such file"):
        expand(["none.txt"], may_be_empty=True)


def vanished(arguments, stored, **options):
    return expand(arguments, may_be_empty=True, **options).vanished_from(stored)


def test_what_may_have_vanished(home):
    touch(home, "d/a.txt", "d/notes.log", "other.txt")
    stored = ["d/a.txt", "d/gone.txt", "d/notes.log", "other.txt", "gone.txt", "dd/x.txt", "stdin"]
    assert vanished(["d"], stored) == ["d/a.txt", "d/gone.txt"]
    assert vanished(["d/a.txt"], stored) == ["d/a.txt"]
    assert vanished(["*.txt"], stored) == ["other.txt", "gone.txt"]
    assert vanished(["d/*.txt"], stored) == ["d/a.txt", "d/gone.txt"]
    assert vanished(["-"], stored) == ["stdin"]
    every = ["d/a.txt", "d/gone.txt", "other.txt", "gone.txt", "dd/x.txt"]
    assert vanished(["."], [*stored, "/far/away.txt"]) == every
    assert vanished(["**/*.txt"], stored) == every


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("a.txt", "*.txt", True),
        ("d/a.txt", "*.txt", False),
        ("d/a.txt", "*/*.txt", True),
        ("a.txt", "**/*.txt", True),
        ("d/e/a.txt", "**/*.txt", True),
        ("d/e/a.txt", "d/**/a.???", True),
        ("d/e", "d/**", True),
        ("x/e", "d/**", False),
    ],
)
def test_patterns(name, pattern, expected):
    assert _matches(name.split("/"), pattern.split("/")) is expected


@given(st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=4))
def test_a_name_matches_itself(parts):
    assert _matches(parts, parts)
