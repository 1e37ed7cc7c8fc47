"""Any program names clusters; what goes wrong is told, and nothing is left running."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from embcli.errors import UsageError
from embcli.pipelines.label_command import Request, ask

CLUSTERS = [
    Request(0, 12, ["card", "arrived"], ["Where is my card?", "It has\nnot come"]),
    Request(1, 3, ["pin"], ["Change my PIN"]),
    Request(2, 1, [], []),
]


def asked(command, clusters=CLUSTERS, **options):
    notes = []
    return ask(command, clusters, note=notes.append, **options), notes


def test_quotes_and_pipes_work_and_the_program_reads_keywords_and_examples():
    labels, notes = asked("""head -n 1 | sed 's/Keywords: /about "/' | tr 'a-z' 'A-Z'""")
    assert labels == ['ABOUT "CARD, ARRIVED', 'ABOUT "PIN', 'ABOUT "']
    assert not notes


def test_what_is_handed_over():
    assert CLUSTERS[0].text() == (
        "Keywords: card, arrived\n\nExamples:\n- Where is my card?\n- It has not come\n"
    )
    labels, _ = asked('tail -n 1; echo "cluster $EMBCLI_CLUSTER of $EMBCLI_SIZE" >&2')
    assert labels == ["- It has not come", "- Change my PIN", "Examples:"]
    assert asked('echo "$EMBCLI_CLUSTER/$EMBCLI_SIZE"')[0] == ["0/12", "1/3", "2/1"]


def test_the_first_line_that_is_not_blank_made_safe_and_short():
    labels, _ = asked(r"printf '\n  \n  Lost\t \033[31mcards \nmore\n'", CLUSTERS[:1])
    assert labels == [r"Lost \x1b[31mcards"]
    assert asked("yes x | head -n 500 | tr -d '\\n'", CLUSTERS[:1])[0] == ["x" * 79 + "…"]
    assert asked(r"printf '\377abc'", CLUSTERS[:1])[0] == ["�abc"]


def test_a_program_that_fails_once_is_named_with_its_last_words():
    command = '[ "$EMBCLI_CLUSTER" = 1 ] && { echo one >&2; echo "no key" >&2; exit 3; }; echo ok'
    labels, notes = asked(command)
    assert labels == ["ok", None, "ok"]
    assert notes == ["no label for cluster 1: the command ended with exit code 3: no key"]


def test_a_program_that_writes_nothing_and_does_not_read():
    labels, notes = asked("true", [Request(7, 1, ["a"], ["x" * 499] * 1000)])
    assert labels == [None]
    assert notes == ["no label for cluster 7: the command wrote nothing"]


def test_a_program_that_is_not_there_is_tried_once():
    labels, notes = asked("no-such-program-anywhere -x")
    assert labels == [None] * 3
    assert len(notes) == 1
    assert "no-such-program-anywhere" in notes[0]
    assert "no cluster is named by it" in notes[0]


def test_a_program_that_takes_too_long_is_killed_with_what_it_started(tmp_path):
    pids = tmp_path / "pids"
    started = time.monotonic()
    labels, notes = asked(f"(sleep 60 & echo $! >> {pids}; wait) | cat", CLUSTERS[:1], timeout=0.3)
    assert time.monotonic() - started < 10
    assert labels == [None]
    assert notes == ["no label for cluster 0: the command took longer than 0.3 s"]
    _gone(int(pids.read_text()))


def test_several_at_once_keep_their_order():
    clusters = [Request(number, 1, [], []) for number in range(9)]
    done = []
    labels = ask(
        'sleep 0.0$((9 - EMBCLI_CLUSTER)); echo "$EMBCLI_CLUSTER"',
        clusters,
        jobs=4,
        advance=lambda count, total, _: done.append((count, total)),
    )
    assert labels == [str(number) for number in range(9)]
    assert done == [(count, 9) for count in range(1, 10)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_leaves_nothing_running(tmp_path, jobs):
    # The first answers at once, so that it is the others that are interrupted.
    wait = f"{{ sleep 60 & echo $! >> {tmp_path}/pids; wait; }}"
    command = f'[ "$EMBCLI_CLUSTER" = 0 ] && echo ok || {wait}'
    program = (
        "import signal\n"
        "from embcli.pipelines.label_command import Request, ask\n"
        # Shells start what is in the background with Ctrl-C ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"ask({command!r}, [Request(n, 1, [], []) for n in range(3)], jobs={jobs})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    pids = tmp_path / "pids"
    for _ in range(600):
        if pids.exists() and pids.read_text().count("\n") == jobs:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in err
    for pid in pids.read_text().split():
        _gone(int(pid))


def test_no_cluster_no_call():
    assert asked("exit 1", []) == ([], [])
    assert threading.active_count() < 50


def test_what_makes_no_sense():
    with pytest.raises(UsageError, match="blank"):
        ask("  ", CLUSTERS)
    with pytest.raises(UsageError, match="timeout"):
        ask("cat", CLUSTERS, timeout=0)


def _gone(pid):
    """Wait until a process has ended, though nobody may have asked for its exit code."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} still runs")
