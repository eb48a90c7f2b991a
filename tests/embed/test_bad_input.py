"""The catalogue of bad input: what people put into pairs tables, numbered, and what comes of it.

Numbers are the catalogue's: 1 to 9 spelling of sequences, 10 to 13 other things in their place, 14 to 21 chains and
antigens, 22 to 24 repeats, 25 to 28 affinities, 29 to 33 files, 34 leaking splits (tests/train/test_splits.py) and
35 files that change (a run that goes on: tests/train/test_rundir.py). Each is a small table through `read_pairs`: the
row that it rejects and the exact reason, the change that it counts, the warning, or what refuses the whole file.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from embed import delimited
from embed import table as table_module
from embed.errors import PairsError
from embed.pairs import PairsConfig, read_pairs

H = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYCSRWGGDGFYAMDYW"
    "GQGTLVTVSS"
)
L = "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPPTFGQGTKVEIK"
G = "TQVCTGTDMKLRLPASPETHLDMLRHLYQGCQVVQGNLELTYLPTNASLSFLQDIQEVQGYVLIAHNQVR"
GOOD = {"id": "good", "heavy": H, "light": L, "antigen": G, "kd": "1e-9", "split": "train"}
SETTINGS = {"id": "id", "affinity": "kd", "unit": "M", "split": "split"}


@dataclass(frozen=True)
class Case:
    """One entry of the catalogue."""

    number: int
    name: str
    cells: dict = field(default_factory=dict)
    """What differs from the good row."""
    reason: str = ""
    """Why the row is rejected; empty where it is used."""
    column: str = ""
    """Whose fault it is; empty where that is the one column that differs."""
    change: str = ""
    """What is normalised and counted."""
    warning: str = ""
    settings: dict = field(default_factory=dict)

    def __str__(self):
        return f"{self.number}-{self.name}".replace(" ", "-")


def unresidue(shown, place):
    return f"{shown} at position {place} is no residue; keep the residues alone."


def separator(character, place):
    return (
        f"'{character}' at position {place} separates chains, and a cell holds one; keep the one that binds, "
        "or give each a row."
    )


NO_HEAVY = "no heavy chain; give its sequence, or remove the row."
NO_ANTIGEN = "no antigen; give its sequence, or remove the row."
NO_VALUE = "no value; give one, or remove the row."
NO_NUMBER = "not a number; write it like 1.2e-9 (decimal point, no unit; that goes into pairs.unit)."
NOT_POSITIVE = "a Kd is above 0, and pairs.unit says M; give a value, or remove the row."
CENSORED = 'censored, not a value; set pairs.censored = "drop" to leave such rows out, or "use" to learn from bounds.'
SPREADSHEET = "an error of the spreadsheet that wrote the table; put the value back."
MIXED = "mixed upper and lower case, as damaged exports have it; write it in one case."
GAP = "is an alignment gap; remove the gaps."
SCFV = H + "GGGGS" * 3 + L
DNA = "ATGGCCACTGGATCCAGA" * 5

CASES = [
    Case(1, "lower case", {"heavy": H.lower()}, change="upper-cased"),
    Case(1, "lower case light", {"light": L.lower()}, change="upper-cased"),
    Case(2, "mixed case", {"heavy": H[:40] + H[40:].lower()}, MIXED),
    Case(2, "nan in a sequence", {"heavy": H[:40] + "nan" + H[40:]}, MIXED),
    Case(3, "blanks around", {"antigen": f"  {G}\t"}, change="whitespace removed"),
    Case(3, "carriage return", {"antigen": f"{G}\r"}, change="whitespace removed"),
    Case(3, "no-break space", {"antigen": f"\u00a0{G}"}, change="whitespace removed"),
    Case(3, "zero-width space", {"antigen": f"{G}\u200b"}, change="whitespace removed"),
    Case(3, "byte order mark in a cell", {"antigen": f"\ufeff{G}"}, change="whitespace removed"),
    Case(4, "wrapped", {"heavy": H[:60] + "\n" + H[60:]}, change="whitespace removed"),
    Case(4, "spaced as for T5", {"light": " ".join(L)}, change="whitespace removed"),
    Case(5, "gap of an alignment", {"heavy": H[:9] + "-" + H[9:]}, f"'-' at position 10 {GAP}"),
    Case(5, "gap written as a dot", {"light": L[:6] + ".." + L[6:]}, f"'.' at position 7 {GAP}"),
    Case(6, "stop at the end", {"antigen": G + "*"}, change="terminal * removed"),
    Case(
        6,
        "stop inside",
        {"antigen": G[:7] + "*" + G[7:]},
        "'*' at position 8 is a stop inside the sequence; cut there or correct it.",
    ),
    Case(
        7,
        "unknown residue",
        {"antigen": G + "X"},
        warning="Distinct sequences that hold X, the unknown residue: 1; X is kept.",
    ),
    Case(
        7,
        "many unknown residues",
        {"antigen": G + "X" * 8},
        "8 of 78 residues are unknown (X, B, Z, U or O), and at most 10% may be; is it a protein sequence?",
    ),
    Case(8, "selenocysteine", {"antigen": G + "U"}, change="B/Z/U/O -> X"),
    Case(8, "ambiguous residues", {"antigen": G + "BZO"}, change="B/Z/U/O -> X"),
    Case(9, "J", {"heavy": "J" + H}, unresidue("'J'", 1)),
    Case(9, "digit", {"heavy": H[:3] + "1" + H[3:]}, unresidue("'1'", 4)),
    Case(9, "Cyrillic A", {"heavy": "\u0410" + H}, unresidue(r"'\u0410' (CYRILLIC CAPITAL LETTER A)", 1)),
    Case(9, "full-width E", {"heavy": "\uff25" + H}, unresidue(r"'\uff25' (FULLWIDTH LATIN CAPITAL LETTER E)", 1)),
    Case(
        9,
        "long s, which upper-cases to S",
        {"heavy": "\u017f" + H},
        unresidue(r"'\u017f' (LATIN SMALL LETTER LONG S)", 1),
    ),
    Case(10, "DNA", {"heavy": DNA}, "90 letters, all A, C, G, T or N: this is DNA; translate it to protein."),
    Case(
        10,
        "DNA, lower case",
        {"antigen": DNA.lower()},
        "90 letters, all A, C, G, T or N: this is DNA; translate it to protein.",
    ),
    Case(
        10,
        "RNA",
        {"heavy": DNA.replace("T", "U")},
        "15 of 90 residues are unknown (X, B, Z, U or O), and at most 10% may be; is it a protein sequence?",
    ),
    Case(11, "FASTA header", {"heavy": f">trastuzumab\n{H}"}, "a FASTA header ('>'); keep the residues alone."),
    Case(11, "quotes", {"heavy": f"'{H}'"}, unresidue('"\'"', 1)),
    Case(11, "pyroglutamate", {"heavy": f"(pE){H}"}, unresidue("'('", 1)),
    Case(11, "acetylated", {"antigen": f"[ac]{G}"}, unresidue("'['", 1)),
    Case(12, "mask token", {"heavy": f"{H}<mask>"}, unresidue("'<'", len(H) + 1)),
    Case(12, "padding token", {"light": f"<pad>{L}"}, unresidue("'<'", 1)),
    Case(12, "end token", {"antigen": f"{G[:5]}</s>{G[5:]}"}, unresidue("'<'", 6)),
    *(Case(13, f"heavy {word!r}", {"heavy": word}, NO_HEAVY) for word in ("", "NA", "NaN", "None", "nan", "-", "null")),
    *(Case(13, f"antigen {word!r}", {"antigen": word}, NO_ANTIGEN) for word in ("", " ", "N/A")),
    Case(
        14,
        "heavy and light swapped",
        {"heavy": L, "light": H},
        warning="Rows whose heavy chain ends as light ones do (FGxG), and the light one as heavy ones do (WGxG): "
        "1 (2); are pairs.heavy and pairs.light swapped?",
    ),
    Case(14, "two heavy chains are no swap", {"light": H}),
    Case(
        15,
        "scFv",
        {"heavy": SCFV, "light": ""},
        warning="Rows with a (GGGGS)3 linker in a chain, as scFvs have it: 1 (2); "
        "write their two domains into pairs.heavy and pairs.light.",
    ),
    Case(16, "nanobody", {"light": ""}),
    Case(
        17,
        "whole chain",
        {"heavy": H + "ASTKGPSVFPLAPSSKSTSGGTAALGCLVKDYFPEPVTVSWNSGALTSGVHTFPAVLQSSGLYSLSS"},
        warning="Rows with a chain of over 160 residues, more than a variable domain has: 1 (2); "
        "cut off constant domains, tags and signal peptides.",
    ),
    *(Case(19, f"chains joined by {c}", {"antigen": G + c + G}, separator(c, 71)) for c in ":|/;_"),
    Case(19, "chains joined as SAbDab does", {"antigen": f"{G} | {G}"}, separator("|", 71)),
    Case(19, "heavy and light in one cell", {"heavy": f"{H},{L}"}, separator(",", len(H) + 1)),
    Case(20, "UniProt accession", {"antigen": "P04626"}, unresidue("'0'", 2)),
    Case(20, "PDB code", {"antigen": "1N8Z"}, unresidue("'1'", 1)),
    Case(20, "SMILES", {"antigen": "CC(=O)OC1=CC=CC=C1C(=O)O"}, unresidue("'('", 3)),
    Case(
        20,
        "name of a molecule",
        {"antigen": "GLYCAN"},
        warning="Rows with an antigen of under 10 residues: 1 (2); are they peptides, or names?",
    ),
    Case(20, "gene name", {"antigen": "EGFR"}, "4 residues, and a sequence has at least 5; give the whole of it."),
    Case(21, "too short", {"heavy": "EV"}, "2 residues, and a sequence has at least 5; give the whole of it."),
    Case(
        21, "too long", {"antigen": G * 143}, "10,010 residues, and at most 10,000 may be; give the domain that binds."
    ),
    Case(
        21,
        "one residue over and over",
        {"antigen": G + "Q" * 10},
        warning="Rows with a sequence that repeats a residue 10 times: 1 (2); are they typing mistakes?",
    ),
    Case(22, "the same row again", {"id": "good"}, change="duplicate rows merged"),
    Case(
        23,
        "replicates that contradict each other",
        {"kd": "1e-7"},
        warning="Pairs whose replicates are more than 1 log unit apart: 1 ('good' 2.00); their median is used.",
    ),
    Case(24, "one sequence, two ids", {"antigen": G + "A"}),
    *(Case(26, f"Kd {kd}", {"kd": kd}, NOT_POSITIVE) for kd in ("0", "-1e-9", "0.0")),
    Case(26, "Kd beyond any number", {"kd": "1e999"}, "not finite; give a value, or remove the row."),
    *(Case(26, f"Kd {kd!r}", {"kd": kd}, NO_VALUE) for kd in ("", "NaN", "N/A")),
    Case(26, "Kd inf", {"kd": "inf"}, NO_NUMBER),
    *(
        Case(27, f"censored {kd}", {"kd": kd}, CENSORED)
        for kd in (">1e-6", "<1e-12", "~1e-8", "≥1e-6", "n.b.", "ND", "unf", "no binding")
    ),
    *(
        Case(28, f"affinity {kd}", {"kd": kd}, NO_NUMBER)
        for kd in ("1,2e-9", "1.000,5", "1.2 nM", "1e-9M", "(5.0±0.3)e-9", "1_000")
    ),
    Case(29, "a formula's error for an id", {"id": "#REF!"}, SPREADSHEET),
    Case(29, "a formula's error for a part", {"split": "#N/A"}, SPREADSHEET),
    Case(29, "a formula's error for an affinity", {"kd": "#VALUE!"}, NO_NUMBER),
    Case(29, "a formula's error for a sequence", {"heavy": "#NAME?"}, unresidue("'#'", 1)),
    *(
        Case(
            29,
            f"id {word}",
            {"id": word, "antigen": G + "A"},
            warning=f"Ids that look like a spreadsheet's numbers or dates: 1 ({word!r}); were they names such as 4E10?",
        )
        for word in ("4.00E+10", "1E+08", "1-Mar", "Sep-02")
    ),
    *(
        Case(29, f"id {word}", {"id": word, "antigen": G + "A"})
        for word in ("4E10", "10E8", "007", "2021-03-04", "true")
    ),
    Case(18, "long antigen", {"antigen": G * 15}),
    Case(
        32,
        "huge cell",
        {"antigen": G * 20_000},
        "1,400,000 residues, and at most 10,000 may be; give the domain that binds.",
    ),
]


def write(folder, rows, name="pairs.csv"):
    path = folder / name
    columns = {column: [row[column] for row in rows] for column in GOOD}
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.table(columns), path)
    else:
        quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row.values()) for row in rows]
        path.write_text("\n".join([",".join(GOOD), *quoted]) + "\n", encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_bad_cell(tmp_path, case, suffix, figure):
    """Beside a good row, the bad one is rejected with its reason, or used and told of; from either format."""
    row = GOOD | {"id": "bad"} | case.cells
    path = write(tmp_path, [GOOD, row], f"pairs.{suffix}")
    config = {"path": path, "on_bad_row": "reject"} | SETTINGS | case.settings
    read = read_pairs(PairsConfig(**config))
    (column,) = [case.column] if case.column or not case.reason else case.cells
    told = [(rejected.row, rejected.id, rejected.column, rejected.value, rejected.reason) for rejected in read.rejected]
    assert told == ([(2, row["id"], column, row[column], case.reason)] if case.reason else [])
    changes = {change: count for change, count in read.normalised.items() if change != "duplicate rows merged"}
    if case.change == "duplicate rows merged":
        changes = read.normalised
    assert changes == ({case.change: 1} if case.change else {})
    expected = (case.warning,) if case.warning else ()
    unknown = tuple(w for w in read.warnings if case.number == 8 and w.startswith("Distinct sequences that hold X"))
    assert tuple(w for w in read.warnings if w not in unknown) == expected
    figure("entries of the catalogue of bad input", suffix == "csv")


@pytest.mark.parametrize("case", [case for case in CASES if case.reason], ids=str)
def test_a_bad_cell_stops_the_run_unless_told_otherwise(tmp_path, case):
    """The default refuses the whole table, and says row, id, column, value and reason."""
    row = GOOD | {"id": "bad"} | case.cells
    (column,) = [case.column] if case.column else case.cells
    with pytest.raises(PairsError) as caught:
        read_pairs(PairsConfig(path=write(tmp_path, [GOOD, row]), **(SETTINGS | case.settings)))
    first, second = str(caught.value).split("\n")
    assert first == (
        "1 of the 2 rows of pairs.csv cannot be used; correct them, or set "
        'pairs.on_bad_row = "reject" to list them in rejected.csv and go on:'
    )
    value = row[column] if len(row[column]) <= 40 else row[column][:37] + "..."
    assert second == f"  row 2, id {row['id']!r}, {column} {value!r}: {case.reason}"


def refused(path, message, **settings):
    with pytest.raises(PairsError, match=f"^{re.escape(message)}$"):
        read_pairs(PairsConfig(**({"path": path, "on_bad_row": "reject"} | SETTINGS | settings)))


def test_16_a_missing_light_chain_without_an_encoder_for_it(tmp_path):
    """Where embed.single_chain = "error", an antibody without light chain is a bad row."""
    path = write(tmp_path, [GOOD, GOOD | {"id": "vhh", "light": ""}])
    read = read_pairs(PairsConfig(path=path, on_bad_row="reject", **SETTINGS), single_chain=False)
    (rejected,) = read.rejected
    assert rejected.reason == (
        'no light chain, and embed.single_chain = "error" refuses that; give its sequence, or set '
        'embed.single_chain to "same" or to a single-chain encoder.'
    )


def test_18_a_long_antigen_under_embed_long_error(tmp_path):
    """Where embed.long = "error", an antigen over the window is a bad row."""
    path = write(tmp_path, [GOOD, GOOD | {"id": "long", "antigen": G * 15}])
    read = read_pairs(PairsConfig(path=path, on_bad_row="reject", **SETTINGS), longest_antigen=1022)
    (rejected,) = read.rejected
    assert rejected.reason == (
        '1,050 residues, and embed.long = "error" allows 1,022; set embed.long to "window" or "truncate", '
        "or shorten the sequence."
    )


def test_23_a_pair_in_two_parts(tmp_path):
    """Replicates are never in two parts of a split."""
    path = write(tmp_path, [GOOD, GOOD | {"split": "test"}])
    refused(
        path,
        "Rows in another part of the split than an earlier row of their pair: 1. Give all rows of a pair the same "
        "value in column 'split':\n  'good': row 1 'train', row 2 'test'",
    )


def test_23_replicates_that_contradict_each_other_can_be_refused(tmp_path):
    """With replicates = "strict" they stop the run."""
    path = write(tmp_path, [GOOD, GOOD | {"kd": "1e-7"}])
    message = (
        "Pairs whose replicates are more than 1 log unit apart: 1 ('good' 2.00); remove wrong rows, or set "
        'pairs.replicates = "median".'
    )
    refused(path, message, replicates="strict")


def test_24_one_id_for_two_sequences(tmp_path):
    """Nobody knows which is right, so no row of the id is used."""
    rows = [GOOD, GOOD | {"id": "b"}, GOOD | {"id": "b", "antigen": G + "A"}]
    read = read_pairs(PairsConfig(path=write(tmp_path, rows), on_bad_row="reject", **SETTINGS))
    assert [rejected.row for rejected in read.rejected] == [2, 3]
    assert {rejected.reason for rejected in read.rejected} == {
        'rows 2 and 3 have this id and different sequences; give every pair its own id, or set pairs.id = "" to '
        "number the rows."
    }


UNITS = [
    (
        ["5", "20", "33"],
        "M",
        "The median of column 'kd', 20, is a pKd of -1.301 in pairs.unit = 'M', and plausible is 3 to 12. Set "
        "pairs.unit to the unit of the column; plausible would be uM 4.7, nM 7.7, pM 10.7.",
    ),
    (
        ["8.1", "9", "9.5"],
        "log10_M",
        "The median of column 'kd', 9, is a pKd of -9 in pairs.unit = 'log10_M', and plausible is 3 to 12. Set "
        "pairs.unit to the unit of the column; plausible would be pkd 9, uM 5.05, nM 8.05, pM 11.",
    ),
    (
        ["9", "8"] * 40 + ["17"],
        "pkd",
        "Values in column 'kd' that pairs.unit = 'pkd' makes no pKd between 0 and 16: 1 of 81, and at most 1% may be "
        "so; correct them, or the unit.",
    ),
]


@pytest.mark.parametrize(("values", "unit", "message"), UNITS)
def test_25_a_wrong_unit(tmp_path, values, unit, message):
    """A whole column that its unit makes implausible is refused, and the units that would do are named."""
    rows = [GOOD | {"id": str(n), "antigen": G + "AC" * n, "kd": value} for n, value in enumerate(values)]
    refused(write(tmp_path, rows), message, unit=unit)


def test_25_molar_values_declared_as_pkd(tmp_path):
    """Each is refused by itself."""
    path = write(tmp_path, [GOOD | {"kd": "9.1"}, GOOD | {"id": "b", "antigen": G + "A"}])
    (rejected,) = read_pairs(PairsConfig(**SETTINGS | {"path": path, "on_bad_row": "reject", "unit": "pkd"})).rejected
    assert rejected.reason == 'too small for a pKd, probably molar; set pairs.unit = "M", or the unit it is in.'


def test_27_censored_rows_can_be_left_out(tmp_path):
    """With censored = "drop" they are listed and do not stop the run."""
    path = write(tmp_path, [GOOD, GOOD | {"id": "b", "kd": "n.b."}])
    read = read_pairs(PairsConfig(path=path, censored="drop", **SETTINGS))
    assert [(rejected.row, rejected.reason) for rejected in read.rejected] == [
        (2, "censored, not a value; left out, as pairs.censored says.")
    ]


HEADER = ",".join(GOOD)
LINE = ",".join(GOOD.values())
NAME_THEM = "Name the right ones in [pairs]"
FILES = [
    (30, "byte order mark", "pairs.csv", f"\ufeff{HEADER}\n{LINE}\n".encode(), ""),
    (
        30,
        "UTF-16",
        "pairs.csv",
        f"{HEADER}\n{LINE}\n".encode("utf-16"),
        "pairs.csv is UTF-16 (Excel's Unicode Text); save it as CSV UTF-8.",
    ),
    (
        30,
        "Latin-1",
        "pairs.csv",
        f"{HEADER},note (µM)\n{LINE},x\n".encode("latin-1"),
        "pairs.csv is not UTF-8: byte 0xb5 in line 1 is 'µ' in Latin-1 or Windows-1252; save it as CSV UTF-8.",
    ),
    (
        30,
        "two encodings",
        "pairs.csv",
        f"{HEADER},note (µM)\n".encode() + f"{LINE},Köln\n".encode("latin-1"),
        "pairs.csv is not UTF-8: byte 0xf6 in line 2 is 'ö' in Latin-1 or Windows-1252; save it as CSV UTF-8.",
    ),
    (
        30,
        "NUL",
        "pairs.csv",
        f"{HEADER}\n{LINE}\0\n".encode(),
        "pairs.csv holds NUL bytes: it is UTF-16 or no text; save it as CSV UTF-8.",
    ),
    (
        31,
        "semicolons",
        "pairs.csv",
        f"{HEADER}\n{LINE}\n".replace(",", ";").encode(),
        "pairs.csv is separated by semicolons; save it with commas as .csv or with tabs as .tsv.",
    ),
    (
        31,
        "tabs in .csv",
        "pairs.csv",
        f"{HEADER}\n{LINE}\n".replace(",", "\t").encode(),
        "pairs.csv is separated by tabs; save it with commas as .csv or with tabs as .tsv.",
    ),
    (
        31,
        "ragged row",
        "pairs.csv",
        f"{HEADER}\n{LINE}\n{LINE},more\n".encode(),
        "pairs.csv: data row 2 has 7 cells and the header 6 (rows that differ: 1). Give every row all cells, and quote "
        "those that hold ','.",
    ),
    (
        31,
        "two columns of one name",
        "pairs.csv",
        f"{HEADER},heavy\n{LINE},EVQ\n".encode(),
        "pairs.csv has 2 columns 'heavy', and pairs.heavy needs one; rename the others.",
    ),
    (
        31,
        "missing column",
        "pairs.csv",
        f"{HEADER}\n{LINE}\n".replace("heavy", "VH").encode(),
        f"pairs.csv has no column 'heavy' (pairs.heavy). {NAME_THEM}; it has 'id', 'VH', 'light', 'antigen', 'kd', "
        "'split'.",
    ),
    (
        31,
        "no header",
        "pairs.csv",
        f"{LINE}\n{LINE}\n".encode(),
        "pairs.csv has no header: its first line holds sequences; put column names above it.",
    ),
    (31, "empty", "pairs.csv", b"", "pairs.csv is empty; give it a header line and a row for each pair."),
    (
        31,
        "header alone",
        "pairs.csv",
        f"{HEADER}\n".encode(),
        "pairs.csv has a header and no rows; give it a row for each pair.",
    ),
    (
        31,
        "unclosed quote",
        "pairs.csv",
        f'{HEADER}\n{LINE},\n"{LINE}\n{LINE}\n'.encode(),
        "pairs.csv: data row 1 has 7 cells and the header 6 (rows that differ: 2). Give every row all cells, and quote "
        "those that hold ','.",
    ),
]


@pytest.mark.parametrize(("number", "kind", "name", "content", "message"), FILES, ids=lambda v: str(v)[:20])
def test_a_bad_file(tmp_path, number, kind, name, content, message, figure):
    """Files that would be misread are refused as a whole, with the place and the way out."""
    path = tmp_path / name
    path.write_bytes(content)
    figure("entries of the catalogue of bad input", 1)
    if message:
        refused(path, message)
    else:
        assert read_pairs(PairsConfig(path=path, **SETTINGS)).rows == 1


def test_32_a_row_larger_than_what_is_read_at_once(tmp_path, monkeypatch):
    """It is named as what it is, not as a riddle about blocks."""
    monkeypatch.setattr(delimited, "_BLOCK", 1 << 16)
    path = tmp_path / "pairs.csv"
    path.write_text(f"{HEADER}\n{LINE}\n{LINE.replace(G, 'A' * 200_000)}\n")
    refused(path, "pairs.csv has a row of over 65,536 bytes; close the quote that opens it, or shorten its cells.")


ONE = pa.array([H, H])
ACCEPTED = {
    "dictionary": ONE.dictionary_encode(),
    "categorical with unused": pa.DictionaryArray.from_arrays(pa.array([1, 1]), pa.array(["unused", H])),
    "large_string": ONE.cast(pa.large_string()),
    "string_view": ONE.cast(pa.string_view()),
}
REFUSED = {
    "list<element: string>": pa.array([list(H), list(H)]),
    "struct<seq: string>": pa.array([{"seq": H}, {"seq": H}]),
    "binary": ONE.cast(pa.binary()),
    "double": pa.array([1.5, 2.5]),
    "date32[day]": pa.array([1, 2], pa.date32()),
    "timestamp[ms]": pa.array([1, 2], pa.timestamp("ms")),
}


def parquet(folder, heavy):
    path = folder / "pairs.parquet"
    columns = {column: [value] * 2 for column, value in GOOD.items()}
    pyarrow.parquet.write_table(pa.table(columns | {"heavy": heavy}), path)
    return path


@pytest.mark.parametrize("kind", ACCEPTED)
def test_33_parquet_types_that_are_text(tmp_path, kind):
    """However it is encoded, text is text."""
    read = read_pairs(PairsConfig(path=parquet(tmp_path, ACCEPTED[kind]), **SETTINGS))
    assert list(read.antibodies) == [(H, L)]


@pytest.mark.parametrize("kind", REFUSED)
def test_33_parquet_types_that_are_not(tmp_path, kind):
    """Lists of letters, bytes, nested values and numbers are not guessed at."""
    message = f"column 'heavy' (pairs.heavy) is of type {kind}; save it as a column of strings."
    refused(parquet(tmp_path, REFUSED[kind]), message)


def test_33_a_parquet_column_of_text_that_is_not_utf8(tmp_path):
    """Arrow believes the type that a file claims; the cells are checked all the same."""
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 2, 4], np.int32)), pa.py_buffer(b"E\xb5E\xb5")]
    )
    with pytest.raises(PairsError, match=r"cannot be read \(.*[Ii]nvalid UTF8.*\); save it anew\.$"):
        read_pairs(PairsConfig(path=parquet(tmp_path, broken), **SETTINGS))


def test_35_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    """The digest in a run's record is that of the rows that were used."""
    path = write(tmp_path, [GOOD])
    read_cells = table_module.read_cells

    def append_meanwhile(where: Path, *rest):
        cells = read_cells(where, *rest)
        where.write_text(f"{HEADER}\n{LINE}\n{LINE}\n")
        return cells

    monkeypatch.setattr(table_module, "read_cells", append_meanwhile)
    refused(path, "pairs.csv changed while it was read; run the same command again.")
