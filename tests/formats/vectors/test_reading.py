"""What other programs write, and what is wrong with files."""

import gzip
import io
import json
import struct

import numpy as np
import pytest

from embcli.errors import InputError
from embcli.formats import Problem
from embcli.formats.vectors import VectorBatch, VectorOptions, open_vectors
from embcli.formats.vectors.sniff import sniff

VECTORS = np.array([[0.5, -1.5, 2.0], [1e-5, 0.1, -0.25]], np.float32)


def read(path, **options):
    """Ids, vectors and problems of a file."""
    results = list(open_vectors(path, VectorOptions(**options)))
    batches = [result for result in results if isinstance(result, VectorBatch)]
    problems = [str(result) for result in results if isinstance(result, Problem)]
    vectors = np.concatenate([np.empty((0, 0), np.float32), *(b.vectors for b in batches)]
                             if not batches else [b.vectors for b in batches])  # fmt: skip
    return [id for batch in batches for id in batch.ids], vectors, problems


def rows_of(path, **options):
    """Ids, texts and metadata of a file without problems."""
    return [
        row
        for batch in open_vectors(path, VectorOptions(**options))
        for row in zip(batch.ids, batch.texts, batch.metas, strict=True)
    ]


# Word vectors


@pytest.mark.parametrize("content", [
    b"2 3\na 0.5 -1.5 2.0\nb 1e-05 0.1 -0.25\n",
    b"a 0.5 -1.5 2\nb .00001 1e-1 -.25",
    b"2 3\r\na 0.5 -1.5 2.0\r\nb 0.00001 0.1 -0.25\r\n",
    b"2 3\na 0.5 -1.5 2.0 \nb 0.00001 0.1 -0.25 \n\n",
    b"a\t0.5\t-1.5\t2.0\nb\t0.00001\t0.1\t-0.25\n",
])  # fmt: skip
def test_word_vectors_as_they_are_written(home, content):
    (home / "w").write_bytes(content)
    ids, vectors, problems = read("w")
    assert (ids, problems) == (["a", "b"], [])
    assert vectors.tobytes() == VECTORS.tobytes()
    (home / "w.gz").write_bytes(gzip.compress(content))
    assert read("w.gz")[1].tobytes() == VECTORS.tobytes()


def test_blocks_and_lines_need_not_agree(home, monkeypatch):
    from embcli.formats.vectors import word_vectors

    vectors = np.random.default_rng(1).standard_normal((50, 7), np.float32)
    lines = [f"w{n} {' '.join(map(str, row))}\n" for n, row in enumerate(vectors)]
    (home / "w.vec").write_text("50 7\n" + "".join(lines))
    for size in (1, 5, 64, 333, 4096):
        monkeypatch.setattr(word_vectors, "_BLOCK", size)
        ids, found, problems = read("w.vec", format="word2vec")
        assert (ids, problems) == ([f"w{n}" for n in range(50)], [])
        assert (found == vectors).all()


def test_blank_lines_and_a_limit(home):
    (home / "w.txt").write_text("a 0.5 1.5\n\n\nb 1.5 2.5\nc x\nd 3.5 4.5\n\ne 1.0 1.0\n\n")
    assert read("w.txt")[0] == ["a", "b", "d", "e"]
    for limit, wanted in ((1, ["a"]), (2, ["a", "b"]), (3, ["a", "b"]), (4, ["a", "b", "d"])):
        ids, vectors, problems = read("w.txt", limit=limit)
        assert (ids, len(vectors), len(problems)) == (wanted, len(wanted), int(limit > 2))


