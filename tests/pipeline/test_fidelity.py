"""`bindcache fidelity`: the comparison is right, and the recommendation follows from the intervals."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from embed.errors import EncoderError
from embed.pairs import PairsConfig, read_pairs
from embed.texts import Texts
from pipeline.fidelity_advice import Candidate, Choice, choose, sentence
from pipeline.fidelity_file import keep_fidelity
from pipeline.fidelity_ridge import predict_folds
from pipeline.fidelity_sample import sample_pairs
from pipeline.fidelity_scores import Score, compare_scores, compare_vectors, score
from pipeline.fidelity_vectors import open_encoder
from pipeline.report.precision import precision as precision_of

# N sequences, D width


def near_identical(count=60, dim=8, seed=0):
    """Vectors far from zero and close to one another, as those of point mutants are."""
    random = np.random.default_rng(seed)
    return (10 + 0.1 * random.normal(size=(count, dim))).astype(np.float32)


def test_vectors_compare_as_written_out_by_hand():
    """Error, cosine, spread over error and neighbours agree with loops over rows."""
    reference_ND = near_identical()
    vector_ND = reference_ND + 0.05 * near_identical(seed=1) - 0.4
    found = compare_vectors(vector_ND, reference_ND)
    r, v = reference_ND.astype(np.float64), vector_ND.astype(np.float64)
    assert found.relative_error == pytest.approx(np.sqrt(((v - r) ** 2).sum() / (r**2).sum()))
    cosines = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(v, r, strict=True)]
    assert found.lowest_cosine == pytest.approx(min(cosines), abs=1e-12)
    error = v - r
    expected = np.sqrt(((r - r.mean(0)) ** 2).sum() / ((error - error.mean(0)) ** 2).sum())
    assert found.spread_over_error == pytest.approx(expected)
    kept = []
    for i in range(len(r)):
        near = [set(sorted((np.linalg.norm(x[j] - x[i]), j) for j in range(len(x)) if j != i)[:10]) for x in (r, v)]
        before, after = ({j for _, j in some} for some in near)
        kept.append(len(before & after) / 10)
    assert 0.1 < found.neighbours_kept < 1
    assert found.neighbours_kept == pytest.approx(np.mean(kept))


def test_a_shift_common_to_all_costs_no_spread():
    """An error that is the same for every sequence leaves neighbours and spread alone."""
    reference_ND = near_identical().astype(np.float64)
    found = compare_vectors((reference_ND + 1.0).astype(np.float32), reference_ND.astype(np.float32))
    assert found.relative_error > 0.05
    assert found.spread_over_error is None or found.spread_over_error > 1e4
    assert found.neighbours_kept > 0.99


def test_few_sequences_have_no_neighbours_to_lose():
    """One vector has no spread and no neighbours; its error and cosine still count."""
    one = compare_vectors(near_identical(1, seed=1), near_identical(1))
    assert one.relative_error > 0
    assert (one.spread_over_error, one.neighbours_kept) == (None, None)


def test_scores_and_their_differences():
    """R2 and Spearman are scipy's; the interval of a difference is paired and averaged over repetitions."""
    random = np.random.default_rng(0)
    target = random.normal(size=300)
    good = target + 0.3 * random.normal(size=300)
    bad = good + 0.5 * random.normal(size=300)
    reference, ours = score(target, good), score(target, bad)
    assert ours.value["spearman"] == pytest.approx(stats.spearmanr(target, bad).statistic)
    assert ours.value["r2"] == pytest.approx(1 - ((target - bad) ** 2).sum() / ((target - target.mean()) ** 2).sum())
    same = compare_scores([reference], [reference])["r2"]
    assert (same.low, same.high) == (0, 0)
    once = compare_scores([ours], [reference])["spearman"]
    difference = ours.value["spearman"] - reference.value["spearman"]
    assert once.low < difference < once.high < 0
    twice = compare_scores([ours, reference], [reference, reference])["spearman"]
    assert twice.value == pytest.approx((ours.value["spearman"] + reference.value["spearman"]) / 2)
    assert twice.low == pytest.approx(once.low / 2)


