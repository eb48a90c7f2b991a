"""Refusing Parquet files that declare far more than they hold, before a column of them is read."""

from pathlib import Path

import pyarrow.parquet

from embed.errors import PairsError

_PLENTY = 1 << 28
"""Bytes that a table may take whatever its file has."""
_TIMES = 1000
"""The largest real tables of ours shrink 40 times in Parquet."""


def refuse_bomb(path: Path, file: pyarrow.parquet.FileMetaData, names: set[str]) -> None:
    """Compare what the file would take in memory with its bytes.

    Row groups alone are asked: pyarrow ends the process where the description of a column chunk is damaged.

    Args:
        path: The file.
        file: Its footer.
        names: The columns that will be read.

    Raises:
        PairsError: It would take more than 256 MiB and more than 1,000 times its bytes.
    """
    stored = sum(file.row_group(group).total_byte_size for group in range(file.num_row_groups))
    declared = max(stored, 4 * file.num_rows * len(names))  # four bytes are the least that a cell takes here
    if declared > max(_PLENTY, _TIMES * path.stat().st_size):
        raise PairsError(
            f"{path.name} of {path.stat().st_size:,} bytes declares {declared:,} bytes in {file.num_rows:,} rows: "
            "it is damaged or made to fill the memory. Save the table anew."
        )
