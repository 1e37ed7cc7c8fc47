"""Files that were damaged: the answer is the same, or it is refused; nothing hangs or crashes."""

import random
import sqlite3
from collections import Counter

import pytest

from tests.faults.kit import tally, texts, write_lines

COMMANDS = {
    "search, exact": ("search", "history", "-c", "white", "-f", "json"),
    "search, coded": ("search", "history of a war", "-f", "json"),
    "search --like": ("search", "--like", "r5", "-f", "json"),
    "search, chunks": ("search", "history", "-c", "chunked", "-f", "json"),
    "search --lexical": ("search", "history war", "--lexical", "-f", "json"),
    "search --hybrid": ("search", "history war", "--hybrid", "-f", "json"),
    "search --where": ("search", "history", "--where", "kind = 'a' and n > 2", "-f", "json"),
    "search --via": ("search", "history", "-c", "white", "--via", "white", "-f", "json"),
    "show": ("show", *(f"r{n}" for n in range(0, 200, 5)), "--vectors", "-f", "json"),
    "export": ("export", "out.jsonl", "--force"),
    "clusters show": ("clusters", "show", "groups", "-f", "json"),
    "layouts show": ("layouts", "show", "pca", "-f", "json"),
    "neighbors": ("neighbors", "-k", "5", "-f", "json"),
    "collections list": ("collections", "list", "-f", "json"),
    "check": ("check", "-f", "json"),
}
SAME, REFUSED, OTHER = "same", "refused", "OTHER ANSWER"
# What has no checksum when it is asked: SQLite's own indexes, and whether a row of what was found
# is missing. `embcli check` compares them with what they are about.
BY_INDEXES = {"search --lexical", "search --hybrid", "search --where", "collections list"}
BY_ROWS = {"clusters show", "layouts show"}
FINDINGS = {"points", "assignments", "clusters", "clusterings", "layouts"}


@pytest.fixture(scope="session")
def sound(launcher, tmp_path_factory):
    """A store with something of everything, and what the commands say of it."""
    folder = tmp_path_factory.mktemp("sound")
    write_lines(folder / "c.jsonl", texts(2000, words=12))
    write_lines(folder / "d.jsonl", texts(300))
    for words in (
        ("encode", "c.jsonl", "-m", "hash"),
        ("encode", "d.jsonl", "-m", "hash", "-c", "chunked", "--chunk", "characters=50"),
        ("index", "n"),
        ("cluster", "-k", "4", "--name", "groups"),
        ("plot", "-M", "pca", "--name", "pca", "-q"),
        ("neighbors", "-k", "5", "-q"),
        ("whiten", "fit", "-n", "white", "-M", "zca", "--shrinkage", "0.5"),
        ("whiten", "apply", "white", "--to", "white"),
        ("compress", "--kind", "int8"),
        ("compress", "--kind", "none", "-c", "white"),
    ):
        done = launcher.run(*words, cwd=folder)
        assert done.code == 0, (words, done)
    return folder, (folder / "embcli.db").read_bytes(), ask(launcher, folder)


def ask(launcher, folder):
    """Run all commands in one process; return code, stdout and stderr of each, or its signal."""
    return launcher.answers(COMMANDS, cwd=folder)


def judge(answer, expected):
    """Compare what a command said with what it says of the sound store."""
    code, out, err = answer
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    if code in (3, 5) and len(errors) == 1 and "Traceback" not in err:
        return REFUSED
    if (code, out) == tuple(expected[:2]):
        return SAME
    return f"exit code {code}" if code not in (0, 1) else OTHER


def pages_of(path):
    """Which table or index each page belongs to."""
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT pageno, name FROM dbstat").fetchall()
    except sqlite3.OperationalError:
        return {}
    finally:
        connection.close()
    return dict(rows)


