"""Files become text columns cell for cell, and files that would be misread are refused."""

import hashlib
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from embed.errors import PairsError
from embed.table import read_columns

NAMES = {"id": "ab_id", "heavy": "heavy"}
LONG = "EVQLVESGGGLVQPGGSLRLSCAAS"


def cells(column):
    return [None if code < 0 else column.cells[code] for code in column.code_R.tolist()]


def refused(path, message, names=NAMES):
    with pytest.raises(PairsError, match=f"^{re.escape(message)}$"):
        read_columns(path, names)


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


TRAPS = [
    "4E10",
    "10E8",
    "007",
    "NAN",
    "NULL",
    "NA",
    "",
    "2021-03-04",
    "12345678901234567890",
    "true",
    ">1e-6",
    " 1 ",
]


@pytest.mark.parametrize(("name", "delimiter"), [("t.csv", ","), ("t.tsv", "\t"), ("T.CSV", ",")])
def test_cells_stay_as_they_are_written(tmp_path, name, delimiter):
    """Antibody names that look like numbers, dates or nulls survive."""
    lines = [
        delimiter.join(["ab_id", "other", "heavy"]),
        *(delimiter.join([trap, "1", "EVQ"]) for trap in TRAPS),
    ]
    path = written(tmp_path, name, "\n".join(lines))
    table = read_columns(path, NAMES)
    assert cells(table.text["id"]) == TRAPS
    assert list(table.text["heavy"].cells) == ["EVQ"]
    assert table.rows == len(TRAPS)
    assert table.digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("start", ["", "\ufeff", "\n\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_and_byte_order_mark(tmp_path, start, end):
    """Windows, Unix and old line ends, a byte order mark and empty lines do no harm."""
    path = written(tmp_path, "t.csv", start + end.join(["ab_id,heavy", "a,EVQ", "", "b,QVQ", ""]))
    table = read_columns(path, NAMES)
    assert cells(table.text["id"]) == ["a", "b"]


def test_quoted_cells_may_hold_delimiters_quotes_and_lines(tmp_path):
    """A wrapped sequence in quotes is one cell; other columns may have duplicate names."""
    path = written(tmp_path, "t.csv", 'x,x,ab_id,heavy\n1,2,"a,""b""","EVQ\nLVE"\n1,2,5" b,QVQ\n')
    table = read_columns(path, NAMES)
    assert cells(table.text["id"]) == ['a,"b"', '5" b']
    assert cells(table.text["heavy"]) == ["EVQ\nLVE", "QVQ"]


def test_names_may_hold_other_delimiters(tmp_path):
    """The delimiter is only guessed where a column is missing."""
    table = read_columns(written(tmp_path, "t.csv", "ab_id,heavy,k;o;n;s\na,EVQ,1\n"), NAMES)
    assert cells(table.text["heavy"]) == ["EVQ"]


def test_a_wrong_byte_far_into_a_file_has_its_line(tmp_path):
    """Lines are counted over all read blocks."""
    body = b"ab_id,heavy\na," + b"E" * (17 << 20) + b"\nb,\xb5\n"
    message = "t.csv is not UTF-8: byte 0xb5 in line 3 is 'µ' in Latin-1 or Windows-1252; save it as CSV UTF-8."
    refused(written(tmp_path, "t.csv", body), message)


def test_one_column_may_have_two_roles(tmp_path):
    """Sequences may name themselves."""
    table = read_columns(written(tmp_path, "t.csv", "heavy,b\nEVQ,1\n"), {"id": "heavy", "heavy": "heavy"})
    assert cells(table.text["id"]) == cells(table.text["heavy"]) == ["EVQ"]


def test_blocks_share_their_dictionary(tmp_path):
    """A file of many read blocks has each distinct cell once."""
    filler = "x" * 4096
    body = "".join(f"{i % 7},{'ACD'[i % 3]},{filler}\n" for i in range(12_000))
    table = read_columns(written(tmp_path, "t.csv", "ab_id,heavy,filler\n" + body), NAMES)
    assert list(table.text["heavy"].cells) == ["A", "C", "D"]
    assert cells(table.text["id"]) == [str(i % 7) for i in range(12_000)]


WRONG = [
    ("t.csv", "", "t.csv is empty; give it a header line and a row for each pair."),
    (
        "t.csv",
        "ab_id;heavy\na;EVQ\n",
        "t.csv is separated by semicolons; save it with commas as .csv or with tabs as .tsv.",
    ),
    (
        "t.csv",
        "ab_id\theavy\na\tEVQ\n",
        "t.csv is separated by tabs; save it with commas as .csv or with tabs as .tsv.",
    ),
    (
        "t.tsv",
        "ab_id,heavy\na,EVQ\n",
        "t.tsv is separated by commas; save it with commas as .csv or with tabs as .tsv.",
    ),
    (
        "t.tsv",
        "ab_id|heavy\na|EVQ\n",
        "t.tsv is separated by bars; save it with commas as .csv or with tabs as .tsv.",
    ),
    (
        "t.csv",
        f"a,{LONG}\nb,{LONG}\n",
        "t.csv has no header: its first line holds sequences; put column names above it.",
    ),
    (
        "t.csv",
        "ab_id,Heavy\na,EVQ\n",
        "t.csv has no column 'heavy' (pairs.heavy, nearest 'Heavy'). "
        "Name the right ones in [pairs]; it has 'ab_id', 'Heavy'.",
    ),
    (
        "t.csv",
        "x,VH\na,EVQ\n",
        "t.csv has no column 'ab_id' (pairs.id), 'heavy' (pairs.heavy). "
        "Name the right ones in [pairs]; it has 'x', 'VH'.",
    ),
    (
        "t.csv",
        "ab_id,heavy,heavy\na,E,V\n",
        "t.csv has 2 columns 'heavy', and pairs.heavy needs one; rename the others.",
    ),
    (
        "t.csv",
        "ab_id,heavy\na,EVQ\n\nb,E,V\nc\n",
        "t.csv: data row 2 has 3 cells and the header 2 (rows that differ: 2). "
        "Give every row all cells, and quote those that hold ','.",
    ),
    (
        "t.csv",
        "ab_id,heavy\na,EVQ\n".encode("utf-16"),
        "t.csv is UTF-16 (Excel's Unicode Text); save it as CSV UTF-8.",
    ),
    (
        "t.csv",
        "ab_id,heavy\na,EVQ\n".encode("utf-16-le"),
        "t.csv holds NUL bytes: it is UTF-16 or no text; save it as CSV UTF-8.",
    ),
    (
        "t.csv",
        b"ab_id,heavy\na,E\0Q\n",
        "t.csv holds NUL bytes: it is UTF-16 or no text; save it as CSV UTF-8.",
    ),
    (
        "t.csv",
        "ab_id,heavy,Kd (µM)\na,EVQ,1\n".encode("latin-1"),
        "t.csv is not UTF-8: byte 0xb5 in line 1 is 'µ' in Latin-1 or Windows-1252; save it as CSV UTF-8.",
    ),
    (
        "t.csv",
        "ab_id,heavy,note\na,EVQ,fine\nb,QVQ,Köln\n".encode("latin-1"),
        "t.csv is not UTF-8: byte 0xf6 in line 3 is 'ö' in Latin-1 or Windows-1252; save it as CSV UTF-8.",
    ),
    (
        "t.csv",
        'ab_id,heavy,note\na,EVQ,"x\nb,EVQ,"y\nc,EVQ,z\n',
        "t.csv: a cell of column 'note' that starts 'x\\nb,EVQ,y' holds whole lines; "
        "close the quote before it, or take the line breaks out of the cell.",
    ),
    (
        "t.csv",
        'ab_id,heavy\na,"EVQ\nb,EVQ\n',
        "t.csv: a cell of column 'heavy' that starts 'EVQ\\nb,EVQ\\n' holds whole lines; "
        "close the quote before it, or take the line breaks out of the cell.",
    ),
]


@pytest.mark.parametrize(("name", "content", "message"), WRONG)
def test_files_that_would_be_misread_are_refused(tmp_path, name, content, message):
    """Each mistake has its own words, which name the file, the place and the way out."""
    refused(written(tmp_path, name, content), message)


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", b"a,b\n1,2\n"])
def test_a_damaged_parquet_file_is_refused(tmp_path, content):
    """What is no Parquet file says so under its name."""
    path = written(tmp_path, "t.parquet", content)
    with pytest.raises(PairsError, match=re.escape(f"pairs.path = {str(path)!r} cannot be read (")):
        read_columns(path, NAMES)


def test_files_that_are_not_there(tmp_path):
    """A wrong path, a folder and another format are told apart."""
    path = tmp_path / "no.csv"
    refused(path, f"pairs.path = {str(path)!r} does not exist; set it to the pairs table.")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(PairsError, match=r"cannot be read \(.*[Ii]s a directory"):
        read_columns(tmp_path / "d.csv", NAMES)
    book = tmp_path / "t.xlsx"
    refused(book, f"pairs.path = {str(book)!r} is none of .csv, .tsv and .parquet; save it as one of them.")


def parquet(tmp_path, **columns):
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()), pa.int64()])
def test_row_groups_share_their_cells(tmp_path, kind):
    """A file of many row groups has each distinct cell once."""
    numbers = [str(7 * i % 11) for i in range(100)]
    path = tmp_path / "t.parquet"
    plain = pa.array(numbers) if kind != pa.int64() else pa.array(map(int, numbers))
    pyarrow.parquet.write_table(pa.table({"ab_id": plain.cast(kind)}), path, row_group_size=7)
    table = read_columns(path, {"id": "ab_id"})
    assert (table.rows, cells(table.text["id"])) == (100, numbers)
    assert list(table.text["id"].cells) == list(dict.fromkeys(numbers))