def test_undefined_scores_stay_undefined():
    """Predictions of constants have no Spearman, and no interval is made up for it."""
    target = np.arange(20.0)
    found = compare_scores([score(target, np.ones(20))], [score(target, target)])
    assert found["spearman"] == Score(value=None)
    assert found["r2"].value < 0


def candidate(precision, seconds, low, high):
    """A candidate whose both scores differ from fp32's by the same interval."""
    scores = {name: Score(value=0.5, low=low, high=high) for name in ("r2", "spearman")}
    return Candidate(precision=precision, seconds=seconds, scores=scores)


FP32 = candidate("fp32", 10.0, 0.0, 0.0)


def test_the_fastest_harmless_precision_is_chosen():
    """Harmful ones are passed over however fast; of the harmless the fastest is taken."""
    harmful, harmless = candidate("bf16", 1.0, -0.3, -0.2), candidate("int8", 4.0, -0.02, 0.02)
    slower = candidate("fp16", 6.0, -0.001, 0.001)
    assert choose([FP32, harmful, harmless, slower], "fp32") == Choice(precision="int8")
    assert choose([FP32, harmful], "fp32") == Choice(precision="fp32")


def test_one_bad_score_is_enough_to_refuse():
    """A precision that keeps R2 and loses Spearman is not harmless."""
    scores = {"r2": Score(value=0.5, low=0.0, high=0.0), "spearman": Score(value=0.4, low=-0.2, high=-0.1)}
    assert choose([FP32, Candidate(precision="bf16", seconds=1.0, scores=scores)], "fp32").precision == "fp32"


def test_wide_intervals_decide_nothing_and_are_named():
    """A faster precision whose interval holds both loss and none is listed, a slower one is not."""
    wide, slow = candidate("bf16", 1.0, -0.05, 0.05), candidate("int8", 20.0, -0.05, 0.05)
    assert choose([FP32, wide, slow], "fp32") == Choice(precision="fp32", undecided=("bf16",))


def test_the_sentence_names_roles_only_where_they_differ():
    """One precision for both is one setting; else each role has its own, with the reason."""
    both = sentence({"antibody": Choice(precision="int8"), "antigen": Choice(precision="int8")}, 400)
    assert both.startswith('Take embed.precision = "int8": the fastest')
    assert "0.02 of R2 and of Spearman" in both
    apart = sentence(
        {
            "antibody": Choice(precision="int8", undecided=("bf16",)),
            "antigen": Choice(precision="fp32", reason="the sample has fewer than 20 distinct antigens"),
        },
        400,
    )
    assert 'Take embed.antibody_precision = "int8": ' in apart
    assert "; bf16 (antibody): faster, but undecided by 400 pairs" in apart
    assert 'embed.antigen_precision = "fp32", as the sample has fewer than 20 distinct antigens.' in apart
    none = {role: Choice(precision="fp32", reason="pairs.affinity names no column") for role in ("antibody", "antigen")}
    assert sentence(none, 0).startswith("No recommendation: pairs.affinity names no column, so")


@pytest.fixture(scope="module")
def table(demo):
    return read_pairs(PairsConfig(path=demo / "pairs.csv", id="pair_id", affinity="pkd"))


def content(table):
    """What every pair says, whatever numbers its sequences have."""
    return {
        name: (table.antibodies[antibody], table.antigens[antigen], affinity)
        for name, (antibody, antigen), affinity in zip(table.id, table.pair_N2, table.affinity_N, strict=True)
    }


def test_the_sample_depends_on_the_sequences_alone(table, demo, tmp_path):
    """Rows in another order give the same pairs; every kept pair says what it said."""
    header, *rows = (demo / "pairs.csv").read_text().splitlines()
    (tmp_path / "turned.csv").write_text("\n".join([header, *reversed(rows)]))
    turned = read_pairs(PairsConfig(path=tmp_path / "turned.csv", id="pair_id", affinity="pkd"))
    sample, other = sample_pairs(table, 40), sample_pairs(turned, 40)
    assert len(sample.id) == 40
    assert content(sample) == content(other)
    assert content(sample).items() <= content(table).items()
    assert len(set(sample.antibodies)) == len(sample.antibodies) == len({a for a, _ in sample.pair_N2.tolist()})
    assert sample.pair_of_row.max() == 39
    assert [sample.row_ids[row] for row in np.flatnonzero(sample.pair_of_row >= 0).tolist()] == list(sample.id)
    assert sample_pairs(table, len(table.id)) is table


