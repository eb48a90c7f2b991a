"""Vectors against the plain Hugging Face forward of one unpadded sequence."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import BitsAndBytesConfig, EsmModel, EsmTokenizer, T5EncoderModel, T5Tokenizer

from embed.encoders.checkpoint import open_checkpoint
from embed.encoders.esm2 import Esm2
from embed.encoders.igt5 import IgT5
from embed.encoders.loading import Arithmetic
from embed.encoders.open import open_encoder
from embed.fingerprint import find_sources
from embed.inference import Loop
from embed.pieces import cut_pieces, measure

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
BOUNDS = {"fp32": 1e-5, "bf16": 2e-2, "fp16": 2e-3, "int8": 3e-2, "int8-fast": 4e-2}


def sequences_of(lengths, seed=0):
    """Random sequences, one of each length."""
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list(RESIDUES), length)) for length in lengths]


def arithmetic(precision, threshold=6.0, batching="packed"):
    """An arithmetic on the CPU."""
    return Arithmetic(precision=precision, threshold=threshold, device="cpu", packed=batching == "packed")


def vectors_of(encoder, sequences, config, *, budget=600, edges=None, order=None):
    """Run the loop over sequences in an order and return their vectors in the given one."""
    order = list(range(len(sequences))) if order is None else list(order)
    chosen = [sequences[i] for i in order]
    vector_ND = np.full((len(sequences), encoder.dim), np.nan, np.float32)

    def write(index_B, vector_BD):
        vector_ND[np.array(order)[index_B]] = vector_BD

    config = replace(config, tokens_per_batch=budget, buckets=edges or "auto")
    Loop(encoder, chosen, cut_pieces(*measure(chosen), encoder.token_count, config), write, config).run()
    return vector_ND


def plain_antibody(folder, antibody, *, pooling="mean"):
    """One antibody through T5EncoderModel and T5Tokenizer alone."""
    model = T5EncoderModel.from_pretrained(folder, dtype=torch.float32).eval()
    heavy, light = antibody
    text = " ".join(heavy) + (f" </s> {' '.join(light)}" if light else "")
    encoded = T5Tokenizer.from_pretrained(folder)(text, return_tensors="pt", return_special_tokens_mask=True)
    mask = encoded.pop("special_tokens_mask")[0].bool()
    if pooling == "mean":
        mask = mask | (encoded.input_ids[0] == 1)
    with torch.inference_mode():
        hidden_LD = model(**encoded).last_hidden_state[0]
    return hidden_LD[~mask].double().mean(0).numpy()


def plain_antigen(folder, antigen, windows):
    """One antigen through EsmModel and EsmTokenizer alone, its windows averaged residue by residue."""
    model = EsmModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False).eval()
    tokenizer = EsmTokenizer.from_pretrained(folder)
    total_LD, count_L1 = np.zeros((len(antigen), 128)), np.zeros((len(antigen), 1))
    for start, end in windows:
        with torch.inference_mode():
            hidden_LD = model(**tokenizer(antigen[start:end], return_tensors="pt")).last_hidden_state[0, 1:-1]
        total_LD[start:end] += hidden_LD.double().numpy()
        count_L1[start:end] += 1
    return (total_LD / count_L1).mean(0)


def relative_error(actual, expected):
    """The largest relative L2 error of a row."""
    return float(np.max(np.linalg.norm(actual - expected, axis=1) / np.linalg.norm(expected, axis=1)))


@pytest.mark.parametrize("batching", ["packed", "bucketed"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "int8", "int8-fast"])
def test_antibody_vectors_are_those_of_hugging_face(checkpoints, embed_config, precision, batching):
    """Paired and single chains, batched, equal the plain forward within the precision's bound."""
    embed_config = replace(embed_config, batching=batching)
    heavy, light = sequences_of([110, 121, 121, 118, 1]), sequences_of([105, 107, 107, 109, 1], seed=1)
    antibodies = [*zip(heavy, light, strict=True), (heavy[0], None), ("ACDEFGHIKLMNPQRSTVWYX" * 5, "XX")]
    encoder = IgT5(open_checkpoint(str(checkpoints / "igt5"), ""), arithmetic(precision, batching=batching), "mean")
    expected = np.stack([plain_antibody(checkpoints / "igt5", antibody) for antibody in antibodies])
    assert relative_error(vectors_of(encoder, antibodies, embed_config), expected) < BOUNDS[precision]