TEXT = ["EVQ", None, "EVQ", "QVQ"]


@pytest.mark.parametrize(
    "array",
    [
        pa.array(TEXT),
        pa.array(TEXT, pa.large_string()),
        pa.array(TEXT, pa.string_view()),
        pa.array(TEXT).dictionary_encode(),
        pa.DictionaryArray.from_arrays(pa.array([2, None, 2, 1], pa.int8()), pa.array(["unused-1", "QVQ", "EVQ"])),
        pa.chunked_array([TEXT[:1], TEXT[1:]]),
    ],
    ids=["string", "large_string", "string_view", "dictionary", "categorical", "chunks"],
)
def test_every_parquet_text_type_is_read(tmp_path, array):
    """Text is text however it is encoded, and null is no text."""
    table = read_columns(parquet(tmp_path, heavy=array), {"heavy": "heavy"})
    assert cells(table.text["heavy"]) == TEXT


def test_whole_numbers_and_nulls_become_text(tmp_path):
    """Ids may be integers, and a light column may be all null."""
    path = parquet(tmp_path, ab_id=pa.array([7, 10]), light=pa.nulls(2), code=pa.array([3, 4]).dictionary_encode())
    table = read_columns(path, {"id": "ab_id", "light": "light", "split": "code"})
    assert [cells(table.text[role]) for role in ("id", "light", "split")] == [
        ["7", "10"],
        [None, None],
        ["3", "4"],
    ]


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array([["E", "V"]]), "list<element: string>"),
        (pa.array([b"EVQ"]), "binary"),
        (pa.array([{"seq": "EVQ"}]), "struct<seq: string>"),
        (pa.array([1.5]), "double"),
    ],
)
def test_other_parquet_types_are_refused(tmp_path, array, kind):
    """Lists of characters, bytes and nested values are not guessed at."""
    message = f"column 'heavy' (pairs.heavy) is of type {kind}; save it as a column of strings."
    refused(parquet(tmp_path, heavy=array), message, {"heavy": "heavy"})


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1.1, None, 3.0]),
        pa.array([1.1, None, 3.0], pa.float64()).dictionary_encode(),
        pa.array([1, None, 3]),
    ],
    ids=["double", "categorical", "int"],
)
def test_parquet_numbers_stay_numbers(tmp_path, array):
    """A numeric role keeps float64 without a way through text; the same column under another role does not."""
    path = parquet(tmp_path, kd=array, heavy=pa.array(["E", "V", "Q"]))
    table = read_columns(path, {"affinity": "kd", "heavy": "heavy"}, numeric="affinity")
    assert cells(table.numbers["affinity"]) == [array[0].as_py(), None, 3.0]
    assert list(table.text) == ["heavy"]


