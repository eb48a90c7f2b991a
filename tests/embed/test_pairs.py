"""The pairs table: distinct pairs out of rows, and every other row rejected in words that help."""

import csv
import hashlib
import re
import time
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embed.errors import PairsError
from embed.pairs import PairsConfig, RejectedRow, read_pairs, write_rejected

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared tables are not here")

H, H2, L, L2, G, G2 = "EVQLVESGGG", "QVQLQQSGAE", "DIQMTQSPSS", "EIVLTQSPAT", "MKTAYIAKQR", "SLYNTVATLY"


def table(folder, rows, *, header="id,heavy,light,antigen,kd,split", name="pairs.csv"):
    path = folder / name
    path.write_text("\n".join([header, *(",".join(row) if isinstance(row, tuple) else row for row in rows)]) + "\n")
    return path


def config(path, **settings):
    return PairsConfig(**{"path": path, "id": "id", "affinity": "kd", "unit": "M"} | settings)


def reason_of(folder, row, **settings):
    """The reason for which one row beside a good one is rejected."""
    good = ("good", H2, L2, G2, "1e-9", "train")
    read = read_pairs(config(table(folder, [good, row]), on_bad_row="reject", **settings))
    (rejected,) = read.rejected
    assert rejected.row == 2
    assert read.pair_of_row.tolist() == [0, -1]
    return rejected


def test_a_small_table(tmp_path):
    """Distinct antibodies, antigens and pairs in the order of first appearance; rows point to their pairs."""
    path = table(
        tmp_path,
        [
            ("a", H, L, G, "1e-9", "train"),
            ("b", H, "", G, "1e-8", "test"),
            ("c", H.lower(), L, G2, "1e-7", "valid"),
            ("d", H, f" {L}", G, "1e-10", "train"),
        ],
    )
    read = read_pairs(config(path, split="split"))
    assert list(read.id) == ["a", "b", "c"]
    assert list(read.antibodies) == [(H, L), (H, None)]
    assert list(read.antigens) == [G, G2]
    assert read.pair_N2.tolist() == [[0, 0], [1, 0], [0, 1]]
    assert read.pair_N2.dtype == read.replicates_N.dtype == np.int32
    np.testing.assert_allclose(read.affinity_N, [9.5, 8.0, 7.0], rtol=1e-14)
    assert list(read.split) == ["train", "test", "valid"]
    assert read.replicates_N.tolist() == [2, 1, 1]
    assert read.pair_of_row.tolist() == [0, 1, 2, 0]
    assert list(read.row_ids) == ["a", "b", "c", "d"]
    assert read.rows == 4
    assert read.rejected == read.warnings == ()
    assert read.normalised == {"upper-cased": 1, "whitespace removed": 1}
    assert read.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_id_affinity_light_and_split_are_optional(tmp_path):
    """Two sequences are enough: rows are numbered, and nothing else is known."""
    read = read_pairs(PairsConfig(path=table(tmp_path, [(H, G), (H2, G)], header="heavy,antigen"), light=""))
    assert (list(read.id), read.affinity_N, read.split) == (["1", "2"], None, None)
    assert list(read.antibodies) == [(H, None), (H2, None)]


def test_a_table_without_light_column_is_told_how_to_say_so(tmp_path):
    """The default expects one; the message names the setting for tables of nanobodies."""
    path = table(tmp_path, [(H, G)], header="heavy,antigen")
    message = (
        "pairs.csv has no column 'light' (pairs.light). Name the right ones in [pairs] "
        "(pairs.light = \"\" where no antibody has a light chain); it has 'heavy', 'antigen'."
    )
    with pytest.raises(PairsError, match=f"^{re.escape(message)}$"):
        read_pairs(PairsConfig(path=path))


@pytest.mark.parametrize("role", ["heavy", "antigen"])
def test_every_pair_needs_its_two_sequences(role):
    """The two columns that cannot be left out are named."""
    with pytest.raises(PairsError, match=f'^pairs.{role} = "": every pair needs one; name its column.$'):
        PairsConfig(path=Path("t.csv"), **{role: ""})


