"""The page of an embedding: what was encoded, from which rows, how long the sequences are, and in what arithmetic."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from embed.pairs import RejectedRow
from embed.result import EmbedResult
from embed.stage import REJECTED
from pipeline.config import Config, resolved
from pipeline.report.blocks import Card, Cell, Facts, Page, Section
from pipeline.report.lengths import lengths
from pipeline.report.precision import precision
from pipeline.report.repeat import repeat
from pipeline.report.rows import rows_changed
from train.versions import versions


def embedding_page(config: Config, result: EmbedResult) -> Page:
    """Make the page of what one run of the embed stage did."""
    told = result.as_json()
    residues = {
        role: np.repeat(*np.array(counts, np.int64).reshape(-1, 2).T) for role, counts in result.lengths.items()
    }
    settings = {name: section for name, section in resolved(config).items() if name in ("pairs", "embed")}
    facts: dict[str, Cell] = {**versions(), **{f"revision of {use}": rev for use, rev in result.revisions.items()}}
    facts["pairs table (SHA-256)"] = result.table_digest
    return Page(
        kind="store",
        title="/".join(Path(result.store).absolute().parts[-2:]),
        answer=_answer(result),
        cards=_cards(result, told),
        sections=[
            Section("What was done", [Facts(_facts(result, told))]),
            lengths(residues, config.embed),
            rows_changed(
                used=result.pairs,
                rejected=_read_rejected(config.embed.store / REJECTED) if result.rejected else [],
                normalised=result.normalised,
                warnings=result.warnings,
                where=str(config.embed.store / REJECTED),
            ),
            precision(config.embed.store, result.fingerprints, digest=result.table_digest, trained={}),
            repeat(settings, facts, command="bindcache embed --config repeat.toml"),
        ],
        table_digest=result.table_digest,
    )


def _answer(result: EmbedResult) -> str:
    distinct = f"{result.antibodies:,} distinct antibodies and {result.antigens:,} antigens"
    of = f"The {result.pairs:,} accepted rows of the table hold {distinct}"
    part = "" if result.part == "1/1" else f" Of them this was part {result.part}."
    kept = f"{result.embedded:,} were encoded now and {result.reused:,} were in the store."
    return f"{of}.{part} {kept}"


def _cards(result: EmbedResult, told: Mapping[str, Any]) -> list[Card]:
    return [
        Card(name="encoded now", value=f"{result.embedded:,}", detail=f"{result.reused:,} reused"),
        Card(name="tokens per second", value=f"{told['tokens_per_second']:,.0f}", detail=f"{result.tokens:,} tokens"),
        Card(name="padding", value=f"{told['padding_fraction']:.1%}"),
        Card(name="rejected rows", value=f"{result.rejected:,}"),
    ]


def _facts(result: EmbedResult, told: Mapping[str, Any]) -> list[tuple[str, Cell]]:
    return [
        ("antibodies without light chain", result.single_chain),
        ("antigens read in windows", result.windowed),
        ("seconds", f"{result.seconds:.1f} ({result.setup_seconds:.1f} setting up)"),
        ("waited for the encoder's input", f"{told['waited_fraction']:.1%}"),
        ("peak memory", f"{result.peak_memory_bytes / 1e6:,.0f} MB"),
        *((f"compiled, {phase}", why) for phase, why in result.compile.items()),
    ]


def _read_rejected(path: Path) -> list[RejectedRow]:
    with path.open(encoding="utf-8", newline="") as file:
        _, *lines = csv.reader(file)
    return [
        RejectedRow(row=int(row), id=name, column=column, value=value, reason=reason)
        for row, name, column, value, reason in lines
    ]
