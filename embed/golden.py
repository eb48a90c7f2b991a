"""Proving, before anything is written, that an encoder still gives the vectors that its store was made with."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from embed.config import EmbedConfig
from embed.errors import EncoderError
from embed.fingerprint import Source
from embed.pieces import measure
from embed.sequences import Antibody, antibody_keys, antigen_keys
from embed.store.folder import read_fingerprint
from embed.store.golden import Golden, prove_encoder

if TYPE_CHECKING:  # it brings torch
    from embed.encoders.encoder import Encoder

ANTIBODIES: tuple[Antibody, ...] = (
    ("EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIH", "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVA"),
    ("QVQLQESGGGLVQAGGSLRLSCAASGRTFSSYAMGWFRQAPGKEREFVAA", None),
    ("ACDEFGHIKLMNPQRSTVWYX", "YWVTSRQPNMLKIHGFEDCA"),
    ("EVQLVESGGG", "DIQMTQS"),
)
"""Starts of trastuzumab's chains and of a nanobody, every letter, and a few residues."""

ANTIGENS = (
    "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG",
    "FVNQHLCGSHLVEALYLVCGERGFFYTPKT",
    "ACDEFGHIKLMNPQRSTVWYX",
    "MKTAYIAKQR",
)
"""Ubiquitin, the B chain of insulin, every letter, and a few residues."""


def prove(encoder: "Encoder", source: Source, folder: Path, config: EmbedConfig) -> None:
    """Embed the golden sequences, and compare with what the store's folder has.

    Raises:
        StoreError: The encoder is another one than made the folder, or the folder's golden vectors are damaged.
        EncoderError: The golden sequences cannot be embedded.
    """
    from embed.inference import encode

    sequences: Sequence[Antibody | str] = ANTIBODIES if source.role == "antibody" else ANTIGENS
    # always the same batch, and no compiling for four sequences
    vector_GD, tally = encode(encoder, sequences, replace(config, compile="off", tokens_per_batch="auto"))
    if tally.too_large:
        raise EncoderError(f"{source.checkpoint.model}: not even 100 tokens fit in memory; use a larger device.")
    _compare(vector_GD, source, folder)


def prove_lookup(source: Source, folder: Path) -> None:
    """Look the golden sequences up, and compare with what the store's folder has.

    Raises:
        StoreError: The folder was made by another table or layout, or its golden vectors are damaged.
    """
    assert source.lookup is not None
    _compare(source.lookup.encode(ANTIBODIES if source.role == "antibody" else ANTIGENS), source, folder)


def _compare(vector_GD: npt.NDArray[np.float32], source: Source, folder: Path) -> None:
    antibody = source.role == "antibody"
    golden = Golden(
        antibody_keys(ANTIBODIES) if antibody else antigen_keys(ANTIGENS),
        vector_GD,
        measure(ANTIBODIES if antibody else ANTIGENS)[0].astype(np.int32),
    )
    prove_encoder(folder, read_fingerprint(folder), golden, f"{source.checkpoint.model} on this machine")