@pytest.mark.parametrize(("features", "least"), [(8, 0.99), (300, 0.5)])
def test_the_ridge_predicts_pairs_it_has_not_seen(features, least):
    """A linear rule is found, with more features than pairs less surely; noise is not, nor a pair's own target."""
    random = np.random.default_rng(0)
    feature_NF = (5 + random.normal(size=(200, features))).astype("f4")
    rule = feature_NF[:, :4].astype(np.float64).sum(axis=1)
    assert stats.pearsonr(predict_folds(feature_NF, rule), rule).statistic > least
    assert stats.pearsonr(predict_folds(feature_NF, random.normal(size=200)), rule).pvalue > 1e-3
    changed = rule.copy()
    changed[17] += 100.0
    assert predict_folds(feature_NF, changed)[17] < rule[17] + 10


def test_both_sides_of_the_ridge_agree():
    """With as many features as training pairs either Gram matrix serves."""
    random = np.random.default_rng(1)
    feature_NF, target = random.normal(size=(100, 80)).astype("f4"), random.normal(size=100)
    wide = np.hstack([feature_NF, np.ones((100, 1), "f4")])  # a constant column changes nothing but the side taken
    assert predict_folds(feature_NF, target) == pytest.approx(predict_folds(wide, target), abs=1e-6)


@pytest.fixture(scope="module")
def measured(bindcache, config):
    """What `fidelity --train --json` says of the whole demo table, and what the store holds afterwards."""
    settings = ("--set", "train.epochs=2", "--set", "train.widths=[32, 16]", "--set", "train.compile=off")
    store = config.parent / "untouched"
    result = bindcache("fidelity", "--config", config, "--train", "--json", *settings, "--set", f"embed.store={store}")
    assert result.exit_code == 0, result.output
    assert not store.exists()
    return json.loads(result.stdout)


def rows_of(measured, role):
    """Rows of one role by precision and storage."""
    return {(row["precision"], row["vector_dtype"]): row for row in measured["roles"][role]["rows"]}


def test_every_precision_has_a_row_or_a_reason(measured):
    """fp32 is the reference; none of the config's precisions is left out silently."""
    from typing import get_args

    from embed.config import Precision

    for role in ("antibody", "antigen"):
        rows, skipped = rows_of(measured, role), measured["roles"][role]["skipped"]
        assert {p for p, _ in rows} | set(skipped) == set(get_args(Precision))
        reference = rows["fp32", "float32"]["vectors"]
        assert (reference["relative_error"], reference["lowest_cosine"]) == (0, pytest.approx(1))
        assert 1e-5 < rows["fp32", "float16"]["vectors"]["relative_error"] < 1e-3
        assert 1e-3 < rows["int8", "float32"]["vectors"]["relative_error"] < 5e-2
        assert all(row["seconds"] > 0 for row in rows.values())


def test_a_store_keeps_the_result_for_the_pages(measured, tmp_path):
    """No store is made for it; on another table the page says so."""
    keep_fidelity(tmp_path / "none", measured, "digest")
    assert not (tmp_path / "none").exists()
    assert "not measured" in precision_of(tmp_path, {}, digest="digest", trained={}).blocks[-1].text
    keep_fidelity(tmp_path, measured, "digest")
    for digest, of in (("digest", "this table"), ("other", "another table")):
        note, *tables = precision_of(tmp_path, {}, digest=digest, trained={}).blocks
        assert f"pairs of {of}" in note.text
        assert measured["recommendation"] in note.text
        assert [len(table.rows) for table in tables] == [len(each["rows"]) for each in measured["roles"].values()]


