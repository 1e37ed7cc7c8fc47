"""Files in slices: the same records, whatever they are cut into."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embcli.errors import InputError
from embcli.formats import ReadOptions
from embcli.formats.inputs import Source
from embcli.formats.reader import Reader
from embcli.formats.slices import cut_lines, cut_rows, read_slice, survey
from embcli.store import Record

VALUES = st.one_of(
    st.builds(lambda id, text: {"id": id, "text": text}, st.integers(0, 30), st.text(max_size=9)),
    st.text(max_size=9),
    st.integers(),
    st.just({"other": 1}),
)
LINES = st.one_of(
    VALUES.map(lambda value: json.dumps(value).encode()),
    VALUES.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")),
    st.sampled_from([b"", b"  ", b"{", b"\xff", b"\xef\xbb\xbf", b"BZh91AY", b"\x1f\x8b", b"\0"]),
    st.text(st.characters(exclude_characters="\n"), max_size=9).map(str.encode),
)  # fmt: skip


def shown(results):
    return [
        (each.id, each.text, each.meta, each.source) if isinstance(each, Record) else each
        for each in results
    ]


def sliced(source, room, most, options=None):
    """All records and problems of a file, slice by slice; None if it cannot be cut."""
    options = options or ReadOptions()
    reader = Reader([], options)
    layout = survey(source, options, reader)
    if layout is None:
        return None
    cut = (
        cut_rows(layout, room, most)
        if layout.unit == "rows"
        else cut_lines(source, layout, room, most)
    )
    slices = list(cut)
    assert all(part.count <= (room if n == 0 else most) for n, part in enumerate(slices))
    return [each for part in slices for each in read_slice(source, layout, part, options, reader)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
@settings(max_examples=60)
@given(
    lines=st.lists(LINES, max_size=30),
    end=st.sampled_from([b"\n", b"\r\n"]),
    last=st.booleans(),
    mark=st.booleans(),
    room=st.integers(1, 9),
    most=st.integers(1, 9),
)
def test_slices_give_what_the_whole_gives(
    tmp_path_factory, name, lines, end, last, mark, room, most
):
    path = tmp_path_factory.mktemp("slices") / name
    path.write_bytes(mark * b"\xef\xbb\xbf" + end.join(lines) + last * end)
    source = Source(name, path)
    whole = shown(Reader([source]))
    found = sliced(source, room, most)
    if found is not None:
        assert shown(found) == whole
    else:  # compressed, it seems; or nothing looks like a text; or lines end in CR; or NUL bytes
        raw = path.read_bytes()
        compressed = raw.startswith((b"BZh", b"\x1f\x8b", b"\x5d\0\0"))
        no_text = any("no field" in str(each) for each in whole)
        assert compressed or no_text or b"\0" in raw or (b"\r" in raw and b"\n" not in raw)


def test_lines_that_are_too_long_are_passed_over_in_slices_too(home):
    path = home / "a.txt"
    path.write_text("one\n" + "x" * 5000 + "\ntwo\n" + "y" * 5000)
    options = ReadOptions(max_record_bytes=1024)
    source = Source("a.txt", path)
    found = sliced(source, 1, 1, options)
    assert shown(found) == shown(Reader([source], options))
    assert [isinstance(each, Record) for each in found] == [True, False, True, False]


def test_fields_are_those_of_the_beginning_of_the_file(home):
    # Alone, the second half would take "title" for the text, and ids that do not repeat.
    lines = [{"key": 1, "body": f"text {n}"} for n in range(100)]
    lines += [{"key": n, "title": "T", "body": f"text {n}"} for n in range(100)]
    path = home / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    source = Source("a.jsonl", path)
    found = sliced(source, 100, 100)
    assert shown(found) == shown(Reader([source]))
    assert found[150].id == "a.jsonl:151"


@pytest.mark.parametrize(
    "content",
    [
        "one\ntwo\n".encode("utf-16"),
        b"one\rtwo\r",
        b"\x1f\x8b\x08 no gzip",
        b'{"n": 1}\n{"n": 2}\n',
    ],
)
def test_what_cannot_be_cut_is_left_whole(home, content):
    path = home / "a.jsonl"
    path.write_bytes(content)
    assert sliced(Source("a.jsonl", path), 1, 1) is None


def test_a_file_that_changed_since_it_was_cut_is_refused(home):
    path = home / "a.txt"
    path.write_text("one\ntwo\nthree\n")
    source, reader = Source("a.txt", path), Reader([])
    layout = survey(source, ReadOptions(), reader)
    first, second, third = cut_lines(source, layout, 1, 1)
    path.write_text("one\nTWO\nthree\n")
    assert len(list(read_slice(source, layout, first, ReadOptions(), reader))) == 1
    with pytest.raises(InputError, match=r"a\.txt is not what it was"):
        list(read_slice(source, layout, second, ReadOptions(), reader))
    path.write_text("one\n")
    with pytest.raises(InputError, match="is not what it was"):
        list(read_slice(source, layout, third, ReadOptions(), reader))


@settings(max_examples=20)
@given(
    rows=st.integers(2, 40),
    group=st.integers(1, 15),
    room=st.integers(1, 9),
    most=st.integers(1, 9),
)
def test_rows_of_parquet_are_records(tmp_path_factory, rows, group, room, most):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path_factory.mktemp("rows") / "a.parquet"
    table = pa.table(
        {
            "id": [f"r{n}" for n in range(rows)],
            "text": [f"text {n}" if n % 7 else None for n in range(rows)],
            "day": pa.array(range(rows), pa.date32()),
            "vector": [[float(n)] for n in range(rows)],
            "picture": [b"x"] * rows,
        }
    )
    parquet.write_table(table, path, row_group_size=group)
    source, notes = Source("a.parquet", path), []
    whole = list(Reader([source], note=notes.append))
    assert shown(sliced(source, room, most)) == shown(whole)
    assert [each.id for each in whole] == [f"r{n}" for n in range(rows)]
    records = [each for each in whole if isinstance(each, Record)]
    assert all(each.source == f"a.parquet:{int(each.id[1:]) + 1}" for each in records)
    assert all(each.meta == {"day": f"1970-0{1 + n // 31}-{n % 31 + 1:02d}"}
               for each in records for n in [int(each.id[1:])])  # fmt: skip
    assert any(note == "a.parquet: left out: vector, picture" for note in notes)


def test_parquet_that_is_none_is_named(home):
    pytest.importorskip("pyarrow")
    (home / "a.parquet").write_bytes(b"PAR1 no more")
    (problem,) = Reader([Source("a.parquet", home / "a.parquet")])
    assert str(problem).startswith("a.parquet:1: cannot be read (")
    assert sliced(Source("a.parquet", home / "a.parquet"), 1, 1) is None


def test_only_columns_of_bytes_and_of_vectors_are_left_out_of_parquet(home):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    vector = [0.5, 1.5]
    kept = {
        "price": pa.array([{"price": 1.5, "tags": ["a"]}]),
        "binary": pa.array([{"binary": "no"}]),
        "digest": pa.array([b"0123456789abcdef"], pa.binary(16)),
        "scores": pa.array([{"of": vector}]),
        "names": pa.array([["a float", "a list"]]),
    }
    left_out = {
        "vector": pa.array([vector]),
        "fixed": pa.array([vector], pa.list_(pa.float32(), 2)),
        "large": pa.array([vector], pa.large_list(pa.float16())),
        "tokens": pa.array([[vector]]),
        "picture": pa.array([b"x"]),
        "film": pa.array([b"x"], pa.large_binary()),
        "pages": pa.array([[b"x"]]),
    }
    ids = {"id": pa.array([b"\x00\xff"], pa.binary(2)), "text": ["cat"]}
    parquet.write_table(pa.table(ids | kept | left_out), home / "a.parquet")
    notes = []
    (record,) = Reader([Source("a.parquet", home / "a.parquet")], note=notes.append)
    assert (record.id, record.meta.keys()) == ("00ff", kept.keys())
    assert record.meta["digest"] == b"0123456789abcdef".hex()
    assert record.meta["price"] == {"price": 1.5, "tags": ["a"]}
    assert f"a.parquet: left out: {', '.join(left_out)}" in notes


def test_parquet_in_a_compressed_file_is_named_as_such(home):
    pytest.importorskip("pyarrow")
    (home / "a.parquet.gz").write_bytes(b"\x1f\x8b")
    source = Source("a.parquet.gz", home / "a.parquet.gz")
    (problem,) = Reader([source])
    assert "not read out of compressed files" in problem.message
    assert sliced(source, 1, 1) is None
