"""The loop when memory, vectors or the user interrupt it."""

import gc
from dataclasses import replace

import numpy as np
import pytest
import torch

from embed.batching import Room
from embed.encoders.encoder import Encoder, Padded
from embed.encoders.open import open_encoder
from embed.errors import EncoderError
from embed.fingerprint import find_sources
from embed.inference import Loop, encode
from embed.pieces import cut_pieces, measure

LETTERS = "ACDEFGHIKLMNPQRSTVWY"


class Counting(Encoder):
    """Sums letters: a vector is (mean of ids, 1), so that the truth is plain arithmetic."""

    pad_id = 0
    hidden = 2
    device = torch.device("cpu")

    def __init__(self, fail=lambda batch: None):
        self.fail = fail
        self.calls = 0

    def token_count(self, residues, chains):
        return residues + 2

    def tokenise(self, sequence, start, end):
        ids = np.array([99, *(LETTERS.index(c) + 1 for c in sequence[start:end]), 99])
        return ids, (ids != 99)[None]

    layers = torch.nn.ModuleList()

    def packed_inputs(self, batch):
        return {}

    def room(self):
        return Room(device="cpu", bytes=2**20, width=100)

    def forward(self, batch):
        self.calls += 1
        self.fail(batch)
        if isinstance(batch, Padded):
            pieces = list(zip(batch.ids_BL, batch.weight_BVL[:, 0], strict=True))
        else:
            ends = np.cumsum(np.repeat(batch.runs_R2[:, 1], batch.runs_R2[:, 0]))[:-1]
            pieces = list(zip(np.split(batch.ids_1T[0], ends), np.split(batch.weight_VT[0], ends), strict=True))
        return torch.tensor([[(ids * weights).sum(), weights.sum()] for ids, weights in pieces])


@pytest.fixture(autouse=True)
def quick_collection():
    """Freeze what other tests left behind: the loop collects garbage whenever memory runs out."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(params=["packed", "bucketed"])
def embed_config(embed_config, request):
    """Both ways to share a batch."""
    return replace(embed_config, batching=request.param)


def run(encoder, sequences, config, *, budget=50, stop=lambda: False):
    """Run the loop; return vectors by sequence and the tally."""
    vectors = {}

    def write(index_B, vector_BD):
        for i, vector_D in zip(index_B.tolist(), vector_BD, strict=True):
            assert i not in vectors
            vectors[i] = vector_D

    pieces = cut_pieces(*measure(sequences), encoder.token_count, config)
    loop = Loop(encoder, sequences, pieces, write, replace(config, tokens_per_batch=budget))
    return vectors, loop.run(stop=stop)


@pytest.fixture
def sequences():
    """Thirty sequences of 1 to 25 residues, one of them long enough for windows."""
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(list(LETTERS), n)) for n in [*rng.integers(1, 26, 29), 3000]]


def truth(sequence):
    """The vector that `Counting` must give."""
    return np.mean([LETTERS.index(c) + 1 for c in sequence])


def out_of_memory_above(tokens):
    """A forward that fails on batches of more than so many tokens."""

    def fail(batch):
        if batch.size > tokens:
            raise torch.OutOfMemoryError("fake")

    return fail


def test_means_are_arithmetic_means(sequences, embed_config):
    """Weights add up to the plain mean; windows to the mean of each residue's mean."""
    vectors, tally = run(Counting(), sequences, embed_config)
    for i, sequence in enumerate(sequences):
        assert vectors[i] == pytest.approx([truth(sequence), 1], rel=1e-5)
    assert tally.tokens == sum(len(s) + 2 for s in sequences[:29]) + 1024 * 4 + 3000 - 4 * 511 + 2


MEMORY_ERRORS = (torch.OutOfMemoryError("x"), RuntimeError("CUDA out of memory."), MemoryError())


@pytest.mark.parametrize("error", MEMORY_ERRORS, ids=lambda error: type(error).__name__)
def test_out_of_memory_splits_the_batch_and_loses_nothing(sequences, embed_config, error):
    """The same vectors come out when only lone pieces fit, in each of the words that memory errors use."""
    expected, _ = run(Counting(), sequences, embed_config, budget=400)

    def fail(batch):
        if len(batch.filled_BV) > 1:
            raise error

    vectors, tally = run(Counting(fail), sequences, embed_config, budget=400)
    assert tally.too_large == []
    assert {i: v.tolist() for i, v in vectors.items()} == {i: v.tolist() for i, v in expected.items()}


