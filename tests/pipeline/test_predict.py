"""`bindcache predict`: a run applied to another table."""

import csv
import json
import math
import random
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.train.test_identity import identity
from train.rundir import RunDir

ENDS = [f"{end}_{level}" for level in (50, 80, 95) for end in ("low", "high")]
COLUMNS = ["row", "id", "prediction", *ENDS, "warning", "reason"]


@pytest.fixture
def predict(bindcache, demo, trained, tmp_path):
    """Predict rows of id, heavy, light, antigen; returns the columns, what was counted, and what was said."""

    def run(rows, *options, run=None, out="out.parquet"):
        path = tmp_path / "asked.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("pair_id", "heavy", "light", "antigen"), *rows])
        out = tmp_path / out
        result = bindcache("predict", "--run", run or demo / "run", "--pairs", path, "--out", out, "--json", *options)
        assert result.exit_code == 0, result.output
        table = pq.read_table(out).to_pydict() if out.suffix == ".parquet" else out.read_text("utf-8")
        return table, json.loads(result.stdout), result.stderr

    return run


@pytest.fixture(scope="module")
def pairs(demo):
    """The demo's rows: id, heavy, light, antigen."""
    with (demo / "pairs.csv").open(newline="") as file:
        return [tuple(row[:4]) for row in list(csv.reader(file))[1:]]


