"""Which files an export writes, by format; each is there whole or not at all."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.export.vectors import RoleVectors, find_vectors
from pipeline.whole import write_whole

Format = Literal["parquet", "numpy", "anndata", "h5"]

ENDINGS: dict[str, Format] = {
    ".parquet": "parquet", ".npz": "numpy", ".h5ad": "anndata", ".h5": "h5", ".hdf5": "h5"
}  # fmt: skip


def format_of(out: Path, asked: Format | None) -> Format:
    """Tell the format: the one that is asked for, or that of the file's ending.

    Raises:
        ConfigError: The ending is that of none.
    """
    found = asked or ENDINGS.get(out.suffix.lower())
    if found is None:
        raise ConfigError(f"--out {out}: end it in {', '.join(ENDINGS)}, or say --format.")
    return found


def export_vectors(
    config: Config, out: Path, asked: Format | None, *, progress: Callable[[str, int, int], None]
) -> tuple[int, list[Path]]:
    """Write the vectors of a table, and return how many and the files.

    Layouts that hold one width of vectors have a file for each role: `vectors.h5` becomes `vectors.antibody.h5` and
    `vectors.antigen.h5`.

    Raises:
        ConfigError: Vectors are missing, the format is not known, or `out` has no folder.
        EmbedError: The table, an encoder or the store cannot be used as it is.
    """
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}; make it, or name another.")
    form = format_of(out, asked)
    roles = find_vectors(config)
    total, files = sum(map(len, roles)), _files(form, out, roles)
    for done, (path, write) in enumerate(files.items()):
        progress("exporting vectors", done * total // len(files), total)
        write_whole(path, write)
    progress("exporting vectors", total, total)
    return total, list(files)


def _files(form: Format, out: Path, roles: tuple[RoleVectors, RoleVectors]) -> dict[Path, Callable[[Path], None]]:
    # imported here: each format has its own library
    if form == "parquet":
        from pipeline.export.parquet import write_parquet

        return {out: partial(write_parquet, roles=roles)}
    if form == "numpy":
        from pipeline.export.npz import write_npz

        return {out: partial(write_npz, roles=roles)}
    from pipeline.export.h5 import write_h5
    from pipeline.export.h5ad import write_h5ad

    write = write_h5ad if form == "anndata" else write_h5
    return {out.with_name(f"{out.stem}.{role.role}{out.suffix}"): partial(write, role=role) for role in roles}