BAD_CELLS = [
    ({"heavy": ""}, "heavy", "", "no heavy chain; give its sequence, or remove the row."),
    ({"heavy": "nan"}, "heavy", "nan", "no heavy chain; give its sequence, or remove the row."),
    ({"antigen": "NA"}, "antigen", "NA", "no antigen; give its sequence, or remove the row."),
    ({"heavy": "EV-Q"}, "heavy", "EV-Q", "'-' at position 3 is an alignment gap; remove the gaps."),
    ({"light": "DIQ1"}, "light", "DIQ1", "'1' at position 4 is no residue; keep the residues alone."),
    ({"kd": ""}, "kd", "", "no value; give one, or remove the row."),
    ({"kd": "0"}, "kd", "0", "a Kd is above 0, and pairs.unit says M; give a value, or remove the row."),
    (
        {"kd": "1.2 nM"},
        "kd",
        "1.2 nM",
        "not a number; write it like 1.2e-9 (decimal point, no unit; that goes into pairs.unit).",
    ),
    (
        {"kd": ">1e-6"},
        "kd",
        ">1e-6",
        'censored, not a value; set pairs.censored = "drop" to leave such rows out, or "use" to learn from bounds.',
    ),
    ({"id": " "}, "id", " ", 'no id; give one, or set pairs.id = "" to number the rows.'),
    ({"split": ""}, "split", "", "no value; name the row's part of the split."),
]


@pytest.mark.parametrize(("change", "column", "value", "reason"), BAD_CELLS)
def test_a_bad_cell_rejects_its_row(tmp_path, change, column, value, reason):
    """Each bad cell has its column, value and reason in the list of rejected rows."""
    row = {"id": "bad", "heavy": H, "light": L, "antigen": G, "kd": "1e-8", "split": "test"} | change
    rejected = reason_of(tmp_path, tuple(row.values()), split="split")
    assert rejected == RejectedRow(row=2, id=row["id"], column=column, value=value, reason=reason)


def test_changes_count_accepted_rows_only(tmp_path):
    """What was done to a row that is rejected in the end is not reported."""
    rows = [("a", H.lower(), L, G, "1e-9", ""), ("b", H2.lower(), L, "?", "1e-9", "")]
    assert read_pairs(config(table(tmp_path, rows), on_bad_row="reject")).normalised == {"upper-cased": 1}


def test_bad_rows_stop_the_run(tmp_path):
    """By default the first ten are listed with the count, and the way to go on without them."""
    rows = [("good", H, L, G, "1e-9", "")] + [(f"bad{i}", H2, f"D-{'Q' * 60}", G, "1e-9", "") for i in range(12)]
    with pytest.raises(PairsError) as caught:
        read_pairs(config(table(tmp_path, rows)))
    lines = str(caught.value).split("\n")
    assert lines[0] == (
        "12 of the 13 rows of pairs.csv cannot be used; correct them, or set "
        'pairs.on_bad_row = "reject" to list them in rejected.csv and go on:'
    )
    assert lines[1] == (
        f"  row 2, id 'bad0', light 'D-{'Q' * 35}...': '-' at position 2 is an alignment gap; remove the gaps."
    )
    assert lines[10].startswith("  row 11, id 'bad9', ")
    assert lines[11:] == ["  and 2 more"]


def test_control_characters_of_a_cell_never_reach_the_terminal(tmp_path):
    """An id with an escape sequence is shown escaped."""
    with pytest.raises(PairsError) as caught:
        read_pairs(config(table(tmp_path, [("\x1b[31mred", "E?", L, G, "1e-9", ""), ("b", H, L, G, "1e-9", "")])))
    assert "\x1b" not in str(caught.value)
    assert r"id '\x1b[31mred', heavy 'E?': '?' at position 2" in str(caught.value)


def test_no_row_left_is_an_error(tmp_path):
    """Rejecting every row is not going on; neither is a header alone."""
    path = table(tmp_path, [("a", "", L, G, "1e-9", "")])
    with pytest.raises(
        PairsError, match=r"^None of the 1 rows of pairs.csv can be used; correct them:\n  row 1, id 'a'"
    ):
        read_pairs(config(path, on_bad_row="reject"))
    with pytest.raises(PairsError, match=r"^pairs.csv has a header and no rows; give it a row for each pair.$"):
        read_pairs(config(table(tmp_path, [])))


