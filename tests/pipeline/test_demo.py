"""The embedded default: a learnable table and two encoders as the hub has them."""

import csv
import json
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from transformers import EsmModel, EsmTokenizer, T5EncoderModel, T5Tokenizer
from transformers.utils import logging as transformers_logging

from embed.pairs import read_pairs
from pipeline.config import load
from pipeline.demo import write_demo
from pipeline.demo_pairs import ANTIGEN_CHARGES, demo_rows, mutation_gain
from pipeline.errors import ConfigError

STANDARD = set("ACDEFGHIKLMNPQRSTVWY")
IGT5 = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {
    f"▁{residue}": i
    for residue, i in dict(
        A=3, L=4, G=5, V=6, S=7, R=8, E=9, D=10, T=11, I=12, P=13, K=14, F=15, Q=16, N=17, Y=18, M=19, H=20, W=21,
        C=22, X=23, B=24, O=25, U=26, Z=27,
    ).items()
}  # fmt: skip
ESM2 = {
    "<cls>": 0, "<pad>": 1, "<eos>": 2, "<unk>": 3, "L": 4, "A": 5, "G": 6, "V": 7, "S": 8, "E": 9, "R": 10, "T": 11,
    "I": 12, "D": 13, "P": 14, "K": 15, "Q": 16, "N": 17, "F": 18, "Y": 19, "M": 20, "H": 21, "W": 22, "C": 23, "X": 24,
    "B": 25, "U": 26, "Z": 27, "O": 28, ".": 29, "-": 30, "<null_1>": 31, "<mask>": 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder)
    return folder