def test_errors_are_those_between_two_stores(bindcache, config, measured, tmp_path):
    """The reported error of bf16 is the one between vectors that `embed` wrote in fp32 and in bf16."""
    vectors = {}
    for precision in ("fp32", "bf16"):
        settings = ("--set", f"embed.precision={precision}", "--set", f"embed.store={tmp_path / 'store'}")
        out = tmp_path / f"{precision}.parquet"
        assert bindcache("embed", "--config", config, *settings).exit_code == 0
        assert bindcache("store", "export", "--config", config, *settings, "--out", out).exit_code == 0
        rows = pq.read_table(out).to_pylist()
        vectors[precision] = np.array([row["vector"] for row in rows if row["role"] == "antibody"], np.float64)
    error = np.linalg.norm(vectors["bf16"] - vectors["fp32"]) / np.linalg.norm(vectors["fp32"])
    assert rows_of(measured, "antibody")["bf16", "float32"]["vectors"]["relative_error"] == pytest.approx(error, 0.05)


def test_the_ridge_is_compared_on_the_same_pairs(measured):
    """Antibodies are judged on all pairs of the sample; five antigens are too few, and that is said."""
    rows = rows_of(measured, "antibody")
    for row in rows.values():
        assert all(score["low"] <= score["high"] for score in row["ridge"].values())
    reference = rows["fp32", "float32"]["ridge"]["spearman"]
    assert (reference["low"], reference["high"]) == (0, 0)
    assert reference["value"] > 0.5
    assert measured["roles"]["antigen"]["not_judged"] == "the sample has fewer than 20 distinct antigens"
    assert all(row["ridge"] is None for row in rows_of(measured, "antigen").values())
    assert measured["choices"]["antibody"]["precision"] in {precision for precision, _ in rows}
    assert measured["choices"]["antibody"]["precision"] in measured["recommendation"]


def test_the_regressor_is_trained_on_each_precision(measured):
    """The A/B test has a row for every arm, and the arm without error agrees with itself."""
    rows = {(row["precision"], row["vector_dtype"]): row for row in measured["regressor"]}
    assert set(rows) == set(rows_of(measured, "antibody")) & set(rows_of(measured, "antigen"))
    reference = rows["fp32", "float32"]
    assert (reference["test"]["r2"]["low"], reference["test"]["r2"]["high"]) == (0, 0)
    assert -1 <= reference["valid"]["spearman"] <= 1
    bf16 = rows["bf16", "float32"]["test"]["r2"]
    assert bf16["low"] < bf16["high"]


@pytest.fixture
def old_machine(monkeypatch):
    """A machine that can do fp32 and INT8 alone."""

    def refuse(source, settings):
        if source.precision not in ("fp32", "int8"):
            raise EncoderError(f"This machine has no {source.precision}.")
        return open_encoder(source, settings)

    monkeypatch.setattr("pipeline.fidelity_vectors.open_encoder", refuse)


def test_the_table_fits_a_terminal(bindcache, config, old_machine):
    """No line is wider than 80 columns; what the machine cannot do is skipped with its reason."""
    result = bindcache("fidelity", "--config", config, "--sample", 60)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "60 pairs (a sample of 160)" in result.stdout
    assert "bf16 skipped: This machine has no bf16." in result.stdout
    assert "Take embed.antibody_precision" in result.stdout


def test_without_affinities_there_is_no_recommendation(bindcache, error, config, old_machine):
    """Vectors are compared all the same; the A/B test is refused before anything is encoded."""
    bare = ("--config", config, "--sample", 30, "--set", "pairs.affinity=")
    result = bindcache("fidelity", *bare)
    assert result.exit_code == 0, result.output
    assert "No recommendation: pairs.affinity names no column" in result.stdout
    assert "pairs.affinity names no column; name it" in error("fidelity", *bare, "--train")


def test_a_config_without_training_cannot_train(error, config, tmp_path):
    """--train needs the section that says how."""
    text = config.read_text().partition("[train]")[0]
    bare = config.parent / "bare.toml"
    bare.write_text(text)
    assert "no section [train]" in error("fidelity", "--config", bare, "--train")


def test_a_sample_keeps_the_split_column(table):
    """A sample keeps its declared parts of the split, so that the A/B test splits as the config says."""
    with_split = replace(table, split=Texts.of(f"part {i % 3}" for i in range(len(table.id))))
    sample = sample_pairs(with_split, 30)
    wanted = dict(zip(with_split.id, with_split.split, strict=True))
    assert list(sample.split) == [wanted[name] for name in sample.id]
