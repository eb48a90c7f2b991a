"""Complexes named by PDB id and chains: which chain is heavy, which light, and what the antigen is."""

import re
from collections.abc import Sequence

from pipeline.public.layout import UnusableRow

_HEAVY = re.compile(r"W[A-Z]{2}G[A-Z]{2}[VLI][TVSI](?:[VI]|$)")
_LIGHT = re.compile(r"FG[A-Z]G[TS][A-Z][LV]")
"""The start of framework 4, which tells a heavy domain from a light one (IMGT: W/F-G-X-G)."""


def is_heavy(sequence: str) -> bool:
    """Tell whether a sequence holds the heavy chain's J motif and not the light chain's."""
    return bool(_HEAVY.search(sequence)) and not _LIGHT.search(sequence)


def is_light(sequence: str) -> bool:
    """Tell whether a sequence holds the light chain's J motif and not the heavy chain's."""
    return bool(_LIGHT.search(sequence)) and not _HEAVY.search(sequence)


def find_antibody(groups: Sequence[Sequence[str]], column: str, name: str) -> tuple[str, str | None, list[str]]:
    """Tell the antibody from the antigen among the sequences of two binding partners.

    Returns:
        Heavy chain, light chain (None for a nanobody), and the other partner's sequences. Where both partners are
        antibodies, the first one is the antibody.

    Raises:
        UnusableRow: Neither is a heavy chain, alone or with one light chain.
    """
    for ours, theirs in (groups, reversed(groups)):
        heavy = [sequence for sequence in ours if is_heavy(sequence)]
        light = [sequence for sequence in ours if is_light(sequence)]
        if len(heavy) == 1 and len(light) == len(ours) - 1 <= 1:
            return heavy[0], light[0] if light else None, list(theirs)
    raise UnusableRow(column, name, "neither partner is one heavy chain, alone or with a light chain.")


def join_antigen(chains: Sequence[str]) -> str:
    """Join the chains of an antigen in their order; equal ones count once."""
    return "".join(dict.fromkeys(chains))