def flipped(data, rng):
    """One bit."""
    place = rng.randrange(len(data) * 8)
    damaged = bytearray(data)
    damaged[place // 8] ^= 1 << place % 8
    return bytes(damaged), place // 8


def zeroed(data, rng, size=16384):
    """One page."""
    place = rng.randrange(len(data) // size) * size
    return data[:place] + bytes(size) + data[place + size :], place


def cut(data, rng):
    """The end is missing."""
    place = rng.randrange(1, len(data))
    return data[:place], place


def shuffled(data, rng, size=16384):
    """A page in the place of another, as when a disk writes to the wrong address."""
    one, other = (rng.randrange(len(data) // size) * size for _ in range(2))
    return data[:one] + data[other : other + size] + data[one + size :], one


HARMS = {"bit flipped": flipped, "page zeroed": zeroed, "page misplaced": shuffled, "cut": cut}


def campaign(launcher, sound, harm, times, folder, only=None):
    """Damage the store so often, or only these tables, and count outcomes by command.

    Returns
    -------
    wrong : list
        What must never be: another answer that has a checksum, and damage that changes an answer
        and that `embcli check` does not find. What has none is only counted.
    """
    origin, data, expected = sound
    assert not [answer for answer in expected.values() if answer[0]]
    pages = pages_of(origin / "embcli.db")
    rng = random.Random(harm)
    outcomes, wrong = Counter(), []
    for number in range(times):
        what = None
        while what is None or (only is not None and what not in only):
            damaged, place = HARMS[harm](data, rng)
            what = pages.get(place // 16384 + 1, "free")
        for path in folder.iterdir():
            path.unlink()
        (folder / "embcli.db").write_bytes(damaged)
        answers = ask(launcher, folder)
        verdicts = {name: judge(answers[name], expected[name]) for name in COMMANDS}
        outcomes.update(verdicts.items())
        odd = {name: v for name, v in verdicts.items() if v not in (SAME, REFUSED)}
        if odd:
            print(harm, number, place, what, odd, {name: answers[name][2][-200:] for name in odd})
        found = verdicts["check"] == REFUSED
        allowed = BY_INDEXES | BY_ROWS if found else set()
        if any(name not in allowed or verdict != OTHER for name, verdict in odd.items()):
            wrong.append((number, place, what, odd))
        elif not found and {*verdicts.values()} != {SAME}:
            refused = [name for name, verdict in verdicts.items() if verdict == REFUSED]
            wrong.append((number, place, what, "check found nothing", refused, answers[refused[0]]))
    for name in COMMANDS:
        others = sum(c for (n, v), c in outcomes.items() if n == name and v not in (SAME, REFUSED))
        refused = outcomes[name, REFUSED]
        tally(f"{harm}: {name} ({refused} refused)", times, others)
    return wrong


def test_damage_is_never_answered_in_silence(launcher, sound, tmp_path):
    wrong = [campaign(launcher, sound, harm, 2, tmp_path) for harm in HARMS]
    assert not any(wrong), wrong


@pytest.mark.long
@pytest.mark.parametrize(
    ("harm", "times"),
    [("bit flipped", 1500), ("page zeroed", 150), ("page misplaced", 150), ("cut", 100)],
)
def test_damage_in_a_long_campaign(launcher, sound, tmp_path, harm, times):
    wrong = campaign(launcher, sound, harm, times, tmp_path)
    assert not wrong, wrong


@pytest.mark.long
def test_bits_of_what_was_found(launcher, sound, tmp_path):
    if not pages_of(sound[0] / "embcli.db"):
        pytest.skip("this SQLite does not tell which page is whose (dbstat)")
    wrong = campaign(launcher, sound, "bit flipped", 300, tmp_path, FINDINGS)
    assert not wrong, wrong


def test_metadata_and_texts_that_are_none_any_more(launcher, whole, home):
    """SQL that looks into JSON cannot, nor can what reads texts: that is damage, not a bug."""
    assert launcher.run("index", "n", "-d", "whole.db", cwd=home).code == 0
    data = (home / "whole.db").read_bytes()
    for byte, words in (
        (b"[", ("search", "x", "--where", "kind = 'a'")),
        (b"\xff", ("export", "e.jsonl")),
    ):
        place = data.index(b'{"n"')
        (home / "whole.db").write_bytes(data[:place] + byte + data[place + 1 :])
        for asked in (("check",), words):
            done = launcher.run(*asked, "-d", "whole.db", cwd=home)
            assert judge((done.code, done.out, done.err), (0, "", "")) == REFUSED, done