def test_card_pooling_counts_the_separator(checkpoints, embed_config):
    """`card` is the published recipe, whose special-tokens mask leaves the inner separator in the mean."""
    antibody = (sequences_of([40])[0], sequences_of([30], seed=1)[0])
    encoder = IgT5(open_checkpoint(str(checkpoints / "igt5"), ""), arithmetic("fp32"), "card")
    vector_1D = vectors_of(encoder, [antibody], embed_config)
    card, residues = (plain_antibody(checkpoints / "igt5", antibody, pooling=p) for p in ("card", "mean"))
    assert relative_error(vector_1D, card[None]) < 1e-5 < relative_error(vector_1D, residues[None])


def plain_chains(folder, antibody):
    """The means of its heavy and of its light chain side by side, zeros in the place of a missing one."""
    heavy, light = antibody
    model, tokenizer = T5EncoderModel.from_pretrained(folder, dtype=torch.float32).eval(), T5Tokenizer.from_pretrained
    text = " </s> ".join(" ".join(chain) for chain in antibody if chain)
    with torch.inference_mode():
        hidden_LD = model(**tokenizer(folder)(text, return_tensors="pt")).last_hidden_state[0].double()
    light_LD = hidden_LD[len(heavy) + 1 : -1]
    return torch.cat([hidden_LD[: len(heavy)].mean(0), light_LD.mean(0) if light else light_LD.sum(0)]).numpy()


@pytest.mark.parametrize("batching", ["packed", "bucketed"])
def test_chains_are_pooled_apart(checkpoints, embed_config, batching):
    """Heavy mean, then light mean, each against the plain forward; without light chain exact zeros in its place."""
    config = replace(embed_config, batching=batching, pooling="chains", precision="fp32")
    heavy, light = sequences_of([110, 121, 121, 1, 98]), sequences_of([105, 107, 107, 1], seed=1)
    antibodies = [*zip(heavy, [*light, None], strict=True), ("ACDEFGHIKLMNPQRSTVWYX" * 5, "XX")]
    source = find_sources(config).paired
    encoder = open_encoder(source, config)
    vector_ND = vectors_of(encoder, antibodies, config)
    expected = np.stack([plain_chains(checkpoints / "igt5", antibody) for antibody in antibodies])
    assert source.dim == encoder.dim == vector_ND.shape[1] == 2 * encoder.hidden
    for half in (slice(encoder.hidden), slice(encoder.hidden, None)):
        there = expected[:, half].any(axis=1)
        assert relative_error(vector_ND[there, half], expected[there, half]) < BOUNDS["fp32"]
        assert not vector_ND[~there, half].any()
    assert there.sum() == 5


@pytest.mark.parametrize("batching", ["packed", "bucketed"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "int8", "int8-fast"])
def test_antigen_vectors_are_those_of_hugging_face(checkpoints, embed_config, precision, batching):
    """Short antigens, one of exactly a window and one of several windows, within the precision's bound."""
    embed_config = replace(embed_config, batching=batching)
    antigens = sequences_of([5, 60, 61, 1022, 1100, 2100])
    spans = [[(0, len(antigen))] for antigen in antigens[:4]]
    spans += [[(0, 1022), (511, 1100)], [(0, 1022), (511, 1533), (1022, 2044), (1533, 2100)]]
    encoder = Esm2(open_checkpoint(str(checkpoints / "esm2"), ""), arithmetic(precision, batching=batching))
    expected = np.stack([plain_antigen(checkpoints / "esm2", *pair) for pair in zip(antigens, spans, strict=True)])
    assert relative_error(vectors_of(encoder, antigens, embed_config), expected) < BOUNDS[precision]


