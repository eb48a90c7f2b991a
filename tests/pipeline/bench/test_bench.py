"""`bindcache bench`: what is measured is what is said, and the tables follow from the numbers."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import train.build
import train.stage
from embed.encoders.open import open_encoder
from embed.fingerprint import find_sources
from embed.inference import encode
from embed.stage import read_table
from pipeline.bench import ablation, ladder
from pipeline.bench.loop import Loop
from pipeline.bench.naive import HuggingFace, kept_reader
from pipeline.bench.optimisations import Machine, Optimisation, cannot_matter
from pipeline.bench.processes import Bench
from pipeline.bench.product import measure_training
from pipeline.bench.settings import embed_with_all, embed_without, train_with_all, train_without
from pipeline.bench.standins import (
    OfficialTokens,
    SynchronousCheckpointer,
    open_tokenising,
    pageable_memory,
    standing_in,
)
from pipeline.bench.tables import ablation_table, ladder_table
from pipeline.config import load
from pipeline.errors import ConfigError
from train.rundir import RunDir

CPU = Machine(device="cpu", name="A processor", threads=2, convolutions=0, compiler=True)
SMALL = ("train.epochs=2", "train.widths=[32, 16]", "train.compile=off")


@pytest.fixture(scope="module")
def settings(config):
    """The demo's config with a quick training."""
    return load(config, SMALL)


@pytest.fixture(scope="module")
def table(settings):
    return read_table(settings.embed, settings.pairs)


def test_what_a_machine_lacks_cannot_matter_on_it():
    """cuDNN chooses convolutions, pinning serves a CUDA device, compiling takes a compiler."""
    cuda = replace(CPU, device="cuda:0", convolutions=1)
    assert "convolutions" in cannot_matter(Optimisation.CUDNN, CPU)
    assert "CUDA" in cannot_matter(Optimisation.PINNED, CPU)
    assert "compiler" in cannot_matter(Optimisation.COMPILED, replace(CPU, compiler=False))
    assert [name for name in Optimisation if cannot_matter(name, cuda)] == []
    assert sum(cannot_matter(name, CPU) is None for name in Optimisation) == 8


def test_settings_turn_one_thing_off(settings):
    """Everything else stays on, whatever the user's config says."""
    slow = replace(settings.embed, precision="bf16", antigen_precision="fp32", batching="bucketed", tokens_per_batch=9)
    on = embed_with_all(slow)
    assert (on.precision_of("antibody"), on.precision_of("antigen"), on.batching) == ("int8", "int8", "packed")
    off = partial(embed_without, on, longest=300, instead="fp32")
    assert off(None) == off(Optimisation.FAST_TOKENS) == on
    assert off(Optimisation.INT8) == replace(on, precision="fp32")
    assert off(Optimisation.BATCHED) == replace(on, tokens_per_batch=1)
    assert off(Optimisation.PACKED) == replace(on, batching="bucketed", buckets=(300,))
    training = train_with_all(settings.train, compiler=True)
    assert (training.checkpointing, training.compile) == ("all", "default")
    assert train_with_all(settings.train, compiler=False).compile == "off"
    assert train_without(training, Optimisation.CHECKPOINTED) == replace(training, checkpointing="none")
    assert train_without(training, Optimisation.COMPILED) == replace(training, compile="off")
    assert train_without(training, Optimisation.ASYNC_SAVES) == training


