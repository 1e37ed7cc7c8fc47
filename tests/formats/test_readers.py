"""Every format, through the reader that puts them together."""

import csv
import io
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embcli.errors import UsageError
from embcli.formats import Problem, ReadOptions, source
from embcli.formats.reader import Reader
from embcli.formats.source import Source
from embcli.store import Record


@pytest.fixture
def read(home):
    """Read bytes or text as if they were a file: read("a.csv", "...", header=False)."""

    def read(name, content, **options):
        path = home / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        notes = []
        results = list(Reader([Source(name, path)], ReadOptions(**options), notes.append))
        read.notes = notes
        return results

    return read


def texts(results):
    assert all(isinstance(result, Record) for result in results), results
    return [record.text for record in results]


def problems(results):
    return [str(result) for result in results if isinstance(result, Problem)]


# JSON Lines


def test_jsonl(read):
    lines = [{"id": 7, "text": "one", "tags": ["a"]}, {"id": 8, "text": "two", "x": None}]
    first, second = read("a.jsonl", "\n".join(map(json.dumps, lines)))
    assert first == Record("7", "one", {"tags": ["a"]}, "a.jsonl:1")
    assert second == Record("8", "two", {"x": None}, "a.jsonl:2")
    assert read.notes == ["a.jsonl: text = text, id = id, metadata = tags, x"]


def test_jsonl_reports_each_bad_line_and_goes_on(read):
    results = read(
        "a.jsonl",
        b'{"text": "good"}\n{"text": \n\n[1]\n{"text": NaN}\n{"text": "\xff"}\n'
        b'{"other": 1}\n{"text": 5}\n{"text": ["x"]}\n{"text": "\\ud800"}\n{"text": "end"}',
    )
    assert [r.text for r in results if isinstance(r, Record)] == ["good", "5", "end"]
    assert problems(results) == [
        "a.jsonl:2: not JSON: Expecting value (column 10)",
        "a.jsonl:4: expected an object or a string, found an array",
        "a.jsonl:5: not JSON: NaN is not a JSON number",
        "a.jsonl:6: byte 0xff is not utf-8 (name the right --encoding, for example latin-1)",
        "a.jsonl:7: expected a field 'text', found other",
        "a.jsonl:9: expected text in field 'text', found an array",
        "a.jsonl:10: an unpaired surrogate U+D800 is not a character",
    ]


def test_jsonl_line_breaks_are_lf_only(read):
    text = "a\u2028b\u0085c\x0bd\re"
    assert texts(read("a.jsonl", json.dumps({"text": text}, ensure_ascii=False))) == [text]


def test_metadata_that_cannot_be_stored(read):
    results = read("a.jsonl", '{"text": "a", "x": 1e999}\n{"text": "b", "\\udc00": 1}')
    assert problems(results) == [
        "a.jsonl:1: metadata holds a number that JSON cannot express",
        "a.jsonl:2: an unpaired surrogate U+DC00 is not a character",
    ]


# Fields


def guess(read, *rows, **options):
    results = read("a.jsonl", "\n".join(map(json.dumps, rows)), **options)
    return results[0]


def test_beir_fields(read):
    row = {"_id": "q", "title": "Head", "text": "body", "metadata": {"year": 1}}
    assert guess(read, row) == Record("q", "Head\nbody", {"year": 1, "title": "Head"}, "a.jsonl:1")


def test_an_empty_title_adds_no_line(read):
    assert guess(read, {"title": "", "text": "body"}).text == "body"


@pytest.mark.parametrize("name", ["Text", "CONTENT", "body", "sentence", "abstract", "question"])
def test_known_text_names(read, name):
    row = {"longer_but_unknown": "x" * 50, name: "the text"}
    assert guess(read, row).text == "the text"


def test_otherwise_the_longest_strings_are_the_text(read):
    row = {"code": "AB", "remark": "a longer remark", "n": 10**30}
    assert guess(read, row).text == "a longer remark"


