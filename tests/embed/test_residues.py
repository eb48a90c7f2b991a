"""Vectors of residues: those of Hugging Face, however sequences share batches, run out of memory or are cut."""

import gc
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import EsmModel, EsmTokenizer, T5EncoderModel, T5Tokenizer

from embed.encoders.open import open_encoder
from embed.errors import EncoderError
from embed.fingerprint import find_sources
from embed.inference import Loop
from embed.pairs import PairsConfig
from embed.pieces import Pieces, cut_pieces, in_turn, measure
from embed.residues import ResidueJoiner
from embed.sequences import antibody_keys, antigen_keys
from embed.stage import run_embed, vector_folders
from embed.store.maintenance import info, verify
from embed.store.reader import Vectors

LETTERS = list("ACDEFGHIKLMNPQRSTVWY")
HALF = 2**-10
"""Relative rounding of float16, twice: of windows, and of their mean."""


@pytest.fixture(autouse=True)
def quick_collection():
    """Freeze what other tests left behind: the loop collects garbage whenever memory runs out."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def sequences_of(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(LETTERS, length)) for length in lengths]


@pytest.fixture(params=["packed", "bucketed"])
def config(embed_config, request):
    """Both ways to share a batch, in fp32."""
    return replace(embed_config, batching=request.param, precision="fp32", pooling="residues", window=60, stride=25)


@pytest.fixture
def table(tmp_path):
    """Pairs of antibodies with and without light chain, and antigens in one to six windows."""
    heavy, light = sequences_of([110, 121, 7]), sequences_of([105, 5], seed=1)
    antibodies = [(heavy[0], light[0]), (heavy[1], light[1]), (heavy[2], None)]
    antigens = sequences_of([5, 60, 61, 85, 111, 170], seed=2)
    rows = [(antibodies[i % 3][0], antibodies[i % 3][1] or "", antigen) for i, antigen in enumerate(antigens)]
    path = tmp_path / "pairs.csv"
    path.write_text("heavy,light,antigen\n" + "\n".join(map(",".join, rows)))
    return PairsConfig(path=path, affinity=""), antibodies, antigens


def states_of_antibody(folder, antibody):
    """Residues of one antibody through T5EncoderModel and T5Tokenizer alone, heavy ones first, float64 [L, D]."""
    model = T5EncoderModel.from_pretrained(folder, dtype=torch.float32).eval()
    text = " </s> ".join(" ".join(chain) for chain in antibody if chain)
    encoded = T5Tokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.inference_mode():
        hidden_LD = model(**encoded).last_hidden_state[0].double().numpy()
    return hidden_LD[encoded.input_ids[0].numpy() != 1]


def states_of_antigen(folder, antigen, windows):
    """Residues of one antigen through EsmModel and EsmTokenizer alone, each averaged over its windows."""
    model = EsmModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False).eval()
    tokenizer = EsmTokenizer.from_pretrained(folder)
    total_LD, count_L1 = np.zeros((len(antigen), 128)), np.zeros((len(antigen), 1))
    for start, end in windows:
        with torch.inference_mode():
            total_LD[start:end] += (
                model(**tokenizer(antigen[start:end], return_tensors="pt")).last_hidden_state[0, 1:-1].double().numpy()
            )
        count_L1[start:end] += 1
    return total_LD / count_L1


def windows_of(length, window=60, stride=25):
    """Bounds of windows, from the words of the config: the last one ends with the sequence."""
    starts = [0]
    while starts[-1] + window < length:
        starts.append(starts[-1] + stride)
    return [(start, min(start + window, length)) for start in starts]


def read(config, antibodies, antigens):
    """Read the residues of sequences back from the store."""
    paired, _, antigen = vector_folders(config)
    found = []
    for folder, keys in ((paired, antibody_keys(antibodies)), (antigen, antigen_keys(antigens))):
        vectors = Vectors(folder)
        found.append([vectors.residues(at) for at in vectors.find(keys).tolist()])
    return found


def test_residues_are_those_of_hugging_face(checkpoints, config, table):
    """One row a residue, no special token, rounded to float16; a residue in several windows is their mean."""
    pairs, antibodies, antigens = table
    result = run_embed(config, pairs)
    assert result.embedded == len(antibodies) + len(antigens)
    found, found_antigens = read(config, antibodies, antigens)
    for antibody, residue_LD in zip(antibodies, found, strict=True):
        expected_LD = states_of_antibody(checkpoints / "igt5", antibody)
        assert residue_LD.dtype == np.float16
        np.testing.assert_allclose(residue_LD, expected_LD, rtol=HALF, atol=1e-4)
    for antigen, residue_LD in zip(antigens, found_antigens, strict=True):
        expected_LD = states_of_antigen(checkpoints / "esm2", antigen, windows_of(len(antigen)))
        np.testing.assert_allclose(residue_LD, expected_LD, rtol=HALF, atol=1e-3)
    assert verify(config.store) == []


def test_their_mean_is_the_vector_of_the_pooling_mean(config, table):
    """Under another fingerprint, with golden vectors of its own, and nothing is read twice."""
    pairs, antibodies, antigens = table
    mean = replace(config, pooling="mean")
    for each in (config, mean):
        run_embed(each, pairs)
    assert run_embed(config, pairs).embedded == 0
    folders = zip(vector_folders(config), vector_folders(mean), strict=True)
    for (ragged, plain), keys in zip(
        list(folders)[::2], (antibody_keys(antibodies), antigen_keys(antigens)), strict=True
    ):
        assert ragged != plain
        assert len(list((ragged / "golden").iterdir())) == 1
        one, other = Vectors(ragged), Vectors(plain)
        one_ND, other_ND = one.read(one.find(keys)), other.read(other.find(keys))
        assert np.linalg.norm(one_ND - other_ND, axis=1).max() < 1e-3 * np.linalg.norm(other_ND, axis=1).min()
    assert sum(folder.residues for folder in info(config.store)) == sum(
        len("".join(filter(None, each))) for each in (*antibodies, *antigens)
    )


def test_a_truncated_antigen_has_as_many_rows_as_were_read(config, table):
    """The length stays that of the sequence."""
    pairs, _, antigens = table
    config = replace(config, long="truncate")
    run_embed(config, pairs)
    vectors = Vectors(vector_folders(config)[2])
    location = vectors.find(antigen_keys(antigens))
    assert vectors.rows(location).tolist() == [min(len(antigen), 60) for antigen in antigens]
    assert vectors.lengths(location).tolist() == [len(antigen) for antigen in antigens]


def test_a_stopped_run_goes_on(config, table):
    """What was encoded before the stop is in the store; the same command encodes the rest."""
    pairs, antibodies, antigens = table
    config = replace(config, tokens_per_batch=80)
    polls = iter(range(100))
    first = run_embed(config, pairs, stop=lambda: next(polls) == 5)
    second = run_embed(config, pairs)
    assert first.stopped
    assert first.embedded > 0
    assert second.embedded > 0
    assert first.embedded + second.embedded == len(antibodies) + len(antigens)


def encode(encoder, sequences, config):
    """Run the loop; return states by sequence and the tally."""
    states = {}

    def write(index_B, residues):
        for index, residue_LD in zip(index_B.tolist(), residues, strict=True):
            assert index not in states
            states[index] = residue_LD.copy()

    pieces = cut_pieces(*measure(sequences), encoder.token_count, config)
    return states, Loop(encoder, sequences, pieces, write, config).run()


def test_out_of_memory_at_every_batch_in_turn_loses_nothing(config):
    """Batches are split until they fit; every residue comes out, within float16."""
    encoder = open_encoder(find_sources(config).antigen, config)
    sequences = sequences_of([10, 20, 40, 60, 90, 130])
    config = replace(config, tokens_per_batch=150)
    forward, calls, failing = encoder.residues, 0, 0

    def fragile(batch):
        nonlocal calls
        calls += 1
        if calls == failing:
            raise torch.OutOfMemoryError("fake")
        return forward(batch)

    encoder.residues = fragile
    expected, _ = encode(encoder, sequences, config)
    batches = calls
    assert batches > 3
    for failing in range(1, batches + 1):  # noqa: B007 (read by `fragile`)
        calls = 0
        states, tally = encode(encoder, sequences, config)
        assert tally.too_large == []
        assert sorted(states) == list(range(len(sequences)))
        for index, state_LD in states.items():
            np.testing.assert_allclose(state_LD, expected[index], rtol=HALF, atol=1e-3)


@pytest.mark.parametrize(
    ("value", "said"),
    [(1e6, "float16 does not hold"), (float("nan"), "float16 does not hold"), (0.0, "zeros")],
)
def test_broken_states_are_refused(config, value, said):
    """A state beyond 65,504, no number, and a residue of zeros; nothing of them is handed on."""
    encoder = open_encoder(find_sources(config).antigen, config)
    hidden = encoder._hidden

    def broken(batch):
        states = hidden(batch).clone()
        states[0, 3] = value
        return states

    encoder._hidden = broken
    with pytest.raises(EncoderError, match=said):
        encode(encoder, sequences_of([20]), config)


def test_few_sequences_in_several_windows_are_in_work_at_a_time():
    """Each piece comes once, those of a sequence together; the others come last, in one stretch."""
    length_N = np.array([10, 300, 20, 1000, 300, 300, 5])
    sequence_P = np.repeat(np.arange(7), [1, 3, 1, 10, 3, 3, 1])
    first = np.flatnonzero(np.diff(sequence_P, prepend=-1))
    start_P = (np.arange(len(sequence_P)) - first[sequence_P]) * 100
    end_P = np.minimum(start_P + 150, length_N[sequence_P])
    end_P[[*(first[1:] - 1), len(end_P) - 1]] = length_N
    pieces = Pieces(sequence_P, start_P, end_P, end_P - start_P)
    stretches = [sorted(set(sequence_P[some].tolist())) for some in in_turn(pieces, 650)]
    assert stretches == [[1], [3], [4, 5], [0, 2, 6]]
    assert np.sort(np.concatenate(list(in_turn(pieces, 650)))).tolist() == list(range(len(pieces)))


def test_a_joiner_holds_no_sequence_that_is_whole():
    """Sums are given up with their last window."""
    sequence_P, start_P, end_P = np.array([0, 0, 1]), np.array([0, 2, 0]), np.array([4, 6, 3])
    written = {}
    joiner = ResidueJoiner(
        Pieces(sequence_P, start_P, end_P, end_P - start_P),
        2,
        lambda index_B, residues: written.update(zip(index_B.tolist(), residues, strict=True)),
    )
    joiner.add(np.array([1]), np.full((4, 2), 3, np.float16))
    assert written == {}
    joiner.add(np.array([2, 0]), np.concatenate([np.full((3, 2), 7, np.float16), np.full((4, 2), 1, np.float16)]))
    assert joiner._sums == {}
    assert written[0][:, 0].tolist() == [1, 1, 2, 2, 3, 3]
    assert written[1].tolist() == [[7, 7]] * 3