def test_censored_rows_can_be_dropped(tmp_path):
    """They are listed and do not stop the run, while other bad rows still do."""
    rows = [("a", H, L, G, "1e-9", ""), ("b", H2, L, G, "n.b.", ""), ("c", H2, L2, G, "> 1e-6", "")]
    read = read_pairs(config(table(tmp_path, rows), censored="drop"))
    assert [(row.row, row.value, row.reason) for row in read.rejected] == [
        (2, "n.b.", "censored, not a value; left out, as pairs.censored says."),
        (3, "> 1e-6", "censored, not a value; left out, as pairs.censored says."),
    ]
    with pytest.raises(PairsError, match=r"^1 of the 4 rows .*\n  row 4, id 'd', kd 'strong': not a number"):
        read_pairs(config(table(tmp_path, [*rows, ("d", H, L2, G, "strong", "")]), censored="drop"))


def test_a_missing_light_chain_can_be_refused(tmp_path):
    """A nanobody is an antibody, unless no encoder is there for it."""
    path = table(tmp_path, [("a", H, L, G, "1e-9", ""), ("vhh", H, "-", G, "1e-9", "")])
    assert list(read_pairs(config(path)).antibodies) == [(H, L), (H, None)]
    with pytest.raises(PairsError) as caught:
        read_pairs(config(path), single_chain=False)
    assert str(caught.value).endswith(
        "\n  row 2, id 'vhh', light '-': no light chain, and embed.single_chain = \"error\" refuses that; "
        'give its sequence, or set embed.single_chain to "same" or to a single-chain encoder.'
    )


def test_long_antigens_can_be_refused(tmp_path):
    """The limit counts residues after normalising, and only those of antigens."""
    path = table(tmp_path, [("a", H + H, L, " ".join(G), "1e-9", ""), ("b", H, L, G + "A", "1e-9", "")])
    assert read_pairs(config(path), longest_antigen=11).rows == 2
    with pytest.raises(PairsError) as caught:
        read_pairs(config(path), longest_antigen=10)
    assert str(caught.value).endswith(
        f"\n  row 2, id 'b', antigen '{G}A': 11 residues, and embed.long = \"error\" allows 10; "
        'set embed.long to "window" or "truncate", or shorten the sequence.'
    )


def test_one_id_for_different_sequences_is_refused(tmp_path):
    """All rows of the id are, as nobody knows which is right; one sequence under many ids is fine."""
    rows = [
        ("a", H, L, G, "1e-9", ""),
        ("b", H, L, G, "1e-9", ""),
        ("a", H, L, G, "1e-9", ""),
        ("a", H, "", G, "1e-9", ""),
    ]
    read = read_pairs(config(table(tmp_path, rows), on_bad_row="reject"))
    assert list(read.id) == ["b"]
    assert [row.row for row in read.rejected] == [1, 3, 4]
    assert {row.reason for row in read.rejected} == {
        "rows 1 and 4 have this id and different sequences; "
        'give every pair its own id, or set pairs.id = "" to number the rows.'
    }
    assert read_pairs(config(table(tmp_path, rows), id="")).rows == 4


def test_duplicates_are_merged_and_counted(tmp_path):
    """A row that repeats another one in all that is read is counted; a replicate is not a duplicate."""
    rows = [
        ("a", H, L, G, "1e-9", ""),
        ("a", H, L, G, "1.0E-09", ""),
        ("a", H, L, G, "2e-9", ""),
        ("b", H, L, G, "1e-9", ""),
    ]
    read = read_pairs(config(table(tmp_path, rows)))
    assert read.normalised == {"duplicate rows merged": 1}
    assert read.replicates_N.tolist() == [4]


