"""`bindcache store`: looking after the store."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.options import config_options, example
from pipeline.progress import Progress

if TYPE_CHECKING:
    from pipeline.export.files import Format
    from pipeline.import_vectors import Role


_SHOWN = 3
"""Ids that are named before they are only counted."""


@click.group(
    epilog=example(
        "bindcache store info --config mine.toml", "bindcache store export --config mine.toml --out vectors.parquet"
    )
)
def store() -> None:
    """Look after the store."""


@store.command(epilog=example("bindcache store info --config mine.toml"))
@config_options
def info_command(path: Path, overrides: tuple[str, ...], *, as_json: bool) -> None:
    """List what the store holds, by fingerprint."""
    from dataclasses import asdict

    from embed.store.maintenance import info
    from pipeline.config import load
    from pipeline.output import columns, human_bytes, report

    root = load(path, overrides).embed.store
    folders = info(root)
    rows = [(f.name, f"{f.keys:,}", f"{f.residues:,}", f.dim, f.dtype, f.shards, human_bytes(f.bytes)) for f in folders]
    table = f"{root}\n{columns(('folder', 'keys', 'residues', 'width', 'dtype', 'shards', 'size'), rows)}"
    report({"store": str(root), "folders": [asdict(folder) for folder in folders]}, table, as_json=as_json)


@store.command(epilog=example("bindcache store verify --config mine.toml"))
@config_options
@click.option("--repair", is_flag=True, help="Move wrong files to `quarantine/`; the next embed makes them anew.")
@click.pass_context
def verify_command(ctx: click.Context, path: Path, overrides: tuple[str, ...], *, as_json: bool, repair: bool) -> None:
    """Hash and check every shard."""
    from embed.store.maintenance import verify
    from embed.store.quarantine import quarantine
    from pipeline.config import load
    from pipeline.output import report

    root = load(path, overrides).embed.store
    with Progress() as progress:
        problems = verify(root, progress)
    moved = [str(quarantine(problem.path)) for problem in problems if repair]
    lines = [problem.reason for problem in problems] + [f"moved to {to}" for to in moved]
    result = {
        "store": str(root),
        "problems": [{"path": str(problem.path), "reason": problem.reason} for problem in problems],
        "moved": moved,
    }
    report(result, "\n".join([str(root), *(lines or ["every shard is whole"])]), as_json=as_json)
    ctx.exit(2 if problems and not repair else 0)


@store.command(epilog=example("bindcache store gc --config mine.toml --dry-run"))
@config_options
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
def gc_command(path: Path, overrides: tuple[str, ...], *, as_json: bool, dry_run: bool) -> None:
    """Remove what nothing needs."""
    from embed.store.maintenance import gc
    from pipeline.config import load
    from pipeline.output import human_bytes, report

    garbage = gc(load(path, overrides).embed.store, dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    total = f"{verb} {len(garbage)} files, {human_bytes(sum(each.bytes for each in garbage))}"
    found = [{"path": str(each.path), "bytes": each.bytes, "reason": each.reason} for each in garbage]
    table = "\n".join([*(f"{each.path}: {each.reason}" for each in garbage), total])
    report({"removed": not dry_run, "garbage": found}, table, as_json=as_json)


@store.command(epilog=example("bindcache store merge ../other/store --config mine.toml"))
@click.argument("other", metavar="OTHER", type=click.Path(path_type=Path))
@config_options
def merge_command(other: Path, path: Path, overrides: tuple[str, ...], *, as_json: bool) -> None:
    """Copy the shards of the store OTHER into this one."""
    from embed.store.maintenance import merge
    from pipeline.config import load
    from pipeline.output import report

    root = load(path, overrides).embed.store
    with Progress() as progress:
        added = merge(root, other, progress)
    table = f"{len(added)} new shards in {root}"
    report({"store": str(root), "added": [str(shard) for shard in added]}, table, as_json=as_json)


@store.command(
    epilog=example(
        "bindcache store export --config mine.toml --out vectors.parquet",
        "bindcache store export --config mine.toml --out vectors.h5ad",
    )
)
@config_options
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="File to write.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "numpy", "anndata", "h5"]),
    help="Unless the file's ending tells: .parquet, .npz, .h5ad, .h5.",
)
def export_command(path: Path, overrides: tuple[str, ...], *, as_json: bool, out: Path, form: "Format | None") -> None:
    """Write the vectors of the table for other tools.

    AnnData (.h5ad) and the layout of biotrainer and UniProt (.h5, one dataset for each sequence) hold vectors of one
    width, so there is a file for each role, as vectors.antibody.h5ad and vectors.antigen.h5ad. Vectors of residues
    (embed.pooling = "residues") go to .h5 alone, [residues, width] for each sequence.
    """
    from pipeline.config import load
    from pipeline.export.files import export_vectors
    from pipeline.output import report, two_columns

    with Progress() as progress:
        rows, files = export_vectors(load(path, overrides), out, form, progress=progress)
    table = two_columns([("vectors", f"{rows:,}"), *(("file", file) for file in files)])
    report({"rows": rows, "out": str(out), "files": [str(file) for file in files]}, table, as_json=as_json)


@store.command(
    epilog=example(
        "bindcache store import vectors.h5 --config mine.toml --role antigen \\",
        "    --model 'ProtT5, UniProt 2026_03' --sequences antigens.fasta",
    )
)
@click.argument("file", metavar="FILE.h5", type=click.Path(path_type=Path))
@config_options
@click.option("--role", type=click.Choice(["antibody", "antigen"]), required=True, help="What the vectors are of.")
@click.option("--model", required=True, metavar="TEXT", help="Who made them, in your words; it is recorded.")
@click.option(
    "--sequences",
    type=click.Path(path_type=Path),
    metavar="FASTA",
    help="Sequences by id, unless the file or the pairs table has them.",
)
def import_command(
    file: Path,
    path: Path,
    overrides: tuple[str, ...],
    *,
    as_json: bool,
    role: "Role",
    model: str,
    sequences: Path | None,
) -> None:
    """Bring vectors of a file of biotrainer or UniProt into the store.

    The file has one dataset for each sequence, named by its id. Vectors are kept by sequence: of an antigen or a
    nanobody FASTA has the record ID, of an antibody ID_H and ID_L. The folder that is made serves as embed.antigen or
    embed.antibody.
    """
    from dataclasses import asdict

    from pipeline.config import load
    from pipeline.import_vectors import import_vectors
    from pipeline.output import report, two_columns

    result = import_vectors(load(path, overrides), file, role, model, sequences=sequences)
    facts: list[tuple[str, object]] = [("vectors", f"{result.vectors:,} of width {result.width:,}")]
    if result.left_out:
        some = ", ".join(result.left_out[:_SHOWN]) + (", ..." if len(result.left_out) > _SHOWN else "")
        facts.append(("left out", f"{len(result.left_out):,} without known sequence: {some}"))
    facts += [("folder", result.folder), ("use it", f"--set embed.{role}={result.folder}")]
    report(asdict(result), two_columns(facts), as_json=as_json)
