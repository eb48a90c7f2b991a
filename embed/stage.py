"""Stage 1: a pairs table becomes a store of the vectors of each distinct sequence.

1. read the table; its distinct antibodies and antigens are the work
2. fingerprint the encoders, and take away what the store holds under these fingerprints
3. load each encoder that has something left to read, and prove that it still gives the store's vectors
4. run it over batches of like length, and publish shards
With nothing left for a model to read, torch is never imported: `onehot` and `blosum62` are looked up in a table.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embed.config import EmbedConfig, is_table
from embed.errors import EmbedError
from embed.fingerprint import Source, Sources, find_sources
from embed.golden import prove_lookup
from embed.pairs import PairsConfig, PairTable, read_pairs, write_rejected
from embed.pieces import cut_pieces, measure
from embed.result import EmbedResult, peak_memory_bytes
from embed.store.durable import make_folder
from embed.store.residue_writer import ResidueWriter
from embed.store.writer import ShardWriter, create_folder
from embed.work import Work, left_to_read

# N sequences, K bytes of a key, B sequences in a batch, D width

_LOOKED_UP_AT_ONCE = 512
"""Sequences: some 20 MB of vectors."""

REJECTED = "rejected.csv"
"""File of the store with the rows that the last table had rejected."""

Progress = Callable[[str, int, int], None]
"""Told a phase, and how much of how much of it is done."""


class TooLargeError(EmbedError):
    """Some sequences do not fit in memory even alone; everything else is in the store."""

    exit_code = 1


def run_embed(
    config: EmbedConfig,
    pairs: PairsConfig,
    *,
    part: tuple[int, int] = (1, 1),
    started: float | None = None,
    progress: Progress = lambda phase, done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> EmbedResult:
    """Bring every distinct sequence of a table into the store, once.

    Args:
        config: Encoders, precision and store.
        pairs: The table.
        part: `(i, N)`: only the i-th of N shares of the distinct sequences.
        started: When the process started, in seconds since the epoch; now if not given.
        progress: Told the tokens encoded, and the longer steps before: loading, building kernels, compiling.
        stop: Polled at each batch; when true, what is encoded is published and the result says `stopped`.

    Raises:
        EmbedError: The table, the config, a checkpoint or the store cannot be used as it is.
        TooLargeError: A sequence does not fit in memory; the others are done.
    """
    started = time.time() if started is None else started
    entered = time.time()
    table = read_table(config, pairs)
    sources = find_sources(config)
    if table.rejected:
        make_folder(config.store)
        write_rejected(config.store / REJECTED, table.rejected)
    for source in (sources.paired, sources.single, sources.antigen):
        if source.folder.exists():  # its fingerprint.json may have been moved away as damaged
            create_folder(config.store, source.name, source.facts, source.resolved)
    work = left_to_read(table, sources, part)
    result = _describe(config, table, sources, part)
    result.reused = sum(held for _, held in work)
    result.setup_seconds = entered - started
    too_large: list[str] = []
    for missing, _ in work:
        if len(missing) and not result.stopped:
            if missing.source.lookup is not None:
                _look_up(config, missing, result, progress, stop)
            else:
                too_large += _embed(config, missing, result, progress, stop)
    result.seconds = time.time() - started
    result.peak_memory_bytes = peak_memory_bytes()
    if too_large:
        raise TooLargeError(
            f"Sequences that do not fit in memory even alone: {len(too_large)} ({', '.join(too_large[:5])}); everything"
            ' else is in the store. Use a device with more memory, or embed.long = "window" with a smaller window.'
        )
    return result


def read_table(config: EmbedConfig, pairs: PairsConfig) -> PairTable:
    """Read the pairs table under the rules that the encoders add: single chains and long antigens.

    Raises:
        PairsError: The table cannot be used as it is.
    """
    longest = config.window if config.long == "error" and not is_table(config.antigen) else None
    return read_pairs(pairs, single_chain=config.single_chain != "error", longest_antigen=longest)


def vector_folders(config: EmbedConfig) -> tuple[Path, Path, Path]:
    """Name the store folders of paired antibodies, single-chain antibodies and antigens."""
    sources = find_sources(config)
    return sources.paired.folder, sources.single.folder, sources.antigen.folder


def _embed(
    config: EmbedConfig, work: Work, result: EmbedResult, progress: Progress, stop: Callable[[], bool]
) -> list[str]:
    before = time.time()
    read = "antibodies" if work.source.role == "antibody" else "antigens"
    progress(f"loading the encoder of {read}", 0, 1)
    from embed.encoders.open import open_encoder
    from embed.golden import prove
    from embed.inference import Loop

    encoder = open_encoder(work.source, config, lambda step: progress(step, 0, 1))
    progress(f"loading the encoder of {read}", 1, 1)
    folder = create_folder(config.store, work.source.name, work.source.facts, work.source.resolved)
    prove(encoder, work.source, folder, config)
    result.setup_seconds += time.time() - before
    with _writer(config, work.source, folder, encoder.dim) as writer:

        def write(index_B: npt.NDArray[np.int64], vectors: Any) -> None:  # noqa: ANN401 (as the writer takes them)
            writer.add(work.key_NK[index_B], vectors, work.length_N[index_B])
            result.embedded += len(index_B)

        pieces = cut_pieces(*measure(work.sequences), encoder.token_count, config)
        phase = f"embedding {read}"
        loop = Loop(encoder, work.sequences, pieces, write, config)
        result.compile[phase] = loop.compiling
        if encoder.compiled:  # which happens at the first batches
            progress(f"compiling the encoder of {read}", 0, 1)
        tally = loop.run(lambda done, total: progress(phase, done, total), stop)
    result.tokens += tally.tokens
    result.padded_tokens += tally.padded
    result.encoding_seconds += tally.seconds
    result.busy_seconds += tally.busy_seconds
    result.stopped = tally.stopped
    return [f"{work.source.role} of {work.length_N[i]} residues" for i in sorted(set(tally.too_large))]


def _look_up(
    config: EmbedConfig, work: Work, result: EmbedResult, progress: Progress, stop: Callable[[], bool]
) -> None:
    """Embed without a model; a residue counts as a token."""
    lookup, before = work.source.lookup, time.time()
    assert lookup is not None
    folder = create_folder(config.store, work.source.name, work.source.facts, work.source.resolved)
    prove_lookup(work.source, folder)
    phase = f"embedding {'antibodies' if work.source.role == 'antibody' else 'antigens'}"
    done, total = 0, int(work.length_N.sum())
    with _vector_writer(config, work.source, folder, lookup.dim) as writer:
        for start in range(0, len(work), _LOOKED_UP_AT_ONCE):
            if stop():
                result.stopped = True
                break
            index_B = np.arange(start, min(start + _LOOKED_UP_AT_ONCE, len(work)))
            writer.add(work.key_NK[index_B], lookup.encode(work.sequences.take(index_B)), work.length_N[index_B])
            result.embedded += len(index_B)
            done += int(work.length_N[index_B].sum())
            progress(phase, done, total)
    seconds = time.time() - before
    result.tokens += done
    result.padded_tokens += done
    result.encoding_seconds += seconds
    result.busy_seconds += seconds


def _writer(config: EmbedConfig, source: Source, folder: Path, dim: int) -> ShardWriter | ResidueWriter:
    if config.pooling != "residues":
        return _vector_writer(config, source, folder, dim)
    return ResidueWriter(folder, fingerprint=source.fingerprint, dim=dim, shard_rows=config.shard_rows)


def _vector_writer(config: EmbedConfig, source: Source, folder: Path, dim: int) -> ShardWriter:
    rows, dtype = config.shard_rows, config.vector_dtype
    return ShardWriter(folder, fingerprint=source.fingerprint, dim=dim, dtype=dtype, shard_rows=rows)


def _describe(config: EmbedConfig, table: PairTable, sources: Sources, part: tuple[int, int]) -> EmbedResult:
    windows = config.long == "window" and sources.antigen.lookup is None
    by_use = {"paired": sources.paired, "single": sources.single, "antigen": sources.antigen}
    return EmbedResult(
        pairs=table.rows,
        rejected=len(table.rejected),
        antibodies=len(table.antibodies),
        antigens=len(table.antigens),
        single_chain=sum(light is None for _, light in table.antibodies),
        windowed=sum(len(antigen) > config.window for antigen in table.antigens) if windows else 0,
        store=str(config.store),
        precision={"antibody": sources.paired.precision, "antigen": sources.antigen.precision},
        fingerprints={use: source.name for use, source in by_use.items()},
        revisions={use: source.checkpoint.revision for use, source in by_use.items() if source.checkpoint.revision},
        normalised=dict(table.normalised),
        warnings=list(table.warnings),
        part=f"{part[0]}/{part[1]}",
        table_digest=table.digest,
        lengths={"antibodies": _counted(table.antibodies.lengths()), "antigens": _counted(table.antigens.lengths())},
    )


def _counted(length_N: npt.NDArray[np.int32]) -> list[tuple[int, int]]:
    return [(int(length), int(count)) for length, count in zip(*np.unique(length_N, return_counts=True), strict=True)]