def test_replicates_give_their_median_and_wide_ones_a_warning(tmp_path):
    """More than one log unit between replicates is listed; exactly one is not."""
    rows = [("a", H, L, G, kd, "") for kd in ("1e-9", "1e-8", "1.2e-10")] + [
        ("b", H2, L, G, kd, "") for kd in ("1e-9", "1e-8")
    ]
    read = read_pairs(config(table(tmp_path, rows)))
    np.testing.assert_allclose(read.affinity_N, [9.0, 8.5], rtol=1e-14)
    assert read.warnings == (
        "Pairs whose replicates are more than 1 log unit apart: 1 ('a' 1.92); their median is used.",
    )
    message = (
        "Pairs whose replicates are more than 1 log unit apart: 1 ('a' 1.92); "
        'remove wrong rows, or set pairs.replicates = "median".'
    )
    with pytest.raises(PairsError, match=f"^{re.escape(message)}$"):
        read_pairs(config(table(tmp_path, rows), replicates="strict"))


def test_only_the_first_ten_wide_pairs_are_named(tmp_path):
    """The warning counts all."""
    rows = [(f"p{i}", H + "AC" * i, L, G, kd, "") for i in range(12) for kd in ("1e-9", "1e-7")]
    (warning,) = read_pairs(config(table(tmp_path, rows))).warnings
    assert warning.startswith("Pairs whose replicates are more than 1 log unit apart: 12 ('p0' 2.00, ")
    assert "'p9' 2.00, ...)" in warning


def test_a_pair_in_two_parts_of_a_split_is_refused(tmp_path):
    """Replicates must not straddle parts."""
    rows = [("a", H, L, G, "1e-9", "train"), ("b", H2, L, G, "1e-9", "test"), ("c", H, L, G, "1e-8", "test")]
    message = (
        "Rows in another part of the split than an earlier row of their pair: 1. "
        "Give all rows of a pair the same value in column 'split':\n  'a': row 1 'train', row 3 'test'"
    )
    with pytest.raises(PairsError, match=f"^{re.escape(message)}$"):
        read_pairs(config(table(tmp_path, rows), split="split"))


def test_unknown_residues_are_kept_and_warned_of(tmp_path):
    """X, or what became X, is kept in at most a tenth of a sequence; sequences are counted once."""
    rows = [("a", H + "X", L, G, "1e-9", ""), ("b", H + "X", L2, G + "U", "1e-9", "")]
    read = read_pairs(config(table(tmp_path, rows)))
    assert read.antibodies[0] == (H + "X", L)
    assert list(read.antigens) == [G, G + "X"]
    assert read.warnings == ("Distinct sequences that hold X, the unknown residue: 2; X is kept.",)
    assert read.normalised == {"B/Z/U/O -> X": 1}


def test_a_wrong_unit_stops_the_run(tmp_path):
    """Rejecting bad rows does not hide that the whole column is in another unit."""
    path = table(tmp_path, [("a", H, L, G, "5", ""), ("b", H2, L, G, "20", ""), ("c", H, L2, G, "", "")])
    with pytest.raises(PairsError, match=r"plausible would be pkd 10, uM 5, nM 8, pM 11\.$"):
        read_pairs(config(path, on_bad_row="reject"))
    with pytest.raises(PairsError, match=r'too small for a pKd, probably molar; set pairs\.unit = "M"'):
        read_pairs(config(table(tmp_path, [("a", H, L, G, "1e-9", "")]), unit="pkd"))


def test_parquet_affinities_are_used_as_they_are(tmp_path):
    """Doubles reach the table bit for bit; null and NaN are no value."""
    values = [9.2518119729938, None, float("nan"), 1 / 3 + 8]
    path = tmp_path / "t.parquet"
    columns = {
        "heavy": [H, H, H2, H2],
        "light": [L, L2, L, None],
        "antigen": [G] * 4,
        "pkd": pa.array(values, from_pandas=False),
    }
    pyarrow.parquet.write_table(pa.table(columns), path)
    read = read_pairs(PairsConfig(path=path, affinity="pkd", on_bad_row="reject"))
    assert read.affinity_N.tolist() == [values[0], values[3]]
    assert [(row.row, row.value, row.reason) for row in read.rejected] == [
        (2, "", "no value; give one, or remove the row."),
        (3, "nan", "no value; give one, or remove the row."),
    ]