def test_fields_can_be_named(read):
    row = {"id": 1, "a": "A", "b": "B", "c": "C", "text": "T"}
    record = guess(read, row, text_fields=("b", "a"), id_field="c", meta_fields=("text", "no"))
    assert record == Record("C", "B\nA", {"text": "T"}, "a.jsonl:1")


def test_line_ids(read):
    assert guess(read, {"id": "x", "text": "t"}, line_ids=True).id == "a.jsonl:1"


def test_an_id_that_repeats_is_no_id(read):
    record = guess(read, {"uid": 1, "text": "a"}, {"uid": 1, "text": "b"})
    assert record.id == "a.jsonl:1"
    assert record.meta == {"uid": 1}
    assert "uid repeats" in read.notes[0]


def test_a_missing_or_odd_id_costs_that_record(read):
    rows = [{"id": i, "text": "t"} for i in range(120)]
    rows += [{"text": "t"}, {"id": None, "text": "t"}, {"id": "", "text": "t"}]
    results = read("a.jsonl", "\n".join(map(json.dumps, rows)))
    assert problems(results) == [
        "a.jsonl:121: expected an id in field 'id', which is missing",
        "a.jsonl:122: expected an id in field 'id', found null",
        "a.jsonl:123: expected an id in field 'id', found an empty string",
    ]


def test_a_named_field_that_is_nowhere(read):
    (problem,) = problems(read("a.jsonl", '{"text": "t"}', text_fields=("txt",)))
    assert problem.startswith("a.jsonl:1: no field 'txt' (there are: text)")


def test_nothing_that_could_be_a_text(read):
    (problem,) = problems(read("a.jsonl", '{"a": 1, "b": [2]}'))
    assert "no field looks like a text (there are: a, b)" in problem
    assert "--text-field" in problem


def test_empty_texts_are_told_apart(read):
    results = read("a.jsonl", '{"id": "a", "text": ""}\n{"id": "b", "text": " \\n"}\n"x"')
    assert [r.kind for r in results[:2]] == ["empty", "empty"]
    assert problems(results)[1] == "a.jsonl:2: record 'b' has no text"


# JSON documents


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ('["a", "b"]', [("a.json:1", "a"), ("a.json:1.2", "b")]),
        ('[\n{"text": "a"},\n\n{"text":\n"b"}\n]', [("a.json:2", "a"), ("a.json:4", "b")]),
        ("[]", []),
        ('"lonely"', [("a.json:1", "lonely")]),
        ('{"id": "x", "text": "one"}', [("x", "one")]),
        ('{"k1": {"text": "a"}, "k2": {"text": "b"}}', [("k1", "a"), ("k2", "b")]),
        ('{"k1": "a", "k2": "b"}', [("k1", "a"), ("k2", "b")]),
        ('{"v": 1, "data": [{"text": "a"}, {"text": "b"}], "n": 2}',
         [("a.json:1", "a"), ("a.json:1.2", "b")]),
        ('{"title": "t", "items": [{"text": "a"}, {"text": "b"}]}',
         [("a.json:1", "a"), ("a.json:1.2", "b")]),
        ('{"data": ["a", "b"]}', [("a.json:1", "a"), ("a.json:1.2", "b")]),
        ('{"text": {"7": "a", "8": "b"}, "n": {"7": 1, "8": 2}}', [("7", "a"), ("8", "b")]),
        ('{"intro": {"text": "a"}, "summary": {"text": "b"}}', [("intro", "a"), ("summary", "b")]),
        ('{"k": {"text": "a"}, "k": {"text": "b"}}', [("k", "a"), ("k", "b")]),
        ('{"text": "one", "authors": [{"name": "x"}]}', [("a.json:1", "one")]),
    ],
)  # fmt: skip
def test_json_documents(read, document, expected):
    results = read("a.json", document)
    texts(results)
    assert [(record.id, record.text) for record in results] == expected