def test_as_numpy_parses_numbers(home):
    """In every notation, against NumPy's own conversion, value for value."""
    rng = np.random.default_rng(2)
    numbers = (rng.standard_normal(3000) * 10.0 ** rng.integers(-12, 12, 3000)).tolist()
    forms = ["{:.6f}", "{:.3e}", "{!r}", "{:g}", "{:.17g}", "{:+.4f}"]
    written = [forms[n % len(forms)].format(number) for n, number in enumerate(numbers)]
    lines = [f"w{n} {' '.join(written[n * 10 : n * 10 + 10])}" for n in range(300)]
    (home / "w.vec").write_text("\n".join(lines))
    found = read("w.vec")[1]
    assert (found.ravel() == np.array([np.float32(number) for number in written])).all()


def test_words_with_spaces(home):
    words = [
        ". . .",
        "at name@domain.com",
        "route 66",
        " ",
        "  x",
        "y  ",
        "caf\u00e9 cr\u00e8me",
        "a\tb",
    ]
    lines = [f"{word} {n}.5 -0.25\n" for n, word in enumerate(words)]
    (home / "w.txt").write_text("plain 0.1 0.2\nthe 1.0 2.0\n" + "".join(lines))
    ids, vectors, problems = read("w.txt", format="glove")
    assert (ids[2:], problems) == (words, [])
    assert vectors[2:, 0].tolist() == [n + 0.5 for n in range(len(words))]


@pytest.mark.parametrize(("line", "message"), [
    (b"c 1.5 2.5", "w:3: expected a token and 3 numbers, found 3 fields"),
    (b"c 1.5 2.5 0.5 9.75", "w:3: expected 3 numbers, found 4"),
    (b"c 1.5 x 0.5", "w:3: 'x' is not a number"),
    (b"c 1.5 1_0 0.5", "w:3: '1_0' is not a number"),
    (b"c 1.5 nan 0.5", "w:3: component 2 of 'c' is nan"),
    (b"c 1.5 0.5 -Inf", "w:3: component 3 of 'c' is -inf"),
    (b"c 1e39 0.5 0.5", "w:3: component 1 of 'c' is inf"),
    (b"c\xff 1.5 2.5 0.5", "w:3: byte 0xff in 'c\\\\xff' is not UTF-8"),
    (b" 1.5 2.5 0.5", "w:3: there is no token before the numbers"),
])  # fmt: skip
def test_bad_lines_are_named_by_number(home, line, message):
    (home / "w").write_bytes(
        b"4 3\na 0.5 -1.5 2.0\n" + line + b"\nb 1.0 0.1 -0.25\nd 0.0 0.0 1.0\n"
    )
    ids, vectors, problems = read("w")
    assert ids == ["a", "b", "d"]
    assert vectors.shape == (3, 3)
    (problem,) = problems
    assert problem.startswith(message)


def test_bad_utf8_on_request(home):
    (home / "w").write_bytes(b"2 3\na\xffb 0.5 -1.5 2.0\n\xe9 0.5 0.5 0.5\n")
    assert read("w", encoding_errors="replace")[0] == ["a\ufffdb", "\ufffd"]
    ids, vectors, problems = read("w", encoding_errors="ignore")
    assert (ids, problems) == (["ab"], ["w:3: the word is empty"])
    assert vectors.shape == (1, 3)


def test_binary_with_line_breaks_between_words(home):
    entries = [word + b" " + row.tobytes() for word, row in zip((b"a", b"b"), VECTORS, strict=True)]
    for end in (b"", b"\n"):
        (home / "w").write_bytes(b"2 3\n" + end.join(entries) + end)
        assert sniff("w") == "word2vec-binary"
        ids, vectors, problems = read("w")
        assert (ids, problems) == (["a", "b"], [])
        assert vectors.tobytes() == VECTORS.tobytes()


def test_binary_in_small_pieces(home, monkeypatch):
    from embcli.formats.vectors import word_vectors

    vectors = np.random.default_rng(1).standard_normal((500, 7), np.float32)
    data = b"".join(b"w%d " % n + row.tobytes() for n, row in enumerate(vectors))
    (home / "w.bin").write_bytes(b"500 7\n" + data)
    for size in (16, 100, 5000):
        monkeypatch.setattr(word_vectors, "_READ", size)
        monkeypatch.setattr(word_vectors, "_LONGEST_TOKEN", size)
        ids, found, _ = read("w.bin")
        assert ids == [f"w{n}" for n in range(500)]
        assert (found == vectors).all()