def test_a_null_id_is_empty(tmp_path):
    """A Parquet file may hold no id where others have one; the row is rejected under an empty name."""
    path = tmp_path / "t.parquet"
    columns = {"id": [None, "b"], "heavy": [H, H2], "light": [L, L], "antigen": [G, G]}
    pyarrow.parquet.write_table(pa.table(columns), path)
    read = read_pairs(PairsConfig(path=path, id="id", on_bad_row="reject"))
    assert (list(read.row_ids), list(read.id)) == (["", "b"], ["b"])
    assert [(row.row, row.id, row.value) for row in read.rejected] == [(1, "", "")]


def test_cells_that_become_the_same_sequence_are_one(tmp_path):
    """However many spellings a column has, among them sequences that need no change."""
    spellings = [H.lower(), H, f" {H}", f"{H}*", H2.lower(), H2]
    rows = [(f"p{i}", heavy, L, G, "1e-9", "") for i, heavy in enumerate(spellings)]
    read = read_pairs(config(table(tmp_path, rows)))
    assert list(read.antibodies) == [(H, L), (H2, L)]
    assert read.pair_of_row.tolist() == [0, 0, 0, 0, 1, 1]
    assert read.normalised == {"upper-cased": 2, "whitespace removed": 1, "terminal * removed": 1}


def test_rejected_rows_are_written_harmlessly(tmp_path):
    """Formulas and control characters are disarmed, numbers stay numbers."""

    def row(value, name="x"):
        return RejectedRow(row=3, id=name, column="kd", value=value, reason="no value; give one.")

    values = ["=1+1", "-5.2", "+1e-9", "@x", " =2", "\x1b[31m", "a\nb", "µ", "-", "\t=1", "\r@x", "＝1+1"]
    path = tmp_path / "rejected.csv"
    write_rejected(path, [row(value) for value in values] + [row("", name="=cmd()")])
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["row", "id", "column", "value", "reason"]
    assert lines[1] == ["3", "x", "kd", "'=1+1", "no value; give one."]
    assert [line[3] for line in lines[1:13]] == [
        "'=1+1",
        "-5.2",
        "+1e-9",
        "'@x",
        "' =2",
        r"\x1b[31m",
        r"a\nb",
        "µ",
        "'-",
        r"\t=1",
        r"\r@x",
        "'＝1+1",
    ]
    assert lines[13][1] == "'=cmd()"


cell = st.sampled_from
row = st.tuples(
    cell(["a", "b", "c", ""]),
    cell([H, H.lower(), f"{H} ", H2, "", "EV-Q", "NA"]),
    cell([L, "", "nan", "D1"]),
    cell([G, G2, G + "*", ">x"]),
    cell(["1e-9", "1e-9", "3e-9", "1e-6", "0", "n.b.", "x", "1e-8"]),
)


@given(st.lists(row, max_size=25), st.booleans(), cell(["", "id"]))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_is_in_one_pair_or_rejected(tmp_path, rows, single_chain, ids):
    """Against a plain dict: nothing is lost, nothing is used twice, affinities are medians."""
    rows = [*rows, ("sure", H2 + H2, L, G, "1e-8")]
    path = table(tmp_path, rows, header="id,heavy,light,antigen,kd")
    read = read_pairs(config(path, id=ids, on_bad_row="reject", censored="drop"), single_chain=single_chain)
    assert len(read.row_ids) == len(read.pair_of_row) == len(rows)
    assert [row.row - 1 for row in read.rejected] == np.flatnonzero(read.pair_of_row < 0).tolist()
    assert all(row.reason and row.column for row in read.rejected)
    expected: dict[tuple[str, str, str], list[float]] = {}
    for (_, heavy, light, antigen, kd), pair in zip(rows, read.pair_of_row.tolist(), strict=True):
        if pair < 0:
            continue
        key = (heavy.strip().upper(), light if light == L else "", antigen.rstrip("*"))
        expected.setdefault(key, []).append(-np.log10(float(kd)))
        assert list(expected).index(key) == pair
        antibody, target = read.pair_N2[pair]
        assert (*read.antibodies[antibody], read.antigens[target]) == (key[0], key[1] or None, key[2])
    assert read.affinity_N == pytest.approx([median(values) for values in expected.values()])
    assert read.replicates_N.tolist() == [len(values) for values in expected.values()]
    assert read.rows == sum(read.pair_of_row >= 0)
    used = set(read.pair_N2[:, 0].tolist()), set(read.pair_N2[:, 1].tolist())
    assert used == (set(range(len(read.antibodies))), set(range(len(read.antigens))))