def test_json_lines_named_json(read):
    assert texts(read("a.json", '{"text": "a"}\n{"text": "b"}\n')) == ["a", "b"]


def test_a_mapping_larger_than_what_is_looked_at(read):
    document = json.dumps({f"k{i}": {"text": f"t{i}"} for i in range(2500)}, indent=1)
    results = read("a.json", document)
    assert [r.id for r in results] == [f"k{i}" for i in range(2500)]
    assert results[-1].source == f"a.json:{3 * 2499 + 2}"


def test_what_comes_before_broken_json_is_kept(read):
    results = read("a.json", '["a",\n"b",\n"c" "d"]')
    assert texts(results[:3]) == ["a", "b", "c"]
    assert problems(results) == ["a.json:3: not JSON: expected ']', found '\"'"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: st.lists(children) | st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), children),
    max_leaves=8,
)  # fmt: skip


@given(
    values=st.lists(JSON, max_size=20),
    indent=st.sampled_from([None, 0, 3]),
    ascii=st.booleans(),
    chunk=st.integers(1, 40),
)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_streamed_arrays_equal_json_loads(home, monkeypatch, values, indent, ascii, chunk):
    from embcli.formats import Item, json_stream
    from embcli.formats.source import open_source

    monkeypatch.setattr(json_stream, "SAMPLE_BYTES", chunk)
    document = json.dumps(values, indent=indent, ensure_ascii=ascii)
    (home / "a.json").write_text(document, encoding="utf-8")
    with open_source(Source("a.json", home / "a.json")) as stream:
        results = list(json_stream.read(stream))
    expected = [value for value in values if isinstance(value, str | dict)]
    assert [r.value for r in results if isinstance(r, Item)] == expected
    assert len(results) == len(values)
    lines = document.split("\n")
    for result, value in zip(results, values, strict=True):
        if indent is not None and isinstance(result, Item) and isinstance(value, str):
            assert json.dumps(value, ensure_ascii=ascii) in lines[result.line - 1]


def test_a_wrong_byte_in_json_costs_what_comes_after(read):
    results = read("a.json", b'[{"id":1,"text":"ok"},\n{"id":2,"text":"caf\xe9"},\n{"id":3}]')
    assert results[0].text == "ok"
    assert [p.partition(" (")[0] for p in problems(results)] == ["a.json:2: byte 0xe9 is not utf-8"]


def test_metadata_nested_too_deeply_for_others(read):
    deep = "[" * 101 + "]" * 101
    results = read("a.jsonl", f'{{"text": "a", "m": {deep}}}\n{{"text": "b", "m": {deep[2:-2]}}}')
    assert problems(results) == ["a.jsonl:1: metadata is nested more than 100 deep"]
    many = json.dumps({"text": "c", "m": [[] for _ in range(500)], "s": "[" * 500})
    assert texts(read("a.jsonl", many)) == ["c"]


@pytest.mark.parametrize("bad", [100, 25_000])
def test_a_file_that_begins_badly(read, bad):
    results = read("a.jsonl", "# comment\n" * bad + '{"id": "x", "text": "good"}\n' * 2)
    assert len(problems(results)) == bad
    assert [r.text for r in results if isinstance(r, Record)] == ["good", "good"]
    assert all(isinstance(result, Problem) for result in results[:bad])


# CSV and TSV


def test_csv(read):
    results = read(
        "a.csv", 'id,text,year,price,zip\n1,"one, ""two""\nthree",2020,1.5,007\n2,b,,x,1\n'
    )
    assert results[0] == Record(
        "1", 'one, "two"\nthree', {"year": 2020, "price": 1.5, "zip": "007"}, "a.csv:2"
    )
    assert results[1] == Record("2", "b", {"year": None, "price": "x", "zip": 1}, "a.csv:4")