@pytest.mark.parametrize("batching", ["packed", "bucketed"])
def test_t5_in_fp16_holds_a_residual_beyond_its_range(checkpoints, embed_config, tmp_path, batching):
    """A feed-forward output above 65,504, as trained T5 has them, neither overflows nor costs digits."""
    folder = tmp_path / "igt5"
    shutil.copytree(checkpoints / "igt5", folder, ignore=shutil.ignore_patterns("model*"))
    model = T5EncoderModel.from_pretrained(checkpoints / "igt5", dtype=torch.float32)
    with torch.no_grad():
        model.encoder.block[0].layer[1].DenseReluDense.wo.weight[3] = 2e4
    model.save_pretrained(folder)
    outputs = []
    hook = (
        model.encoder.block[0].layer[1].DenseReluDense.wo.register_forward_hook(lambda *call: outputs.append(call[2]))
    )
    antibody = (sequences_of([120])[0], sequences_of([107], seed=1)[0])
    paired = T5Tokenizer.from_pretrained(folder)(f"{' '.join(antibody[0])} </s> {' '.join(antibody[1])}")
    with torch.inference_mode():
        model(input_ids=torch.tensor([paired.input_ids]))
    hook.remove()
    assert outputs[0].abs().max() > torch.finfo(torch.float16).max
    encoder = IgT5(open_checkpoint(str(folder), ""), arithmetic("fp16", batching=batching), "mean")
    vector_1D = vectors_of(encoder, [antibody], embed_config)
    assert relative_error(vector_1D, plain_antibody(folder, antibody)[None]) < BOUNDS["fp16"]


@pytest.mark.parametrize("batching", ["packed", "bucketed"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_vector_does_not_depend_on_its_neighbours(checkpoints, embed_config, precision, batching):
    """The same antibodies under 20 batch compositions, bucketings and orders agree within FORMAT.md's 1e-5."""
    embed_config = replace(embed_config, batching=batching)
    rng = np.random.default_rng(3)
    antibodies = list(
        zip(sequences_of(rng.integers(100, 130, 12)), sequences_of(rng.integers(95, 115, 12), 1), strict=True)
    )
    encoder = IgT5(open_checkpoint(str(checkpoints / "igt5"), ""), arithmetic(precision, batching=batching), "mean")
    reference_ND = vectors_of(encoder, antibodies, embed_config, budget=1)
    for _ in range(20):
        vector_ND = vectors_of(
            encoder,
            antibodies,
            embed_config,
            budget=int(rng.integers(1, 3000)),
            edges=[None, (256, 384, 512), (240,)][rng.integers(3)],
            order=rng.permutation(12),
        )
        assert relative_error(vector_ND, reference_ND) < 1e-5


@pytest.mark.parametrize("threshold", [0.0, 6.0])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_bitsandbytes_is_transformers_own(checkpoints, embed_config, threshold):
    """`int8-bnb` equals the model that transformers loads with `load_in_8bit`, in the same batches."""
    antigens = sequences_of([80, 80, 80])
    quantisation = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=threshold)
    model = EsmModel.from_pretrained(
        checkpoints / "esm2", quantization_config=quantisation, dtype=torch.bfloat16, add_pooling_layer=False
    ).eval()
    ids_BL = EsmTokenizer.from_pretrained(checkpoints / "esm2")(antigens, return_tensors="pt").input_ids
    with torch.inference_mode():
        expected = model(input_ids=ids_BL).last_hidden_state[:, 1:-1].float().mean(1).numpy()
    encoder = Esm2(open_checkpoint(str(checkpoints / "esm2"), ""), arithmetic("int8-bnb", threshold))
    assert relative_error(vectors_of(encoder, antigens, embed_config), expected) < 1e-3


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_bitsandbytes_reads_antibodies_as_transformers_does(checkpoints, embed_config):
    """The same for IgT5, whose `wo` transformers keeps in 16 bits."""
    antibodies = list(zip(sequences_of([60, 60]), sequences_of([50, 50], 1), strict=True))
    quantisation = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=6.0)
    folder = checkpoints / "igt5"
    model = T5EncoderModel.from_pretrained(folder, quantization_config=quantisation, dtype=torch.bfloat16).eval()
    texts = [f"{' '.join(heavy)} </s> {' '.join(light)}" for heavy, light in antibodies]
    ids_BL = T5Tokenizer.from_pretrained(folder)(texts, return_tensors="pt").input_ids
    with torch.inference_mode():
        hidden_BLD = model(input_ids=ids_BL).last_hidden_state.float()
    expected = np.stack([h[ids != 1].mean(0).numpy() for h, ids in zip(hidden_BLD, ids_BL, strict=True)])
    encoder = IgT5(open_checkpoint(str(folder), ""), arithmetic("int8-bnb"), "mean")
    assert relative_error(vectors_of(encoder, antibodies, embed_config), expected) < 1e-3