@shared
@pytest.mark.parametrize(
    ("name", "pairs", "rows", "antibodies", "antigens", "single"),
    [
        ("ch65_si06", 65_508, 65_508, 65_508, 1, 0),
        ("absci_her2", 758, 758, 758, 1, 0),
        ("skempi2_abag", 983, 1_140, 580, 315, 4),
    ],
)
def test_the_shared_tables(name, pairs, rows, antibodies, antigens, single):
    """Real tables, counted with plain sets of Python tuples, and read in about a second."""
    path = SHARED / f"{name}.parquet"
    started = time.process_time()
    read = read_pairs(PairsConfig(path=path, id="pair_id", affinity="pkd"))
    assert time.process_time() - started < 3
    records = pyarrow.parquet.read_table(path).to_pylist()
    plain: dict[tuple[str, str | None, str], list[float]] = {}
    for record in records:
        plain.setdefault((record["heavy"], record["light"], record["antigen"]), []).append(record["pkd"])
    assert (len(read.id), read.rows, len(read.antibodies), len(read.antigens)) == (
        pairs,
        rows,
        antibodies,
        antigens,
    )
    assert [(*read.antibodies[a], read.antigens[g]) for a, g in read.pair_N2.tolist()] == list(plain)
    np.testing.assert_array_equal(read.affinity_N, [median(values) for values in plain.values()])
    assert sum(light is None for _, light in read.antibodies) == single
    assert read.rejected == ()


@shared
def test_wide_replicates_of_skempi_are_listed():
    """The published table holds four pairs whose measurements contradict each other."""
    read = read_pairs(PairsConfig(path=SHARED / "skempi2_abag.parquet", id="pair_id", affinity="pkd"))
    assert read.warnings[-1].startswith(
        "Pairs whose replicates are more than 1 log unit apart: 4 ('1JRH_LH_I:VI41A' 1.08, "
    )


@shared
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"path": "skempi_v2.csv"},
            "is separated by semicolons; save it with commas as .csv or with tabs as .tsv.",
        ),
        (
            {"path": "alphabind_trastuzumab-scfv_bli_results.csv"},
            "has no column 'heavy' (pairs.heavy), 'antigen' (pairs.antigen). Name the right ones in [pairs]; it has",
        ),
        (
            {
                "path": "alphabind_trastuzumab-scfv_bli_results.csv",
                "heavy": "Clone ID",
                "antigen": "Clone ID",
                "affinity": "KD(M)",
            },
            "has 2 columns 'KD(M)', and pairs.affinity needs one; rename the others.",
        ),
        ({"path": "absci_spr-controls.csv"}, "'HCDR1', 'HCDR2', 'HCDR3', 'KD (nM)', 'Binder'."),
    ],
)
def test_tables_as_published_are_refused_helpfully(settings, words):
    """Originals with other delimiters and names say what is wrong with them."""
    with pytest.raises(PairsError, match=re.escape(words)):
        read_pairs(PairsConfig(**{"light": ""} | settings | {"path": SHARED / "raw" / settings["path"]}))


@shared
def test_blank_affinities_of_a_published_table():
    """Non-binders without value are rejected one by one, and nM declared as M is found out."""
    columns = {
        "path": SHARED / "raw/absci_spr-controls.csv",
        "heavy": "HCDR1",
        "light": "HCDR2",
        "antigen": "HCDR3",
    }
    settings = columns | {"affinity": "KD (nM)", "on_bad_row": "reject"}
    read = read_pairs(PairsConfig(**settings, unit="nM"))
    assert (read.rows, len(read.rejected)) == (758, 1_097)
    with pytest.raises(PairsError, match=r"plausible would be uM 4.48, nM 7.48, pM 10.5\.$"):
        read_pairs(PairsConfig(**settings, unit="M"))