def test_a_bad_row_costs_that_row_only(read):
    results = read("a.csv", 'id,text\n1,one\n2,"two"x\n3\n4,4,4\n5,"never closed\n6,six\n7,seven\n')
    assert [r.id for r in results if isinstance(r, Record)] == ["1", "6", "7"]
    assert problems(results) == [
        "a.csv:3: not CSV: ',' expected after '\"'",
        "a.csv:4: expected 2 fields, found 1",
        "a.csv:5: expected 2 fields, found 3",
        "a.csv:6: a quoted field is never closed",
    ]


def test_a_wrong_byte_costs_its_row_only(read):
    results = read("a.csv", b'id,text\n1,caf\xe9\n2,"two\nlines"\n3,"a\nb\xff\nc"\n4,four\n')
    assert [r.id for r in results if isinstance(r, Record)] == ["2", "4"]
    assert [p.partition(": ")[0] for p in problems(results)][:2] == ["a.csv:2", "a.csv:6"]
    assert "latin-1" in problems(results)[0]


def test_a_wrong_byte_in_a_quoted_field_makes_no_new_records(read):
    results = read("a.csv", b'id,text\n1,"one\ncaf\xe9\nx, and more"\n2,two\n')
    assert [r.id for r in results if isinstance(r, Record)] == ["2"]
    assert len(problems(results)) == 1
    assert problems(results)[0].startswith("a.csv:3: byte 0xe9 is not utf-8")


@pytest.mark.parametrize("delimiter", ["ab", "", '"'])
def test_impossible_delimiters(read, delimiter):
    with pytest.raises(UsageError, match="must be one character"):
        read("a.csv", "a,b\n1,2\n", delimiter=delimiter)


def test_a_tab_as_people_type_it(read):
    assert texts(read("a.csv", "id\ttext\n1\ta\n", delimiter="\\t")) == ["a"]


def test_ids_that_look_like_numbers_stay_as_they_are(read):
    results = read("a.csv", "id,text\n1.0,a\n2.50,b\n007,c\n")
    assert [record.id for record in results] == ["1.0", "2.50", "007"]


def test_a_guess_by_length_says_what_if(read):
    read("a.csv", "3,Short,A longer description\n4,x,y\n")
    assert read.notes[1] == "a.csv: if the first row is data and no header: --no-header"


def test_another_encoding(read):
    assert texts(read("a.csv", b"id,text\n1,caf\xe9\n", encoding="latin-1")) == ["café"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_found_out(read, delimiter):
    rows = [["id", "text"], ["1", "a, b; c"], ["2", "d | e"], ["3", "f\tg"]]
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter).writerows(rows)
    assert texts(read("a.csv", buffer.getvalue())) == ["a, b; c", "d | e", "f\tg"]


def test_no_header(read):
    (record,) = read("a.csv", '3,Short,"A longer description"\n', header=False)
    assert record == Record("a.csv:1", "A longer description", {"1": 3, "2": "Short"}, "a.csv:1")


def test_repeated_column_names(read):
    (problem,) = problems(read("a.csv", "a,a\n1,2\n"))
    assert "two columns are called 'a'" in problem
    assert "--no-header" in problem


def test_line_ends_of_old_macs(read):
    assert texts(read("a.csv", 'id,text\r1,a\r2,"b\rc"\r')) == ["a", "b\rc"]


def test_tsv_with_quotes_that_are_just_quotes(read):
    results = read("a.tsv", 'id\ttext\n1\t"Never" he said\n2\t"quoted\nfield"\n3\t"open\n')
    assert texts(results) == ['"Never" he said', "quoted\nfield", '"open']


def test_quotes_that_open_in_one_row_and_close_in_another_are_just_quotes(read):
    table = 'id\ttext\n1\t"Hello there\n2\tmiddle\n3\tgoodbye"\n4\tlast\n'
    assert texts(read("a.tsv", table)) == ['"Hello there', "middle", 'goodbye"', "last"]