def test_text_and_binary_glove_are_the_same(shared):
    text, binary = (read(shared / "glove25" / f"glove25.{end}") for end in ("vec", "bin"))
    assert text[0] == binary[0]
    assert text[1].tobytes() == binary[1].tobytes()
    assert len(text[0]) == 11_925


def test_gensim_reads_ours_and_writes_what_we_read(shared, home):
    models = pytest.importorskip("gensim.models", reason="needs gensim (pip install gensim)")
    for binary, name in ((False, "glove25.vec"), (True, "glove25.bin")):
        theirs = models.KeyedVectors.load_word2vec_format(shared / "glove25" / name, binary=binary)
        ids, vectors, _ = read(shared / "glove25" / name)
        assert ids == theirs.index_to_key
        assert (vectors == theirs.vectors).all()
        theirs.save_word2vec_format("out", binary=binary)
        ids, vectors, _ = read("out")
        assert ids == theirs.index_to_key
        assert (vectors == theirs.vectors).all()


# NumPy and safetensors


@pytest.mark.parametrize(("dtype", "note"), [
    ("<f4", []), ("|u1", []), ("|b1", []), ("<f2", ["float16 → float32, exactly"]),
    ("<f8", ["float64 → float32, rounded to 24 bits"]),
    (">f4", ["big-endian float32 → float32, exactly"]),
    (">f8", ["big-endian float64 → float32, rounded to 24 bits"]),
    ("<i8", ["int64 → float32, rounded to 24 bits"]),
])  # fmt: skip
def test_arrays_of_every_dtype(home, dtype, note):
    array = np.array([[1, 0, 1], [0, 1, 1]]).astype(dtype)
    np.save("a.npy", array)
    np.savez_compressed("a.npz", array)
    for name in ("a.npy", "a.npz"):
        assert open_vectors(name, VectorOptions()).notes == note
        ids, vectors, _ = read(name)
        assert ids == [f"{name}:1", f"{name}:2"]
        assert vectors.dtype == np.dtype("f4")
        assert vectors.tolist() == [[1, 0, 1], [0, 1, 1]]


def test_arrays_that_lie_by_columns(home):
    array = np.asfortranarray(np.random.default_rng(0).standard_normal((40, 3), np.float32))
    np.save("a.npy", array)
    np.savez("a.npz", array)
    for name in ("a.npy", "a.npz"):
        assert (read(name)[1] == array).all()
        assert (read(name, limit=7)[1] == array[:7]).all()


def test_the_words_of_google_news(shared):
    with np.load(shared / "words" / "gnews13k.npz") as archive:
        words, vectors = archive["words"].tolist(), archive["vecs"]
    ids, found, _ = read(shared / "words" / "gnews13k.npz")
    assert ids == words
    assert (found == vectors).all()


def test_which_array(home):
    np.savez("a.npz", first=VECTORS, second=-VECTORS)
    with pytest.raises(InputError, match=r"which array has the vectors.*first, second"):
        open_vectors("a.npz", VectorOptions())
    assert (read("a.npz", vector_field="second")[1] == -VECTORS).all()
    with pytest.raises(InputError, match="no field 'third'"):
        open_vectors("a.npz", VectorOptions(vector_field="third"))
    np.savez("b.npz", vectors=VECTORS, other=VECTORS, names=["x", "y"], key=["k", "l"])
    assert rows_of("b.npz") == [("k", "", {}), ("l", "", {})]
    assert rows_of("b.npz", id_field="names")[0][0] == "x"


def test_safetensors_of_the_library(home):
    library = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    library.save_file({"embeddings": VECTORS, "bias": VECTORS[0]}, "a.safetensors")
    assert (read("a.safetensors")[1] == VECTORS).all()
    library.save_file({"x": VECTORS.astype("f8")}, "b.safetensors")
    assert open_vectors("b.safetensors", VectorOptions()).notes[0].startswith("float64")


