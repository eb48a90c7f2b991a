"""The vectors of a table in every precision, one precision in memory at a time; nothing goes to the store.

Shapes: N distinct sequences of a role, D width of a vector.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from embed.config import EmbedConfig, Precision
from embed.encoders.encoder import Encoder
from embed.encoders.open import open_encoder
from embed.errors import EncoderError
from embed.fingerprint import Source, find_sources
from embed.inference import encode
from embed.pairs import PairTable
from embed.texts import Antibodies, Texts
from pipeline.fidelity_sample import ROLES, Role, residues_of, sequences_of

_WARM_UP = 8
"""Sequences encoded before the clock runs: libraries load and choose their ways at the first call."""
_SHORT_SECONDS = 5.0
"""A measurement shorter than this is taken twice, and the faster one counts."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to have vectors: the arithmetic of the encoders, and how their vectors are stored."""

    precision: Precision
    vector_dtype: Literal["float32", "float16"] = "float32"

    @property
    def name(self) -> str:
        """Name the arm in a table."""
        return self.precision if self.vector_dtype == "float32" else f"{self.precision}, {self.vector_dtype}"


@dataclass(frozen=True, slots=True)
class Encoded:
    """The vectors of a role, and how long their encoding took, loading and warming up left out."""

    vector_ND: npt.NDArray[np.float32]
    seconds: float


REFERENCE = Arm("fp32")
_HALVED = Arm("fp32", "float16")

Arms = Mapping[Role, Encoded | str]
"""Of each role the vectors, or the reason why there are none."""


def encode_arms(
    config: EmbedConfig, table: PairTable, progress: Callable[[str, int, int], None]
) -> Iterator[tuple[Arm, Arms]]:
    """Encode a table's sequences in fp32, the reference, and then in every other precision.

    Raises:
        EmbedError: A checkpoint cannot be used, or the reference cannot be had.
    """
    others: list[Precision] = [precision for precision in get_args(Precision) if precision != REFERENCE.precision]
    residues = {role: int(residues_of(table, role).sum()) for role in ROLES}
    done, total = 0, sum(residues.values()) * (1 + len(others))
    phase = "encoding the sample"
    progress(phase, 0, total)
    for precision in (REFERENCE.precision, *others):
        asked = replace(
            config, precision=precision, antibody_precision="", antigen_precision="", vector_dtype="float32"
        )
        arms: dict[Role, Encoded | str] = {}
        for role in ROLES:
            try:
                arms[role] = encode_role(asked, table, role)
            except EncoderError as error:
                if precision == REFERENCE.precision:
                    raise
                arms[role] = str(error)
            done += residues[role]
            progress(phase, done, total)
        yield Arm(precision), arms
        if precision == REFERENCE.precision:
            yield _HALVED, {role: _in_float16(each) for role, each in arms.items()}


def encode_role(
    config: EmbedConfig,
    table: PairTable,
    role: Role,
    opener: Callable[[Source, EmbedConfig], Encoder] | None = None,
) -> Encoded:
    """Encode the distinct sequences of a role in memory.

    Args:
        config: Encoders, precision and batching.
        table: The pairs.
        role: Antibody or antigen.
        opener: What opens an encoder; the product's own unless given.

    Raises:
        EncoderError: The encoder cannot be had, or a sequence does not fit in memory.
    """
    sequences, readers = sequences_of(table, role), readers_of(config, table, role)
    widths = sorted({source.dim for source, _ in readers})
    if len(widths) > 1:
        raise EncoderError(
            f"Antibody vectors have widths {widths[0]} and {widths[1]}: paired and single-chain encoders "
            'must agree; use embed.single_chain = "same".'
        )
    vector_ND, seconds = np.empty((len(sequences), widths[0]), np.float32), 0.0
    for source, index in readers:
        if source.lookup is not None:
            before = time.perf_counter()
            vector_ND[index] = source.lookup.encode(sequences.take(index))
            seconds += time.perf_counter() - before
            continue
        encoder = (opener or open_encoder)(source, config)
        encoded = _time(encoder, sequences.take(index), config)
        vector_ND[index] = encoded.vector_ND
        seconds += encoded.seconds
    return Encoded(vector_ND, seconds)


def readers_of(config: EmbedConfig, table: PairTable, role: Role) -> list[tuple[Source, npt.NDArray[np.int64]]]:
    """Tell which encoder reads which of a role's sequences."""
    sources = find_sources(config)
    if role == "antigen":
        return [(sources.antigen, np.arange(len(table.antigens)))]
    if sources.single.fingerprint == sources.paired.fingerprint:
        return [(sources.paired, np.arange(len(table.antibodies)))]
    alone_N = table.antibodies.alone()
    readers = [(sources.paired, np.flatnonzero(~alone_N)), (sources.single, np.flatnonzero(alone_N))]
    return [(source, index) for source, index in readers if len(index)]


def is_looked_up(config: EmbedConfig, table: PairTable, role: Role) -> bool:
    """Tell whether no model reads any sequence of a role."""
    return all(source.lookup is not None for source, _ in readers_of(config, table, role))


def _time(encoder: Encoder, sequences: Antibodies | Texts, config: EmbedConfig) -> Encoded:
    encode(encoder, sequences.take(np.argsort(sequences.lengths(), kind="stable")[:_WARM_UP]), config)
    vector_ND, tally = encode(encoder, sequences, config)
    if tally.too_large:
        raise EncoderError(
            f"{len(set(tally.too_large))} sequences do not fit in memory even alone; use a device with more memory, "
            'or embed.long = "window" with a smaller window.'
        )
    seconds = tally.seconds
    if seconds < _SHORT_SECONDS:
        seconds = min(seconds, encode(encoder, sequences, config)[1].seconds)
    return Encoded(vector_ND, seconds)


def _in_float16(encoded: Encoded | str) -> Encoded | str:
    if isinstance(encoded, str):
        return encoded
    with np.errstate(over="ignore"):
        stored_ND = encoded.vector_ND.astype(np.float16).astype(np.float32)
    if not np.isfinite(stored_ND).all():
        return "float16 does not hold the largest values of these vectors."
    return Encoded(stored_ND, encoded.seconds)