@given(
    rows=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"])),
            st.text("ab,;\"\n\r\t '", max_size=9),
        ),
        min_size=1, max_size=8,
    )
)  # fmt: skip
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_the_csv_module_writes_comes_back(home, rows):
    rows = [("x" + a, "y" + b) for a, b in rows]
    with (home / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("text", "note"), *rows])
    options = ReadOptions(format="csv", delimiter=",")
    results = list(Reader([Source("a.csv", home / "a.csv")], options))
    assert [(r.text, r.meta["note"]) for r in results] == rows


# Plain text


def test_a_record_per_line(read):
    results = read("a.txt", "first \r\n\n   \n  third\nlast")
    assert [(r.id, r.text) for r in results] == [
        ("a.txt:1", "first "),
        ("a.txt:4", "  third"),
        ("a.txt:5", "last"),
    ]


def test_a_record_per_file(read):
    (record,) = read("a.md", "# Title\n\nBody\n", per="file")
    assert record == Record("a.md", "# Title\n\nBody\n", {}, "a.md:1")


@pytest.mark.parametrize("per", ["line", "file"])
def test_what_is_no_text(read, per):
    (problem,) = problems(read("a.txt", b"\x93NUMPY\x01\x00v\n\0", per=per))
    assert problem == "a.txt:1: this is no text: there are NUL bytes in it"


def test_a_wrong_byte_in_a_whole_file(read):
    (problem,) = problems(read("a.md", b"one\ntwo\xff\n", per="file"))
    assert problem.startswith("a.md:2: byte 0xff is not utf-8")


# Finding out the format


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"text": "a"}\n{"text": "b"}', ["a", "b"]),
        ('{\n "k": {"text": "a"}}', ["a"]),
        ('[{"text": "a"}]', ["a"]),
        ("id,text\n1,a\n2,b\n", ["a", "b"]),
        ("id\ttext\n1\ta, b\n", ["a, b"]),
        ("Dear all,\nthis, too, is text.\n", ["Dear all,", "this, too, is text."]),
        ("[Chorus]\nla la\n", ["[Chorus]", "la la"]),
        ("{not json}\n", ["{not json}"]),
        ("", []),
    ],
)
def test_format_by_content(read, content, expected):
    assert texts(read("stdin", content)) == expected


def test_format_by_order(read):
    assert texts(read("a.jsonl", "plain\n", format="text")) == ["plain"]
    with pytest.raises(UsageError, match="no input format 'xml'"):
        read("a.xml", "x", format="xml")


# Whole files


def test_a_damaged_end_loses_only_the_end(home, read):
    import gzip

    lines = "".join(f'{{"text": "line {n * 2654435761 % 2**32}"}}\n' for n in range(2000))
    whole = gzip.compress(lines.encode())
    results = read("a.jsonl.gz", whole[: len(whole) // 2])
    kept = [r for r in results if isinstance(r, Record)]
    assert len(kept) > 500
    (problem,) = problems(results)
    assert problem.startswith(f"a.jsonl.gz:{len(kept) + 1}: the compressed data is damaged")


def test_a_file_that_vanished(home):
    (problem,) = Reader([Source("gone.txt", home / "gone.txt")])
    assert str(problem) == "gone.txt:1: cannot be opened (No such file or directory)"


def test_one_bad_file_does_not_hide_the_next(home):
    (home / "bad.json").write_text("{")
    (home / "good.txt").write_text("fine")
    results = list(Reader([Source(n, home / n) for n in ("bad.json", "good.txt")]))
    assert problems(results) == ["bad.json:1: not JSON: the document ends too early"]
    assert results[-1].text == "fine"


def test_reading_streams(home):
    path = home / "a.jsonl"
    path.write_text('{"text": "x"}\n' * 100_000)
    reader = Reader([Source("a.jsonl", path)])
    results = iter(reader)
    next(results)
    assert 0 < reader.bytes_read < path.stat().st_size / 5
    assert path.stat().st_size / 5 > source.SAMPLE_BYTES
