"""What a command prints on stdout: a short table for people, or one JSON object for programs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click


def report(result: Mapping[str, object], table: str, *, as_json: bool) -> None:
    """Print a result as its table, or as JSON on one line."""
    click.echo(json.dumps(result, allow_nan=False) if as_json else table)


def two_columns(rows: Iterable[tuple[str, object]]) -> str:
    """Lay names and values out below one another."""
    lines = [(name, str(value)) for name, value in rows]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def embed_table(result: Mapping[str, Any]) -> str:
    """Lay out what the embed stage did."""
    rows: list[tuple[str, object]] = [
        ("rows used", f"{result['pairs']:,} ({result['rejected']:,} rejected)"),
        ("antibodies", f"{result['antibodies']:,} distinct ({result['single_chain']:,} single chain)"),
        ("antigens", f"{result['antigens']:,} distinct ({result['windowed']:,} read in windows)"),
        ("embedded", f"{result['embedded']:,} ({result['reused']:,} were in the store)"),
        ("seconds", f"{result['seconds']:.1f} ({result['setup_seconds']:.1f} of them setting up)"),
    ]
    if result["rejected"]:
        rows.insert(1, ("rejected rows", f"{result['store']}/rejected.csv"))
    if result["tokens"]:
        pace = f"{result['tokens_per_second']:,.0f}/s, {result['padding_fraction']:.1%} padding"
        rows.append(("tokens", f"{result['tokens']:,} ({pace})"))
    rows.append(("peak memory", human_bytes(result["peak_memory_bytes"])))
    rows += [(f"normalised ({change})", f"{count:,} rows") for change, count in result["normalised"].items()]
    rows += [(f"revision of {use}", revision) for use, revision in result["revisions"].items()]
    if result["report"]:
        rows.append(("report", result["report"]))
    rows.append(("store", result["store"]))
    rows += [(f"  {use}", folder) for use, folder in result["fingerprints"].items()]
    return two_columns(rows)


def columns(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lay rows out under a header, each column as wide as its widest cell."""
    lines = [list(header)] + [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def human_bytes(count: float) -> str:
    """Put a number of bytes in words."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


def score_text(value: float | None) -> str:
    """Put a score in words."""
    return "undefined" if value is None else f"{value:.3f}"


def interval_text(bounds: Sequence[float] | None) -> str:
    """Put an interval in words."""
    return "" if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}"
