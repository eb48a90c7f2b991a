"""`bindcache store`: looking after the store."""

from pathlib import Path

import click

from pipeline.options import config_options, out_file


@click.group()
def store() -> None:
    """Look after the store."""


@store.command()
@config_options
def info_command(path: Path, overrides: tuple[str, ...], *, as_json: bool) -> None:
    """List what the store holds, by fingerprint."""
    from dataclasses import asdict

    from embed.store.maintenance import info
    from pipeline.config import load
    from pipeline.output import columns, human_bytes, report

    root = load(path, overrides).embed.store
    folders = info(root)
    rows = [(f.name, f"{f.keys:,}", f.dim, f.dtype, f.shards, human_bytes(f.bytes)) for f in folders]
    table = f"{root}\n{columns(('folder', 'keys', 'width', 'dtype', 'shards', 'size'), rows)}"
    report({"store": str(root), "folders": [asdict(folder) for folder in folders]}, table, as_json=as_json)


@store.command()
@config_options
@click.pass_context
def verify_command(ctx: click.Context, path: Path, overrides: tuple[str, ...], *, as_json: bool) -> None:
    """Hash and check every shard."""
    from embed.store.maintenance import verify
    from pipeline.config import load
    from pipeline.output import report

    root = load(path, overrides).embed.store
    problems = [{"path": str(problem.path), "reason": problem.reason} for problem in verify(root)]
    found = "\n".join(problem["reason"] for problem in problems) or "every shard is whole"
    report({"store": str(root), "problems": problems}, f"{root}\n{found}", as_json=as_json)
    ctx.exit(2 if problems else 0)


@store.command()
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


@store.command()
@click.argument("other", metavar="OTHER", type=click.Path(path_type=Path))
@config_options
def merge_command(other: Path, path: Path, overrides: tuple[str, ...], *, as_json: bool) -> None:
    """Copy the shards of the store OTHER into this one."""
    from embed.store.maintenance import merge
    from pipeline.config import load
    from pipeline.output import report

    root = load(path, overrides).embed.store
    added = merge(root, other)
    table = f"{len(added)} new shards in {root}"
    report({"store": str(root), "added": [str(shard) for shard in added]}, table, as_json=as_json)


@store.command()
@config_options
@out_file
def export_command(path: Path, overrides: tuple[str, ...], *, as_json: bool, out: Path) -> None:
    """Write the vectors of the table as Parquet."""
    from pipeline.config import load
    from pipeline.export import export_vectors
    from pipeline.output import report, two_columns
    from pipeline.progress import Progress

    with Progress() as progress:
        rows = export_vectors(load(path, overrides), out, progress=progress)
    result = {"rows": rows, "out": str(out)}
    report(result, two_columns(result.items()), as_json=as_json)