def test_the_official_tokenizers_give_the_same_ids(settings, table):
    """Slow tokens are the same tokens, pooled alike, for both chains, one chain and a window of an antigen."""
    sources = find_sources(settings.embed)
    single = next(antibody for antibody in table.antibodies if antibody[1] is None)
    paired = next(antibody for antibody in table.antibodies if antibody[1] is not None)
    for source, pieces in (
        (sources.paired, [(single, 0, len(single[0])), (paired, 0, sum(map(len, paired)))]),
        (sources.antigen, [(table.antigens[0], 0, 50), (max(table.antigens, key=len), 511, 1100)]),
    ):
        encoder, official = open_encoder(source, settings.embed), OfficialTokens(source.family, source.checkpoint)
        for piece in pieces:
            for ours, theirs in zip(encoder.tokenise(*piece), official(*piece), strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_the_naive_encoders_are_the_same_encoders(settings, table):
    """Plain Hugging Face calls, alone or padded, give the vectors that the product gives in fp32."""
    config = replace(settings.embed, precision="fp32")
    sources, index = find_sources(config), np.array([3, 0, 5])
    short = [antigen for antigen in table.antigens if len(antigen) <= config.window]
    for source, sequences in ((sources.paired, table.antibodies), (sources.antigen, short)):
        some = index[index < len(sequences)]
        naive = HuggingFace(source, sequences, torch.device("cpu"))
        encoder = open_tokenising(source, config, official=True)
        expected, _ = encode(encoder, [sequences[i] for i in some.tolist()], config)
        for read in (naive.one_by_one, naive.batched):
            np.testing.assert_allclose(read(some).numpy(), expected, rtol=1e-4, atol=2e-6)


def test_a_part_stands_in_for_a_while_and_only_for_one_that_is_there():
    """The product has its own parts back afterwards, and a name that is gone is not passed over."""
    before = train.stage.Checkpointer
    with standing_in(train.stage, "Checkpointer", SynchronousCheckpointer):
        assert train.stage.Checkpointer is SynchronousCheckpointer
    assert train.stage.Checkpointer is before
    with pytest.raises(AttributeError), standing_in(train.build, "NoSuchPart", None):
        pass
    empty, pin = torch.empty, torch.Tensor.pin_memory
    with pageable_memory():
        assert torch.empty(2, pin_memory=True).shape == (2,)  # which without CUDA is an error
        assert torch.ones(2).pin_memory().sum() == 2
    assert (torch.empty, torch.Tensor.pin_memory) == (empty, pin)


def test_a_synchronous_save_is_on_the_disk_when_it_returns(tmp_path):
    """Nothing is left to a thread."""
    run = RunDir(tmp_path)
    run.checkpoints.mkdir()
    with SynchronousCheckpointer(run, keep=2, facts={}) as checkpointer:
        checkpointer.save({"model": {}, "step": 7, "best_step": 0})
        assert run.checkpoint(7).exists()


def test_plain_parts_change_no_score(settings, table, tmp_path):
    """With validation in small batches and saves that wait, every seed reaches the very score it reached before."""
    random = np.random.default_rng(0)
    for role, sequences in (("antibody", table.antibodies), ("antigen", table.antigens)):
        np.save(tmp_path / f"{role}.npy", random.normal(size=(len(sequences), 16)).astype("f4"))
    measure = partial(measure_training, settings.embed, settings.train, table, vectors=tmp_path)
    base, small, waiting = (measure(name) for name in (None, Optimisation.WIDE_VALIDATION, Optimisation.ASYNC_SAVES))
    assert len(base["spearman"]) == 3
    assert base["seconds"] > 0
    assert waiting["spearman"] == base["spearman"]
    assert small["spearman"] == pytest.approx(base["spearman"], abs=1e-3)


def test_the_loop_learns_a_rule(settings, table):
    """Vectors that hold the affinity are learned to a high validation score; checkpointed or not, to the same one."""
    random = np.random.default_rng(0)
    rule = random.normal(size=len(table.antibodies)).astype("f4")
    told = replace(table, affinity_N=rule[table.pair_N2[:, 0]].astype(np.float64))
    noise = random.normal(size=(len(table.antigens), 2)).astype("f4")
    readers = [kept_reader(torch.from_numpy(side)) for side in (np.repeat(rule[:, None], 4, 1), noise)]
    quick = replace(settings.train, epochs=30, dropout=0.0)
    scores = [Loop(quick, told, readers, on, torch.device("cpu")).learn() for on in ((), (Optimisation.CHECKPOINTED,))]
    assert scores[0] > 0.9
    assert scores[0] == scores[1]


SIZES = ladder.Sizes(
    pairs=4000, sampled_pairs=2000, train_pairs=1200, valid_pairs=200, residues=1000, residues_of_table=1500
)


def test_an_epoch_is_composed_of_its_parts():
    """100 batches, 200 validation pairs and a fifth of a save, twice as many in the whole table."""
    answer = {"batch_seconds": 0.5, "valid_pair_seconds": 0.01, "save_seconds": 5.0}
    assert ladder.loop_seconds(answer, SIZES) == pytest.approx(2 * (100 * 0.5 + 200 * 0.01 + 100 / 500 * 5.0))


class Canned:
    """Answers as processes would, at once; it notes what was asked for."""

    sample = 2000

    def __init__(self, folder, seconds):
        self._folder, self._seconds, self.asked = folder, seconds, []

    def vectors(self, name):
        folder = self._folder / name
        if not folder.exists():
            folder.mkdir()
            random = np.random.default_rng(0)
            for role in ("antibody", "antigen"):
                np.save(folder / f"{role}.npy", random.normal(size=(30, 4)).astype("f4"))
        return folder

    def run(self, **asked):
        self.asked.append(asked)
        measured = {"peak_memory_bytes": 5e8, "machine": vars_of(CPU), "batches": 20}
        if asked["kind"] == "rung":
            seconds = 2.0 / (1 + len(asked["on"]))
            parts = {"batch_seconds": seconds, "valid_pair_seconds": 0.0, "save_seconds": 0.0}
            return {**measured, **parts, "spearman": 0.5}
        seconds = self._seconds.get(str(asked.get("without", "")), 10.0)
        return {**measured, "seconds": seconds, "spearman": [0.5, 0.7, None]}


def vars_of(machine):
    """The fields of a machine, as a process answers them."""
    return {name: getattr(machine, name) for name in machine.__dataclass_fields__}


def test_the_ablation_says_what_pays(tmp_path):
    """Slower without it: it pays; faster without it: it does not; what cannot matter is not measured."""
    bench = Canned(tmp_path, {"packing": 30.0, "compiled regressor": 5.0, "INT8": 10.2})
    result = ablation.ablate(bench)
    verdicts = {row.name: row.verdict for row in (*result.encoding, *result.training)}
    assert verdicts["packing"] == "pays"
    assert verdicts["compiled regressor"] == "does not pay"
    assert verdicts["INT8 (fp32 instead)"] == "makes no difference"
    assert verdicts["everything on"] == verdicts["as configured"] == ""
    assert set(result.cannot_matter) == {"cuDNN benchmark", "pinned memory"}
    assert not {"cuDNN benchmark", "pinned memory"} & {str(asked.get("without")) for asked in bench.asked}
    assert len(bench.asked) <= ablation.MEASUREMENTS
    said = ablation_table(result)
    assert max(map(len, said.splitlines())) <= 80
    assert "Pays here: packing (3.00)." in said
    assert "Does not pay here: compiled regressor (0.50)." in said
    assert "Cannot matter here: pinned memory, as there is no CUDA device to copy to." in said
    assert "0.600 ±0.100" in said
    json.dumps(result.as_json(), allow_nan=False)


def test_noise_hides_small_differences():
    """What differs by less than twice the same differed is called no difference."""
    assert ablation.noise_of(10.0, 10.1) == 0.05
    assert ablation.noise_of(10.0, 13.0) == pytest.approx(0.3)
    assert ablation.judge(1.2, 0.3) == ablation.judge(1 / 1.2, 0.3) == "makes no difference"
    assert ablation.judge(1.2, 0.05) == "pays"
    assert ablation.judge(1 / 1.2, 0.05) == "does not pay"


def test_the_ladder_adds_one_after_the_other(tmp_path):
    """Twelve rungs; each has one optimisation more, factors count from the naive loop, the store pays its encoding."""
    bench = Canned(tmp_path, {})
    result = ladder.climb(bench, SIZES)
    assert [rung.name for rung in result.rungs] == ["naive loop", *Optimisation, "the store"]
    assert [len(asked["on"]) for asked in bench.asked if asked["kind"] == "rung"] == list(range(11))
    assert len(bench.asked) == ladder.MEASUREMENTS
    assert [rung.factor for rung in result.rungs[:3]] == pytest.approx([1, 2, 3])
    store = result.rungs[-1]
    assert store.epoch_seconds == 20.0
    assert store.hours == pytest.approx((10.0 * 1.5 + 50 * 20.0) / 3600)
    assert store.spearman == pytest.approx(0.6)
    said = ladder_table(result)
    assert max(map(len, said.splitlines())) <= 80
    assert "from 2,000 pairs of the table and scaled to its 4,000" in said.replace("\n", " ")
    assert "pinned memory: there is no CUDA device to copy to." in said
    json.dumps(result.as_json(), allow_nan=False)


def bench_of(config, folder, *overrides, sample=40):
    """A bench of the demo."""
    return Bench(
        config=config,
        overrides=(*SMALL, *overrides),
        sample=sample,
        folder=folder,
        progress=lambda *_: None,
        phase="test",
        total=1,
    )


def test_a_rung_is_measured_in_a_process_of_its_own(config, tmp_path):
    """The naive loop of the demo takes time and memory, and has a score."""
    answer = bench_of(config, tmp_path).run(kind="rung", on=())
    assert answer["batch_seconds"] > 0
    assert answer["peak_memory_bytes"] > 1e8
    assert -1 <= answer["spearman"] <= 1
    assert Machine(**answer["machine"]).convolutions == 0


def test_a_mistake_in_a_process_is_the_users_sentence(config, tmp_path):
    """What the process refuses is refused here, in its words."""
    bench = bench_of(config, tmp_path, "embed.antigen=facebook/no/such")
    with pytest.raises(ConfigError, match=r"embed\.antigen"):
        bench.run(kind="encode", vectors=str(tmp_path))


def test_the_bench_needs_a_measurement_and_a_training(bindcache, error, config):
    """Nothing asked for is a usage error; a config that cannot train is refused before anything is measured."""
    assert bindcache("bench", "--config", config).exit_code == 2
    assert "pairs.affinity names no column" in error(
        "bench", "--ladder", "--config", config, "--set", "pairs.affinity="
    )


@pytest.mark.slow
@pytest.mark.parametrize(("option", "key"), [("--ablate", "ablation"), ("--ladder", "ladder")])
def test_the_whole_bench_of_the_demo(start, option, key):
    """Without a config the demo serves; both tables come out of real processes."""
    settings = [word for setting in SMALL[:2] for word in ("--set", setting)]
    out, err = start("bench", option, "--sample", 60, *settings, "--json").communicate(timeout=600)
    found = json.loads(out)[key]
    if key == "ladder":
        assert len(found["rungs"]) == 12, err
        assert all(rung["epoch_seconds"] > 0 for rung in found["rungs"])
    else:
        assert len(found["encoding"]) >= 6
        assert len(found["training"]) >= 6
        error = {row["name"]: row["vectors"]["antibody"]["relative_error"] for row in found["encoding"]}
        assert error["INT8 (fp32 instead)"] == 0 < error["INT8 (bf16 instead)"] < error["everything on"] < 0.05
