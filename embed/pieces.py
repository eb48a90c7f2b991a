"""What an encoder reads at once: a whole antibody, or one window of an antigen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from embed.batching import windows
from embed.config import EmbedConfig
from embed.sequences import Antibody


@dataclass(frozen=True, slots=True)
class Piece:
    """Residues `start` to `end` of one sequence."""

    sequence: int
    start: int
    end: int
    tokens: int


def cut_pieces(
    sequences: Sequence[Antibody | str], token_count: Callable[[int, int], int], config: EmbedConfig
) -> list[Piece]:
    """Cut sequences into pieces by the config's policy on long antigens.

    Args:
        sequences: Antibodies, which are never cut, or antigens.
        token_count: Tokens of a piece, from its residues and chains.
        config: `long`, `window` and `stride`.

    Returns:
        Pieces in the order of the sequences; those of one sequence are neighbours.
    """
    pieces: list[Piece] = []
    for index, sequence in enumerate(sequences):
        if isinstance(sequence, str):
            bounds = _antigen_bounds(len(sequence), config)
            pieces += [Piece(index, start, end, token_count(end - start, 1)) for start, end in bounds]
        else:
            chains = [chain for chain in sequence if chain is not None]
            residues = sum(map(len, chains))
            pieces.append(Piece(index, 0, residues, token_count(residues, len(chains))))
    return pieces


def _antigen_bounds(length: int, config: EmbedConfig) -> list[tuple[int, int]]:
    if config.long == "truncate":
        return [(0, min(length, config.window))]
    return windows(length, config.window, config.stride)  # with "error", the table has refused what does not fit
