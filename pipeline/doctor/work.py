"""The config's work: what its table holds, what is left to encode, and the room and time that it takes."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from embed.config import EmbedConfig
from embed.encoders.checkpoint import Checkpoint
from embed.errors import EmbedError
from embed.fingerprint import find_sources
from embed.pairs import PairsConfig, PairTable
from embed.pieces import cut_pieces, measure
from embed.stage import read_table
from embed.work import Work, left_to_read
from pipeline.doctor.findings import Finding
from pipeline.output import human_bytes
from pipeline.progress import duration
from train.config import TrainConfig

_SHOWN = 3
_ROW_BYTES = 20
"""Of a sequence in a shard beside its vector: key and length."""
_SPARE = 1.2
_BOTH_ENDS = 2
"""Special tokens of an antigen; an antibody has one for each chain."""
_LONG_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class RoleWork:
    """What is left to one encoder."""

    role: str
    sequences: int
    tokens: int
    bytes: int


def look_at_table(embed: EmbedConfig, pairs: PairsConfig) -> tuple[Finding, PairTable | None]:
    """Read the table as the stages do, and tell its counts and its first problems."""
    try:
        table = read_table(embed, replace(pairs, on_bad_row="reject"))
    except EmbedError as error:
        return Finding(name="table", verdict="problem", said=str(error), next_step="mend the table or [pairs]"), None
    said = (
        f"{len(table.pair_N2):,} pairs of {len(table.antibodies):,} antibodies and {len(table.antigens):,} antigens, "
        f"from {len(table.pair_of_row):,} rows"
    )
    bad = [row for row in table.rejected if not row.reason.startswith("censored") or pairs.censored == "error"]
    if not bad:
        said += f"; {len(table.rejected):,} left out" if table.rejected else ""
        if not table.warnings:
            return Finding(name="table", verdict="ok", said=said), table
        step = "see whether that is meant; embed warns of it and goes on"
        said = " ".join([f"{said}.", *table.warnings[:_SHOWN]])
        return Finding(name="table", verdict="warning", said=said, next_step=step), table
    some = "; ".join(f"row {row.row}, {row.column}: {row.reason}" for row in bad[:_SHOWN])
    said += f". {len(bad):,} rows cannot be used: {some}"
    if pairs.on_bad_row == "error":
        step = 'mend them, or set pairs.on_bad_row = "reject" to list them and go on'
        return Finding(name="table", verdict="problem", said=said, next_step=step), table
    return Finding(name="table", verdict="warning", said=said, next_step="read rejected.csv after `embed`"), table


def work_left(embed: EmbedConfig, table: PairTable) -> list[RoleWork]:
    """Count what the store lacks, by role; all encoders have to be here.

    Raises:
        EmbedError: The store or an encoder cannot be used.
    """
    item = np.dtype(embed.vector_dtype).itemsize
    by_role: dict[str, RoleWork] = {}
    for missing, _ in left_to_read(table, find_sources(embed), (1, 1)):
        source = missing.source
        if not len(missing) or source.imported is not None:
            continue
        before = by_role.get(source.role, RoleWork(source.role, 0, 0, 0))
        by_role[source.role] = RoleWork(
            source.role,
            before.sequences + len(missing),
            before.tokens + _tokens(missing, embed),
            before.bytes + len(missing) * (source.dim * item + _ROW_BYTES),
        )
    return list(by_role.values())


def look_at_room(embed: EmbedConfig, work: Sequence[RoleWork] | None) -> Finding:
    """Hold the disk's free bytes against what the store will take."""
    place = next(folder for folder in (embed.store, *embed.store.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if work is None:
        return Finding(name="disk", verdict="ok", said=f"{human_bytes(free)} free at {embed.store}")
    needed = sum(role.bytes for role in work)
    said = f"the store needs about {human_bytes(needed)} more, and {human_bytes(free)} are free at {embed.store}"
    if free < needed * _SPARE:
        step = 'name a store on a larger disk, or set embed.vector_dtype = "float16"'
        return Finding(name="disk", verdict="problem", said=said, next_step=step)
    return Finding(name="disk", verdict="ok", said=said)


def embed_time(role: RoleWork, rate: float, how: str) -> Finding:
    """Estimate the time of one encoder from a rate in tokens a second."""
    seconds = role.tokens / rate
    said = f"about {duration(seconds)} for {role.sequences:,} sequences, {role.tokens:,} tokens at {rate:,.0f}/s"
    name, said = f"embed {role.role}", f"{said} ({how})"
    if seconds > _LONG_SECONDS:
        step = "share the work: bindcache submit embed --parts N (docs/cluster.md), or use a GPU"
        return Finding(name=name, verdict="warning", said=said, next_step=step)
    return Finding(name=name, verdict="ok", said=said)


def train_time(train: TrainConfig, table: PairTable, rate: float) -> Finding:
    """Estimate the time of a training of all its epochs from a rate in steps a second."""
    steps = train.epochs * -(-len(table.pair_N2) * 8 // 10 // train.batch_size)
    said = f"at most about {duration(steps / rate)} for {train.epochs} epochs, {steps:,} steps at {rate:,.0f}/s"
    return Finding(name="train", verdict="ok", said=f"{said} (of a plain network of this shape)")


def operations(checkpoint: Checkpoint) -> float:
    """Count the parameters of an encoder's layers, to which the operations of a token are in proportion."""
    config = {name: float(str(value)) for name, value in checkpoint.config.items() if isinstance(value, int)}
    if checkpoint.config.get("model_type") == "t5":
        attention = 4 * config["d_model"] * config["num_heads"] * config["d_kv"]
        return config["num_layers"] * (attention + 2 * config["d_model"] * config["d_ff"])
    hidden = config["hidden_size"]
    return config["num_hidden_layers"] * (4 * hidden * hidden + 2 * hidden * config["intermediate_size"])


def needs_memory(checkpoint: Checkpoint) -> int:
    """Tell the bytes that loading an encoder takes at least: its weights."""
    return sum(path.stat().st_size for path in checkpoint.weights)


def _tokens(work: Work, embed: EmbedConfig) -> int:
    length_N, chain_N = measure(work.sequences)  # of antigens there are no chains

    def token_count(residues: int, chains: int) -> int:
        return residues + (_BOTH_ENDS if chain_N is None else chains)

    return int(cut_pieces(length_N, chain_N, token_count, embed).token_P.sum())