def test_the_safetensors_library_reads_ours(home):
    library = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    from embcli.formats.vectors.safetensors_files import SafetensorsWriter

    writer = SafetensorsWriter("a.safetensors", 3, 2, {"model": "m"})
    writer.write(VectorBatch(["a", "b"], VECTORS, ["", "\u00e9"], [{}, {"n": 1}], [1, 2]))
    writer.close()
    tensors = library.load_file("a.safetensors")
    assert (tensors["vectors"] == VECTORS).all()
    lines = tensors["records"].tobytes().decode().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["", "\u00e9"]


def test_bfloat16(home):
    bits = np.array([[0x3F80, 0xC000, 0x3E20]], "<u2")  # 1, -2, .15625
    header = {"v": {"dtype": "BF16", "shape": [1, 3], "data_offsets": [0, 6]}}
    head = json.dumps(header).encode()
    (home / "a.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bits.tobytes())
    assert read("a.safetensors")[1].tolist() == [[1, -2, 0.15625]]
    assert open_vectors("a.safetensors", VectorOptions()).notes == ["bfloat16 → float32, exactly"]


# Tables and JSON


@pytest.mark.parametrize("line", [
    '{"id": "a", "text": "t", "embedding": [0.5, -1.5, 2], "n": 1}',
    '{"_id": "a", "content": "t", "metadata": {"n": 1}, "vector": [0.5, -1.5, 2.0]}',
    '{"emb": "[0.5, -1.5, 2]", "word": "a", "text": "t", "n": 1}',
    '{"odd": [0.5, -1.5, 2], "key": "a", "title": "t", "n": 1}',
])  # fmt: skip
def test_json_lines_by_the_usual_names(home, line):
    (home / "a.jsonl").write_text(line + "\n\n")
    assert rows_of("a.jsonl") == [("a", "t", {"n": 1})]
    assert read("a.jsonl")[1].tolist() == [[0.5, -1.5, 2]]


def test_json_lines_that_cannot_be_used(home):
    lines = ['{"v": [1, 2]}', '{"v": [1, 2, 3]}', '{"v": null}', "{", '{"v": [1e39, 2]}',
             '{"v": [NaN, 2]}', '{"v": [1, "2"]}', '{"v": [true, 2]}', '{"v": [3, 4]}']  # fmt: skip
    (home / "a.jsonl").write_text("\n".join(lines))
    ids, vectors, problems = read("a.jsonl")
    assert ids == ["a.jsonl:1", "a.jsonl:9"]
    assert vectors.tolist() == [[1, 2], [3, 4]]
    assert sorted(int(problem.split(":")[1]) for problem in problems) == [2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("content", [
    "id,text,n,v0,v1\na,t,1,0.5,-2\n",
    "v_1,v_2,name,text,n\n0.5,-2,a,t,1\n",
    'id,text,n,embedding\na,t,1,"[0.5, -2.0]"\n',
    'id,text,n,embedding\na,t,1,[ 0.5 -2. ]\n',
    "id;text;n;0;1\na;t;1;0.5;-2\n",
])  # fmt: skip
def test_tables(home, content):
    (home / "a.csv").write_text(content)
    assert rows_of("a.csv") == [("a", "t", {"n": 1})]
    assert read("a.csv")[1].tolist() == [[0.5, -2]]


def test_tables_of_numbers_alone(home):
    np.savetxt("a.csv", VECTORS, delimiter=",")
    assert (read("a.csv")[1] == VECTORS).all()
    assert rows_of("a.csv")[1] == ("a.csv:2", "", {})
    np.savetxt("a.tsv", VECTORS, delimiter="\t")
    assert (read("a.tsv")[1] == VECTORS).all()


def test_chosen_columns(home):
    (home / "a.csv").write_text("a0,a1,b0,b1,b2,who,what\n1,2,3,4,5,me,007\n")
    assert read("a.csv")[1].tolist() == [[3, 4, 5]]
    assert read("a.csv", vector_field="a")[1].tolist() == [[1, 2]]
    (row,) = rows_of("a.csv", vector_field="a", id_field="what", text_fields=("who",))
    assert row == ("007", "me", {"b0": 3, "b1": 4, "b2": 5})


def test_projector_files_of_others(home):
    np.savetxt("vectors.tsv", VECTORS, delimiter="\t")
    (home / "metadata.tsv").write_text("Word\tCount\nhello\t12\nworld\t1.5e3\n")
    assert rows_of("vectors.tsv") == [
        ("hello", "hello", {"Count": 12}),
        ("world", "world", {"Count": 1500}),
    ]
    (home / "metadata.tsv").write_text("same\nsame\n")
    assert rows_of("vectors.tsv") == [
        ("metadata.tsv:1", "same", {}),
        ("metadata.tsv:2", "same", {}),
    ]
    (home / "metadata.tsv").write_text("one\n")
    with pytest.raises(InputError, match="fewer records"):
        rows_of("vectors.tsv")


# Sidecars


@pytest.mark.parametrize(("name", "content"), [
    ("s.txt", "a\nb\n"), ("s.csv", "id,text\na,a\nb,b\n"), ("s.json", '["a", "b"]'),
    ("s.jsonl", '{"id": "a", "text": "a"}\n{"id": "b", "text": "b"}\n'),
    ("s.tsv", "id\ttext\na\ta\nb\tb\n"),
])  # fmt: skip
def test_sidecars(home, name, content):
    (home / name).write_text(content)
    np.save("a.npy", VECTORS)
    np.savez("a.npz", VECTORS)
    for file in ("a.npy", "a.npz"):
        assert rows_of(file, sidecar=name) == [("a", "a", {}), ("b", "b", {})]
    for array, message in ((VECTORS[:1], "1 vector, .* more records"),
                           (np.tile(VECTORS, (2, 1)), "2 records, .* more vectors")):  # fmt: skip
        np.save("b.npy", array)
        with pytest.raises(InputError, match=message):
            rows_of("b.npy", sidecar=name)
    assert rows_of("a.npy", sidecar=name, limit=1) == [("a", "a", {})]


# What is wrong with whole files


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def safetensors(header, data=b""):
    head = json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + data


BINARY = b"2 3\n" + b"".join(
    word + row.tobytes() for word, row in zip((b"a ", b"b "), VECTORS, strict=True)
)
TENSOR = {"v": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
MALFORMED = {
    "empty": (b"", "the file is empty"),
    "one byte": (b"x", "the format cannot be told"),
    "one digit": (b"1", "the format cannot be told"),
    "NULs": (bytes(100), "the format cannot be told"),
    "0 words": (b"0 3\n", "no vectors in it (0 rows of 3 components)"),
    "0 components": (b"2 0\na\nb\n", "no vectors in it (2 rows of 0 components)"),
    "header alone": (b"2 3\n", "too many for 4 bytes (truncated?)"),
    "vast header": (b"2 99999999999\na 1.0\nb 2.0\n", "at most 16,777,216"),
    "too few lines": (b"3 2\na 0.5 1.5\nb 0.5 1.5\n", "3 vectors of 2 components, found 2"),
    "too many lines": (b"1 2\na 0.5 1.5\nb 0.5 1.5\n", "1 vector of 2 components, found 2"),
    "ragged": (b"a 0.5 1.5 2.5\nb 0.5 1.5\n", ":2: expected a token and 3 numbers, found 3 fields"),
    "NaN": (b"a 0.5 1.5 nan\n", ":1: component 3 of 'a' is nan"),
    "cut line": (b"2 3\na 0.5 1.5 2.5\nb 0.5 1.5", ":3: expected a token and 3 numbers"),
    "cut binary": (BINARY[:-1], "ends within entry 2 of 2"),
    "cut binary, long words": (b"2 3\n" + b"a" * 99 + BINARY[5:-1], "ends within entry 2 of 2"),
    "longer binary": (BINARY + b"c ", "promises 2 vectors, but there is more"),
    "binary NaN": (BINARY[:-4] + struct.pack("<f", np.nan), "word 2: component 3 of 'b' is nan"),
    "cut npy": (npy(VECTORS)[:-1], "no array can be read"),
    "npy of objects": (npy(np.array([{}, {}])), "no array can be read"),
    "npy with one dimension": (npy(VECTORS[0]), "expected an array of shape (n, dim), found (3,)"),
    "npy without rows": (npy(VECTORS[:0]), "no vectors in it (0 rows of 3 components)"),
    "npy without columns": (npy(VECTORS[:, :0]), "no vectors in it (2 rows of 0 components)"),
    "npy of complex numbers": (npy(VECTORS + 1j), "expected numbers, found complex"),
    "npy with Inf": (npy(np.where(VECTORS == 2, np.inf, VECTORS)), "row 1: component 3 of"),
    "npy that overflows": (npy(VECTORS.astype("f8") * 1e300), "row 1: component 1 of"),
    "cut npz": (npz(vectors=VECTORS)[:-30], "a damaged archive"),
    "npz with other bytes": (
        npz(vectors=VECTORS).replace(VECTORS.tobytes(), bytes(24)), "Bad CRC-32"),
    "npz without tables": (npz(vectors=VECTORS[0]), "which array has the vectors"),
    "cut safetensors": (safetensors(TENSOR, bytes(23)), "promises"),
    "safetensors with a wrong shape": (
        safetensors({"v": TENSOR["v"] | {"shape": [2, 4]}}, bytes(24)), "do not agree"),
    "safetensors of nothing": (safetensors({}), "which tensor has the vectors"),
    "safetensors of a strange type": (
        safetensors({"v": {"dtype": "F4", "shape": [2, 3], "data_offsets": [0, 3]}}, bytes(3)),
        "no numbers of type F4"),
    "safetensors with a strange header": (
        b"\x05" + bytes(7) + b"{1234" + bytes(9), "no safetensors header"),
    "JSON without vectors": (b'{"id": 1, "text": "x"}\n', "no field looks like a vector"),
    "broken JSON": (b'{"id": 1, "embedding": [0.5,', "not JSON"),
    "a JSON array": (b'[{"embedding": [1, 2]}]', "one JSON array"),
    "JSON with an empty vector": (b'{"embedding": []}\n', "no field looks like a vector"),
    "CSV without vectors": (b"id,text\n1,x\n", "no columns look like a vector"),
    "CSV without rows": (b"id,v0,v1\n", "no vectors in it (0 rows"),
    "CSV with ragged rows": (b"id,v0,v1\na,1,2\nb,1\n", ":3: expected 3 fields, found 2"),
    "ragged TSV": (b"1\t2\n1\n", ":2: expected 2 numbers, found 1"),
    "cut gzip": (gzip.compress(b"a 0.5 1.5\n" * 9)[:-9], "the compressed data is damaged"),
    "fastText's .bin": (struct.pack("<i", 793712314) + bytes(60), "its .vec is"),
    "a pickle": (b"\x80\x04\x95" + bytes(40), "can run code"),
    "SQLite of others": (b"SQLite format 3\0" + bytes(200), "SQLite file"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files(run, home, case):
    """One line, exit code 3, and the store as it was, to the byte, or still not there."""
    content, message = MALFORMED[case]
    (home / "bad").write_bytes(content)
    result = run("import", "bad", "-c", "words")
    assert (result.code, result.out) == (3, ""), result.err
    assert result.err.startswith("error: bad")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not (home / "embcli.db").exists()
    assert sorted(path.name for path in home.iterdir()) == ["bad"]