def test_predict_keeps_every_row_in_order(bindcache, config, trained, demo, tmp_path):
    """Rejected rows are there with null and a reason; the others are predicted as the run itself predicted them."""
    lines = (demo / "pairs.csv").read_text().splitlines()
    header = "pair_id,heavy,light,antigen"
    rows = [line.rpartition(",")[0] for line in lines[1:31]]
    rows[3] = "bad,EVQL*KJ,," + rows[3].split(",")[3]
    rows.append(rows[0].replace("demo-0001", "again"))
    table, out = tmp_path / "new.csv", tmp_path / "out.parquet"
    table.write_text("\n".join([header, *rows]) + "\n")
    result = bindcache("predict", "--run", demo / "run", "--pairs", table, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rejected"] == 1
    got = pq.read_table(out).to_pydict()
    assert list(got) == COLUMNS
    assert got["row"] == list(range(1, 32))
    assert got["id"] == [row.split(",")[0] for row in rows]
    assert [i for i, reason in enumerate(got["reason"]) if reason is not None] == [3]
    assert got["reason"][3].startswith("heavy: ")
    assert got["prediction"][3] is None
    own = pq.read_table(demo / "run" / "predictions.parquet").to_pydict()
    own = dict(zip(own["id"], own["prediction"], strict=True))
    for name, prediction in zip(
        got["id"][:3] + got["id"][4:-1], got["prediction"][:3] + got["prediction"][4:-1], strict=True
    ):
        assert prediction == pytest.approx(own[name], abs=1e-4)
    assert got["prediction"][-1] == got["prediction"][0]


def test_predict_embeds_what_is_missing(bindcache, config, trained, demo, tmp_path):
    """A new antibody needs no other command."""
    heavy, light, antigen = (demo / "pairs.csv").read_text().splitlines()[1].split(",")[1:4]
    table = tmp_path / "new.csv"
    table.write_text(f"pair_id,heavy,light,antigen\none,{heavy}A,{light},{antigen}\n")
    result = bindcache("predict", "--run", demo / "run", "--pairs", table, "--out", tmp_path / "out.parquet", "--json")
    assert json.loads(result.stdout)["embedded"] == 1
    assert 3 < pq.read_table(tmp_path / "out.parquet")["prediction"][0].as_py() < 12


def test_predict_refuses_what_is_no_run_and_encoders_that_changed(error, trained, demo, tmp_path):
    """A prediction with other vectors than the run's would be noise."""
    asked = ("--pairs", demo / "pairs.csv", "--out", tmp_path / "out.parquet")
    assert error("predict", "--run", tmp_path, *asked) == (
        f"Error: --run {tmp_path} is no run, it has no config.json; name a run's folder.\n"
    )
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(demo / "run" / "config.json", begun)
    assert error("predict", "--run", begun, *asked) == (
        f"Error: --run {begun} is not finished; finish it with `bindcache train --resume`.\n"
    )
    changed = tmp_path / "changed"
    shutil.copytree(demo / "run", changed)
    (changed / "config.json").write_text((demo / "run" / "config.json").read_text().replace('"mean"', '"card"'))
    said = error("predict", "--run", changed, *asked)
    assert "was trained on the vectors igt5-int8-" in said
    assert said.endswith("restore the encoders' files and the library versions, or train again.\n")
    gone = tmp_path / "gone" / "out.parquet"
    assert error("predict", "--run", demo / "run", "--pairs", demo / "pairs.csv", "--out", gone) == (
        f"Error: --out {gone}: there is no folder {gone.parent}; make it, or name another.\n"
    )
    assert not (tmp_path / "out.parquet").exists()


def test_intervals_are_those_of_the_validation_errors(predict, trained, demo, pairs):
    """16 validation pairs give intervals of 50 and 80 %, by ranks of the run's own errors; those of 95 % are null."""
    own = pq.read_table(demo / "run" / "predictions.parquet").to_pandas()
    own["error"] = (own.prediction.astype(float) - own.target).abs()
    valid, test = (np.sort(own.error[own.split == part]) for part in ("valid", "test"))
    assert len(valid) == 16
    got, told, said = predict(pairs[:9])
    for level in (50, 80):
        half = valid[math.ceil(17 * level / 100) - 1]
        np.testing.assert_allclose(got[f"low_{level}"], np.array(got["prediction"]) - half, rtol=1e-6)
        np.testing.assert_allclose(got[f"high_{level}"], np.array(got["prediction"]) + half, rtol=1e-6)
        assert told["coverage"][str(level / 100)] == np.mean(test <= half)
        assert trained["intervals"][str(level / 100)] == {"half_width": half, "coverage": np.mean(test <= half)}
    assert set(got["low_95"] + got["high_95"]) == {None}
    assert told["notes"] == ["No interval of 95 %: it takes 19 validation pairs, and there are 16."]
    assert said == told["notes"][0] + "\n"


def test_a_run_from_before_has_intervals_too_or_says_why_not(predict, demo, pairs, tmp_path):
    """Without intervals.json they come from its predictions; without these, or damaged, there are none, and why."""
    old = RunDir(tmp_path / "old")
    shutil.copytree(demo / "run", old.root)
    old.intervals.unlink()
    before, _, _ = predict(pairs[:5])
    assert predict(pairs[:5], run=old.root)[0] == before
    assert not old.intervals.exists()
    old.predictions.unlink()
    got, told, _ = predict(pairs[:5], run=old.root)
    assert got["prediction"] == before["prediction"]
    assert all(set(got[name]) == {None} for name in ENDS)
    assert told["notes"][0].startswith(f"No intervals: {old.predictions} cannot be read (")
    shutil.copy(demo / "run" / "intervals.json", old.intervals)
    old.intervals.write_text(old.intervals.read_text().replace("16", "17"))
    assert "its bytes do not match its SHA-256" in predict(pairs[:5], run=old.root)[1]["notes"][0]


def test_top_is_the_highest_in_order_and_counts_all(predict, pairs):
    """What sorting all predictions gives, ties in the table's order; rejected rows never, and all are counted."""
    rows = [*pairs[:20], ("bad", "EVQL*KJ", "", pairs[0][3]), *(("twin", *row[1:]) for row in pairs[:20])]
    whole, _, _ = predict(rows)
    order = sorted((-p, row) for p, row in zip(whole["prediction"], whole["row"], strict=True) if p is not None)
    for top in (1, 7, 40, 99):
        got, told, _ = predict(rows, "--top", top)
        assert got["row"] == [row for _, row in order[:top]]
        for name in COLUMNS:
            assert got[name] == [whole[name][row - 1] for row in got["row"]]
        assert (told["rows"], told["rejected"], told["written"]) == (41, 1, min(top, 40))


def test_the_first_ten_are_shown_in_eighty_columns(bindcache, demo, trained, pairs, tmp_path):
    """Without --json, and only of the highest; however long an id is, and whatever it holds."""
    table, out = tmp_path / "asked.csv", tmp_path / "out.csv"
    rows = [(f"{'long' * 20}{i}\x1b[31m", *row[1:3], row[3][::-1]) for i, row in enumerate(pairs[:15])]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("pair_id", "heavy", "light", "antigen"), *rows])
    command = ("predict", "--run", demo / "run", "--pairs", table, "--out", out)
    lines = bindcache(*command, "--top", "12").stdout.split("\n\n")
    first = lines[0].splitlines()
    assert first[0].split() == ["row", "id", "pKd", "80", "%", "warning"]
    assert len(first) == 11
    assert max(map(len, first)) <= 80
    assert "\x1b" not in lines[0]
    numbers = [float(line.split()[2]) for line in first[1:]]
    assert numbers == sorted(numbers, reverse=True)
    assert "written   12 rows" in lines[1]
    assert "warned    15 rows unlike training (heavy under 90 %, antigen under 90 % identical)" in lines[1]
    assert "pKd" not in bindcache(*command).stdout


