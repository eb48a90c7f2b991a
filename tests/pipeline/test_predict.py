"""`bindcache predict`: a run applied to another table."""

import json
import shutil

import pyarrow.parquet as pq
import pytest


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
    assert list(got) == ["row", "id", "prediction", "reason"]
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
    (changed / "config.json").write_text((demo / "run" / "config.json").read_text().replace('"residues"', '"card"'))
    said = error("predict", "--run", changed, *asked)
    assert "was trained on the vectors igt5-int8-" in said
    assert said.endswith("restore the encoders' files and the library versions, or train again.\n")
    gone = tmp_path / "gone" / "out.parquet"
    assert error("predict", "--run", demo / "run", "--pairs", demo / "pairs.csv", "--out", gone) == (
        f"Error: --out {gone}: there is no folder {gone.parent}; make it, or name another.\n"
    )
    assert not (tmp_path / "out.parquet").exists()