def test_out_of_memory_at_every_batch_in_turn_changes_nothing(sequences, embed_config, figure):
    """Memory runs out once, at the first batch, the second, ..., the last: every vector comes out bit for bit."""
    undisturbed = Counting()
    expected, _ = run(undisturbed, sequences, embed_config)
    for failing in range(1, undisturbed.calls + 1):
        encoder = Counting()

        def fail(batch, encoder=encoder, failing=failing):
            if encoder.calls == failing:
                raise torch.OutOfMemoryError("fake")

        encoder.fail = fail
        vectors, tally = run(encoder, sequences, embed_config)
        assert tally.too_large == []
        assert {i: v.tolist() for i, v in vectors.items()} == {i: v.tolist() for i, v in expected.items()}
    figure("batches out of memory, in turn", undisturbed.calls)


@pytest.mark.parametrize("role", ["paired", "antigen"])
def test_a_real_encoder_out_of_memory_at_every_batch_in_turn(embed_config, role, figure):
    """The vectors of an IgT5 and an ESM-2 stay within FORMAT.md's tolerance, and none is missing."""
    source = getattr(find_sources(embed_config), role)
    encoder = open_encoder(source, embed_config)
    rng = np.random.default_rng(0)
    chains = ["".join(rng.choice(list(LETTERS), n)) for n in rng.integers(20, 60, 24)]
    sequences = list(zip(chains[::2], chains[1::2], strict=True)) if role == "paired" else chains
    config = replace(embed_config, tokens_per_batch=250)
    forward, calls, failing = encoder.forward, 0, 0

    def fragile(batch):
        nonlocal calls
        calls += 1
        if calls == failing:
            raise torch.OutOfMemoryError("fake")
        return forward(batch)

    encoder.forward = fragile
    expected_ND, _ = encode(encoder, sequences, config)
    batches = calls
    assert batches > 3
    for failing in range(1, batches + 1):  # noqa: B007 (read by `fragile`)
        calls = 0
        vector_ND, tally = encode(encoder, sequences, config)
        assert tally.too_large == []
        apart_N = np.linalg.norm(vector_ND - expected_ND, axis=1) / np.linalg.norm(expected_ND, axis=1)
        assert apart_N.max() <= 1e-5
    figure("batches out of memory, in turn", batches)


def test_a_lone_sequence_that_does_not_fit_is_named_and_the_rest_done(sequences, embed_config):
    """What cannot be encoded is reported; everything else is handed on."""
    vectors, tally = run(Counting(out_of_memory_above(500)), sequences, embed_config)
    assert set(tally.too_large) == {29}
    assert sorted(vectors) == list(range(29))


def test_other_errors_are_not_taken_for_memory(sequences, embed_config):
    """A broken kernel stops the loop at once."""

    def fail(batch):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        run(Counting(fail), sequences, embed_config)


@pytest.mark.parametrize(
    ("value", "message"), [(float("nan"), "not finite"), (float("inf"), "not finite"), (0.0, "zeros")]
)
def test_broken_vectors_stop_the_loop(sequences, embed_config, value, message):
    """A vector that is not finite, or all zero, is never handed on."""
    encoder = Counting()
    encoder.forward = lambda batch: torch.full((len(batch.filled_BV), 2), value)
    with pytest.raises(EncoderError, match=message):
        run(encoder, sequences, embed_config)


def test_only_a_chain_that_is_not_there_may_be_zeros(embed_config):
    """With `chains`, the second half is zeros without a light chain; where there is one, zeros stop the loop."""
    config = replace(embed_config, pooling="chains")
    encoder = open_encoder(find_sources(config).paired, config)
    forward = encoder.forward
    encoder.forward = lambda batch: forward(batch) * (torch.arange(encoder.dim) < encoder.hidden)
    vector_1D, _ = encode(encoder, [("EVQLVE", None)], config)
    assert vector_1D[0, : encoder.hidden].all()
    with pytest.raises(EncoderError, match="zeros"):
        encode(encoder, [("EVQLVE", "DIQM"), ("EVQLVE", None)], config)


def test_a_stop_hands_on_what_is_encoded(sequences, embed_config):
    """After a stop the loop ends soon, and what it encoded is right."""
    encoder = Counting()
    vectors, tally = run(encoder, sequences, embed_config, stop=lambda: encoder.calls >= 8)
    assert tally.stopped
    assert 0 < len(vectors) < 29
    assert all(vectors[i][0] == pytest.approx(truth(sequences[i]), rel=1e-5) for i in vectors)