def test_numbers_in_a_text_column_stay_text(tmp_path):
    """A Parquet affinity column of strings is read like one of a CSV file."""
    table = read_columns(parquet(tmp_path, kd=pa.array(["1.10", ">5"])), {"affinity": "kd"}, numeric="affinity")
    assert cells(table.text["affinity"]) == ["1.10", ">5"]
    assert not table.numbers


def test_parquet_names_with_dots_and_doubles(tmp_path):
    """A dot in a name is no path; a doubled name is refused only where it is needed."""
    schema = pa.schema([("a.b", pa.string()), ("x", pa.string()), ("x", pa.string())])
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pa.Table.from_arrays([pa.array(["EVQ"])] * 3, schema=schema), path)
    assert cells(read_columns(path, {"heavy": "a.b"}).text["heavy"]) == ["EVQ"]
    refused(path, "t.parquet has 2 columns 'x', and pairs.heavy needs one; rename the others.", {"heavy": "x"})
    message = "t.parquet has no column 'heavy' (pairs.heavy). Name the right ones in [pairs]; it has 'a.b', 'x', 'x'."
    refused(path, message, {"heavy": "heavy"})


def test_columns_of_different_lengths_are_refused(tmp_path):
    """Read one by one, a column that lost a row would shift all below it to other pairs."""
    whole = parquet(tmp_path, heavy=["E", "V"]).read_bytes()
    # rows of the file and of its only row group: i64 fields of the Thrift footer, 2 and 3 in its zigzag
    path = written(tmp_path, "t.parquet", whole.replace(b"\x16\x04", b"\x16\x06"))
    with pytest.raises(
        PairsError, match=r"^t\.parquet is damaged: column 'heavy' has 2 of 3 rows in row group 1; save it anew\.$"
    ):
        read_columns(path, {"heavy": "heavy"})


def test_no_rows_give_empty_columns(tmp_path):
    """A header alone is a table of nothing."""
    for path in (
        written(tmp_path, "t.csv", "ab_id,heavy\n"),
        parquet(tmp_path, ab_id=pa.array([], pa.string()), heavy=pa.nulls(0)),
    ):
        table = read_columns(path, NAMES)
        assert (table.rows, list(table.text["id"].cells)) == (0, [])
        assert table.text["id"].code_R.dtype == np.int32
