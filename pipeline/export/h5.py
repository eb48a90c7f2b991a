"""Vectors in the layout of biotrainer and UniProt: an HDF5 file for each role, one dataset for each sequence.

biotrainer names datasets by a digest of the sequence, UniProt by accession; both write the user's id as the attribute
`original_id`. A digest as name keeps ids with `/` or `..` from becoming groups.
"""

from pathlib import Path

import h5py

from pipeline.export.vectors import RoleVectors

CHAINS = ("heavy", "light", "antigen")
"""Attributes with the sequences, so that `store import` needs no other file."""


def write_h5(path: Path, role: RoleVectors) -> None:
    """Write float32 [D] under each sequence key in hex, with its id and its chains as attributes."""
    role.width()
    with h5py.File(path, "w") as root:
        for batch in role.batches():
            for key, name, chains, vector_D in zip(
                batch.key_B16, batch.ids, batch.chains, batch.vector_BD, strict=True
            ):
                dataset = root.create_dataset(key.tobytes().hex(), data=vector_D)
                dataset.attrs["original_id"] = name
                for chain, sequence in zip(CHAINS, chains, strict=True):
                    if sequence is not None:
                        dataset.attrs[chain] = sequence