@pytest.fixture(autouse=True)
def quiet():
    """The load report lists the decoder and the head, which nobody asked for."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


@pytest.fixture(scope="module")
def rows(demo):
    with (demo / "pairs.csv").open() as file:
        return list(csv.DictReader(file))


def bytes_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_bytes(demo, tmp_path):
    """The demo is the same for everyone."""
    before = torch.random.get_rng_state()
    write_demo(tmp_path)
    assert bytes_of(tmp_path) == bytes_of(demo)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert demo_rows(1) != demo_rows(0)


def test_a_demo_is_never_overwritten(demo):
    """What a user changed in it stays."""
    with pytest.raises(ConfigError, match=r"demo\.toml exists already; use it, or delete .* or name another folder\.$"):
        write_demo(demo)


def test_the_config_is_ready_to_use(demo):
    """Everything that the config names is there, but for what the stages make."""
    config = load(demo / "demo.toml")
    assert config.pairs.path.is_file()
    assert (config.embed.antibody, config.embed.antigen) == (str(demo / "igt5"), str(demo / "esm2"))
    assert not config.embed.store.exists()
    assert not config.train.run.exists()


def test_the_config_of_make_is_the_same_but_for_its_paths(demo):
    """`make` and `bindcache demo` run one and the same thing."""
    shipped = Path(__file__).parents[2] / "configs" / "demo.toml"
    make, own = tomllib.loads(shipped.read_text()), tomllib.loads((demo / "demo.toml").read_text())
    folder = shipped.parent / "../work/demo"
    for section, key in [
        ("pairs", "path"),
        ("embed", "antibody"),
        ("embed", "antigen"),
        ("embed", "store"),
        ("train", "run"),
    ]:
        there, here = shipped.parent / make[section].pop(key), demo / own[section].pop(key)
        assert there.resolve().relative_to(folder.resolve()) == here.relative_to(demo)
    assert make == own


def test_the_table_is_what_the_demo_promises(rows):
    """2,000 distinct pairs of repeated antibodies and five antigens, one of them long; some are nanobodies."""
    assert len(rows) == len({(row["heavy"], row["light"], row["antigen"]) for row in rows}) == 2000
    assert len({row["pair_id"] for row in rows}) == 2000
    assert sorted(len(antigen) for antigen in {row["antigen"] for row in rows}) == [60, 131, 242, 487, 1100]
    antibodies = Counter((row["heavy"], row["light"]) for row in rows)
    assert 400 < len(antibodies) <= 500
    assert 0.05 < sum(not light for _, light in antibodies) / len(antibodies) < 0.15
    for row in rows:
        assert set(row["heavy"] + row["light"] + row["antigen"]) <= STANDARD
        assert 110 <= len(row["heavy"]) <= 130
        assert not row["light"] or 100 <= len(row["light"]) <= 112


def test_the_stage_takes_every_row_as_it_is(demo):
    """The demo has nothing to normalise or reject."""
    table = read_pairs(load(demo / "demo.toml").pairs)
    assert (table.rows, table.rejected, table.normalised, table.warnings) == (2000, (), {}, ())
    assert 4 <= table.affinity_N.min() < 6
    assert 9 < table.affinity_N.max() <= 11
    assert 0.7 < table.affinity_N.std() < 1.3


def test_the_planted_rule_is_what_it_says():
    """Aromatic residues gain, opposite charges gain, and a mutation back undoes itself."""
    assert mutation_gain([("A", "W")], 0.0) > 0.5
    assert mutation_gain([("A", "K")], -1.0) == pytest.approx(0.25) == -mutation_gain([("A", "K")], 1.0)
    assert mutation_gain([("G", "D"), ("D", "G")], 1.0) == 0
    assert mutation_gain([], 1.0) == 0


def test_antigens_carry_the_charge_that_the_rule_uses(rows):
    """What the rule knows of an antigen can be read from its sequence."""
    antigens = {len(row["antigen"]): row["antigen"] for row in rows}

    def charge(sequence):
        return (sum(map(sequence.count, "KR")) - sum(map(sequence.count, "DE"))) / len(sequence)

    order = [charge(antigens[length]) for length in (60, 131, 242, 487, 1100)]
    assert spearmanr(order, ANTIGEN_CHARGES)[0] == pytest.approx(1.0)


def test_the_igt5_stand_in_has_the_published_layout(demo):
    """Keys, shards and config are those of a T5 on the hub."""
    index = json.loads((demo / "igt5" / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 1
    assert {
        "shared.weight",
        "encoder.block.1.layer.0.SelfAttention.q.weight",
        "decoder.final_layer_norm.weight",
    } <= set(index)
    assert {key.split(".")[0] for key in index} == {"shared", "encoder", "decoder"}
    config = json.loads((demo / "igt5" / "config.json").read_text())
    assert config["architectures"] == ["T5ForConditionalGeneration"]
    shape = ("vocab_size", "d_model", "num_layers", "d_ff", "num_heads", "feed_forward_proj", "decoder_start_token_id")
    assert [config[key] for key in shape] == [128, 128, 2, 512, 4, "relu", 0]
    model, report = T5EncoderModel.from_pretrained(demo / "igt5", output_loading_info=True)
    assert not report["missing_keys"]
    assert model.shared.weight.std() > 0.5


def test_the_esm2_stand_in_has_the_published_layout(demo):
    """Keys, shards and config are those of ESM-2 on the hub."""
    index = json.loads((demo / "esm2" / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 1
    assert {"esm.encoder.layer.1.attention.LayerNorm.weight", "lm_head.dense.weight"} <= set(index)
    assert {key.split(".")[0] for key in index} == {"esm", "lm_head"}
    config = json.loads((demo / "esm2" / "config.json").read_text())
    assert config["architectures"] == ["EsmForMaskedLM"]
    shape = ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads")
    assert [config[key] for key in shape] == [33, 128, 2, 512, 4]
    rules = ("position_embedding_type", "token_dropout", "emb_layer_norm_before", "pad_token_id", "mask_token_id")
    assert [config[key] for key in rules] == ["rotary", True, False, 1, 32]
    assert config["max_position_embeddings"] == 1026
    _, report = EsmModel.from_pretrained(demo / "esm2", add_pooling_layer=False, output_loading_info=True)
    assert not report["missing_keys"]


def test_the_tokenizers_give_the_published_ids(demo):
    """`spiece.model` and `vocab.txt` are read by the official classes to the listed ids."""
    igt5 = T5Tokenizer.from_pretrained(demo / "igt5")
    assert igt5.get_vocab() == IGT5 | {f"<extra_id_{i}>": 127 - i for i in range(100)}
    assert igt5("E V </s> D J").input_ids == [9, 6, 1, 10, 2, 1]
    assert igt5("EV").input_ids == [9, 2, 1]
    esm2 = EsmTokenizer.from_pretrained(demo / "esm2")
    assert esm2.get_vocab() == ESM2
    assert esm2("MKTA").input_ids == [0, 20, 15, 11, 5, 2]


def test_a_plain_ridge_learns_the_rule_from_plain_vectors(demo, rows):
    """The signal is in the vectors of a plain Hugging Face forward, so the product can be held to it."""
    igt5 = T5EncoderModel.from_pretrained(demo / "igt5").eval()
    esm2 = EsmModel.from_pretrained(demo / "esm2", add_pooling_layer=False).eval()

    def antibody(heavy, light):
        chains = [[IGT5[f"▁{residue}"] for residue in chain] for chain in (heavy, light) if chain]
        ids = [i for chain in chains for i in (*chain, 1)]
        hidden_LD = igt5(torch.tensor([ids])).last_hidden_state[0]
        return hidden_LD[torch.tensor(ids) != 1].mean(0).double().numpy()

    def antigen(sequence):
        ids = [0, *(ESM2[residue] for residue in sequence[:1022]), 2]
        return esm2(torch.tensor([ids])).last_hidden_state[0, 1:-1].mean(0).double().numpy()

    with torch.inference_mode():
        antibodies = {pair: antibody(*pair) for pair in {(row["heavy"], row["light"]) for row in rows}}
        antigens = {sequence: antigen(sequence) for sequence in {row["antigen"] for row in rows}}
    x_NF = np.array([np.r_[antibodies[row["heavy"], row["light"]], antigens[row["antigen"]]] for row in rows])
    pkd_N = np.array([float(row["pkd"]) for row in rows])
    train, test = np.split(np.random.default_rng(0).permutation(len(rows)), [1600])
    x_NF = (x_NF - x_NF[train].mean(0)) / (x_NF[train].std(0) + 1e-9)
    gram_FF = x_NF[train].T @ x_NF[train] + np.eye(x_NF.shape[1])
    weight_F = np.linalg.solve(gram_FF, x_NF[train].T @ (pkd_N[train] - pkd_N[train].mean()))
    assert spearmanr(x_NF[test] @ weight_F, pkd_N[test])[0] > 0.85
