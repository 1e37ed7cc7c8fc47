import gzip

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from embcli.errors import InputError, UsageError
from embcli.formats.trec import read_judgments, read_run, write_run


@pytest.fixture
def problems():
    return []


def write(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "query-id\tcorpus-id\tscore\nq1\tAnn Lee\t2\nq1\td2\t0\n\nq2\tAnn Lee\t1\n",
        "q1\tAnn Lee\t2\r\nq1\td2\t0\r\nq2\tAnn Lee\t1.0",
        "\ufeffq1\t0\tAnn Lee\t2\nq1\t0\td2\t-1\nq2\t0\tAnn Lee\t1\nq2\t0\tAnn Lee\t1\n",
    ],
)
def test_judgments(home, problems, text):
    path = write(home / "test.tsv", text)
    assert read_judgments(path, problems.append) == {
        "q1": {"Ann Lee": 2, "d2": 0}, "q2": {"Ann Lee": 1}
    }  # fmt: skip
    assert problems == []


def test_judgments_as_trec_has_them(home, problems):
    path = home / "qrels.gz"
    path.write_bytes(gzip.compress(b"301 0 FBIS3-1 1\n301 0 FBIS3-2 -2\n"))
    found = read_judgments(path, problems.append)
    assert found == {"301": {"FBIS3-1": 1, "FBIS3-2": 0}}
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match=r"qrels.gz: the compressed data is damaged"):
        read_judgments(path, problems.append)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q\td", "expected query-id, corpus-id and score, separated by tabs; found 'q\\td'"),
        ("q\td\tx", "expected a whole number up to 1,000,000 as score; found 'x'"),
        ("q\td\t1.5", "found '1.5'"),
        ("q\td\tnan", "found 'nan'"),
        ("q\td\t9999999999", "found '9999999999'"),
        ("query-id\tcorpus-id\tscore", "found 'score'"),
        ("a\tb\t2", "document 'b' was judged 1 for query 'a' before"),
        (b"q\t\xff\t1", "byte 0xff is not utf-8"),
        ("x" * 100, "found '" + "x" * 59 + "…'"),
    ],
)
def test_lines_that_are_no_judgment_are_named(home, problems, line, message):
    line = line if isinstance(line, bytes) else line.encode()
    path = write(home / "test.tsv", b"a\tb\t1\n" + line + b"\nc\td\t1\n")
    assert read_judgments(path, problems.append) == {"a": {"b": 1}, "c": {"d": 1}}
    (problem,) = problems
    assert str(problem).startswith(f"{path}:2: ")
    assert message in str(problem)


def test_a_file_that_is_not_there(problems):
    with pytest.raises(InputError, match=r"no\.tsv: cannot be opened \(No such file"):
        read_judgments("no.tsv", problems.append)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q Q0 d 1 0.5", "expected query, Q0, document, rank, score and tag; found 'q Q0 d 1 0.5'"),
        ("q Q0 d 1 high tag", "expected a number as score; found 'high'"),
        ("q Q0 d 1 nan tag", "expected a number as score; found 'nan'"),
        ("q Q0 x 7 0.1 tag", "document 'x' is there twice for query 'q'"),
    ],
)
def test_lines_that_are_no_result_are_named(home, problems, line, message):
    path = write(home / "run", f"q Q0 x 1 0.5 t\n{line}\nq\tQ0\ty\t2\t0.4\tt\n")
    assert read_run(path, problems.append) == {"q": [("x", 0.5), ("y", 0.4)]}
    (problem,) = problems
    assert str(problem) == f"{path}:2: {message}"


# An id with a % may look like the encoding of another one.
ids = st.text(st.characters(codec="utf-8", exclude_characters="%"), min_size=1, max_size=6)


@given(
    run=st.dictionaries(
        ids,
        st.dictionaries(ids, st.floats(-1, 1, width=16), min_size=1, max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_written_is_read_again_whatever_the_ids_and_the_ties(tmp_path_factory, run):
    path = tmp_path_factory.mktemp("runs") / "run"
    ranked = {
        query: sorted(scores.items(), key=lambda item: -item[1]) for query, scores in run.items()
    }
    write_run(path, ranked)
    problems = []
    documents = {document for scores in run.values() for document in scores}
    found = read_run(path, problems.append, run.keys(), documents)
    names = {query: [id for id, _ in found] for query, found in found.items()}
    expected = {query: [id for id, _ in items] for query, items in ranked.items()}
    assert problems == []
    assert names == expected
    for query, items in found.items():
        scores = np.float32([score for _, score in items])
        assert (np.diff(scores) < 0).all()
        np.testing.assert_allclose(scores, [score for _, score in ranked[query]], atol=1e-6)


def test_ids_with_white_space_are_encoded_and_others_left_alone(home, problems):
    run = {"a b": [("50% of\tit", 0.5), ("https://x/a%20b", 0.25)]}
    write_run("run", run, "mine")
    assert (home / "run").read_text() == (
        "a%20b Q0 50%25%20of%09it 1 0.5 mine\na%20b Q0 https://x/a%20b 2 0.25 mine\n"
    )
    assert read_run("run", problems.append, ["a b"], ["50% of\tit", "https://x/a%20b"]) == run
    known = read_run("run", problems.append)
    assert list(known) == ["a%20b"]


def test_ties_are_written_as_the_next_numbers_below(home):
    write_run("run", {"q": [("a", 0.5), ("b", 0.5), ("c", 0.5), ("d", 0.4)]})
    lines = [line.split() for line in (home / "run").read_text().splitlines()]
    assert [line[4] for line in lines] == ["0.5", "0.49999997", "0.49999994", "0.4"]
    assert [line[3] for line in lines] == ["1", "2", "3", "4"]


def test_ties_in_a_run_are_broken_as_trec_eval_breaks_them(home, problems):
    rng = np.random.default_rng(0)
    lines, qrels = [], {}
    for query in "12345678":
        for document in rng.permutation(30):
            # Some scores differ only beyond single precision.
            score = rng.integers(1, 4) / 4 + rng.integers(0, 2) * 1e-10
            lines.append(f"{query} Q0 d{document} 0 {float(score)!r} x\n")
        qrels[query] = {f"d{document}": 1 for document in rng.permutation(30)[:8].tolist()}
    path = write(home / "run", "".join(lines))
    given = {}
    for line in lines:
        query, _, document, _, score, _ = line.split()
        given.setdefault(query, {})[document] = float(score)
    found = {
        query: {document: -float(place) for place, (document, _) in enumerate(items)}
        for query, items in read_run(path, problems.append).items()
    }
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"map", "ndcg_cut", "P"})
    assert evaluator.evaluate(found) == evaluator.evaluate(given)


def test_a_run_appears_when_it_is_complete(home):
    def failing():
        yield "a", 0.5
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_run("run", {"q": failing()})
    assert list(home.iterdir()) == []


def test_a_run_that_cannot_be_written():
    with pytest.raises(UsageError, match=r"cannot write no/run \(No such file or directory\)"):
        write_run("no/run", {})


def test_a_run_to_a_device():
    write_run("/dev/null", {"q": [("a", 0.5)]})