@pytest.mark.parametrize(("ending", "delimiter"), [("csv", ","), ("tsv", "\t"), ("TSV", "\t")])
def test_text_holds_what_parquet_holds_and_no_formula(predict, pairs, ending, delimiter):
    """Cell by cell; null is empty, and an id that a spreadsheet would run begins with an apostrophe."""
    rows = [(name, *row[1:]) for name, row in zip(["=1+1", "a\tb", '+c,"d"', "-5", "µ"], pairs, strict=False)]
    rows.append(("@bad", "EVQL*KJ", "", pairs[0][3]))
    whole, _, _ = predict(rows)
    text, told, _ = predict(rows, out=f"out.{ending}")
    header, *lines = csv.reader(text.splitlines(), delimiter=delimiter)
    assert header == COLUMNS
    column = dict(zip(header, zip(*lines, strict=True), strict=True))
    assert column.pop("id") == ("'=1+1", r"a\tb", '\'+c,"d"', "-5", "µ", "'@bad")
    for name, cells in column.items():
        for cell, value in zip(cells, whole[name], strict=True):
            if isinstance(value, float):
                assert np.float32(cell) == np.float32(value)
            else:
                assert cell == ("" if value is None else str(value))
    assert told["rejected"] == 1


@pytest.mark.parametrize("name", ["out.xlsx", "out", "out.parquet.gz"])
def test_other_endings_are_refused_before_anything_is_done(error, demo, trained, tmp_path, name):
    """The three that there are get named."""
    out = tmp_path / name
    assert error("predict", "--run", demo / "run", "--pairs", tmp_path / "none.csv", "--out", out) == (
        f"Error: --out {out}: the ending says what to write; end it in .parquet, .csv or .tsv.\n"
    )


def test_rows_unlike_training_are_warned_of(predict, demo, pairs):
    """The identity that is told is that of the edit distance to the nearest of the training pairs."""
    chance = random.Random(4)
    parts = pq.read_table(demo / "run" / "split.parquet").to_pydict()
    train = {name for name, part in zip(parts["id"], parts["split"], strict=True) if part == "train"}
    known = [row for row in pairs if row[0] in train]

    def mutated(sequence, share):
        places = set(chance.sample(range(len(sequence)), int(share * len(sequence))))
        return "".join(chance.choice("ACDEFGHIKLMNPQRSTVWY") if i in places else c for i, c in enumerate(sequence))

    one = min(known, key=lambda row: len(row[3]))
    rows = [
        ("same", *one[1:]),
        ("mutant", mutated(one[1], 0.04), one[2], one[3]),
        ("antigen", *one[1:3], mutated(one[3], 0.5)),
        ("both", mutated(one[1], 0.4), one[2], mutated(one[3], 0.3)),
        ("alien", one[1], one[2], "WCWHM" * 12),
        ("bad", "EVQL*KJ", "", one[3]),
        ("again", one[1], one[2], "WCWHM" * 12),
    ]
    got, told, _ = predict(rows)

    def nearest(role, sequence):
        best = max(identity(sequence, row[1 if role == "heavy" else 3]) for row in known)
        return f"{role}: nearest in training is {math.floor(100 * best)} % identical"

    alien = "antigen: no five residues in a row are in training"
    both = "; ".join([nearest("heavy", rows[3][1]), nearest("antigen", rows[3][3])])
    assert got["warning"] == [None, None, nearest("antigen", rows[2][3]), both, alien, None, alien]
    assert told["warned"] == 4
    assert told["below"] == {"heavy": 0.9, "antigen": 0.9}
    assert predict(rows, "--top", "1")[1]["warned"] == 4


def test_without_what_it_was_trained_on_nothing_is_compared(predict, demo, pairs, tmp_path):
    """A table that is changed or gone, or another split: said, and no failure."""
    moved = RunDir(tmp_path / "run")
    shutil.copytree(demo / "run", moved.root)
    table = tmp_path / "pairs.csv"
    moved.config.write_text(moved.config.read_text().replace(str(demo / "pairs.csv"), str(table)))
    alien = [("alien", *pairs[0][1:3], "WCWHM" * 12)]

    def told():
        got, counted, _ = predict(alien, run=moved.root)
        assert (got["warning"], counted["warned"], counted["below"]) == ([None], 0, {})
        assert got["prediction"][0] is not None
        return counted["notes"][-1]

    assert told().startswith("Not compared with training: pairs.path = ")
    table.write_bytes((demo / "pairs.csv").read_bytes() + b"\n")
    assert told() == (f"Not compared with training: {table} is not the table any more that the run was trained on.")
    table.write_bytes((demo / "pairs.csv").read_bytes())
    assert predict(alien, run=moved.root)[1]["warned"] == 1
    split = pq.read_table(moved.split)
    pq.write_table(split.set_column(1, "split", split["split"].take(list(range(len(split)))[::-1])), moved.split)
    assert told() == (
        f"Not compared with training: {moved.split} is not the split any more that the run was trained on."
    )
    moved.split.unlink()
    assert told().startswith("Not compared with training: ")
