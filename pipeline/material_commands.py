"""The commands that get what the stages need: the demo, public tables, weights in safetensors."""

from pathlib import Path

import click

from pipeline.options import as_json, example, out_file

_LAYOUTS = ("skempi2", "sabdab", "flab", "abbibench", "alphaseq", "alphabind")
_SHOWN = 6
"""Reasons that are shown; all are in the list of rejected rows."""


@click.command(epilog=example("bindcache demo demo"))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@as_json
def demo_command(folder: Path, *, as_json: bool) -> None:
    """Write a table, two small encoders and a config to DIR."""
    from pipeline.demo import write_demo
    from pipeline.output import report, two_columns

    config = write_demo(folder)
    table = two_columns([("config", config), ("next", f"bindcache embed --config {config}")])
    report({"config": str(config.resolve())}, table, as_json=as_json)


@click.command(
    epilog=example("bindcache import --from flab g6.csv --sequences vegf.fasta --out g6.parquet"),
)
@click.argument("table", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--from", "layout", type=click.Choice(_LAYOUTS), required=True, help="What kind of table it is.")
@click.option(
    "--sequences",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="FASTA file, or folder of PDB files, with the sequences that the table only names.",
)
@click.option("--unit", default="", metavar="UNIT", help="Unit of affinities, where the table does not tell it.")
@out_file
@as_json
def import_command(*, table: Path, layout: str, sequences: Path | None, unit: str, out: Path, as_json: bool) -> None:
    """Turn a public table into a pairs table.

    Affinities become pKd; bounds stay bounds (a Kd of >3E-06 is <5.52). Rows that cannot be used are listed beside the
    new table, with row number and reason.
    """
    from dataclasses import asdict

    from pipeline.beginning import FEW_PAIRS, begins_without_model, sections
    from pipeline.output import report, two_columns
    from pipeline.public.convert import import_table
    from pipeline.public.registry import LAYOUTS

    result = import_table(LAYOUTS[layout], table, out, sequences=sequences, unit=unit)
    facts: list[tuple[str, object]] = [
        ("rows", f"{result.rows:,} ({result.rejected:,} rejected)"),
        ("pairs", f"{result.pairs:,} ({result.bounds:,} with a bound)"),
        ("table", result.out),
    ]
    if result.rejected:
        facts.append(("rejected rows", result.rejected_file))
        facts += [(f"  {count:,}", reason) for reason, count in list(result.reasons.items())[:_SHOWN]]
    section = ["[pairs]", f'path = "{out}"', 'id = "id"', 'affinity = "affinity"']
    section += ['censored = "drop"'] if result.bounds else []
    few = begins_without_model(result.pairs)
    section += ["", *sections()] if few else []
    config = "\n".join(f"  {line}".rstrip() for line in section)
    if few:
        config += f"\n\nUnder {FEW_PAIRS:,} pairs, begin without a model; see docs/encoders.md."
    report(asdict(result), f"{two_columns(facts)}\n\nIn the config:\n{config}", as_json=as_json)


@click.command(epilog=example("bindcache convert Exscientia/IgT5 --out igt5"))
@click.argument("model", metavar="ID")
@click.option("--revision", default="", metavar="R", help="Commit, tag or branch on the hub.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder to write.")
@as_json
def convert_command(model: str, *, revision: str, out: Path, as_json: bool) -> None:
    """Turn pickled weights into safetensors."""
    from dataclasses import asdict

    from embed.encoders.convert import convert
    from pipeline.config import model_named
    from pipeline.output import report, two_columns

    result = asdict(convert(model_named(model), revision, out)) | {"out": str(out)}
    facts = [(name, value) for name, value in result.items() if name != "digests"]
    report(result, two_columns([*facts, *result["digests"].items()]), as_json=as_json)
