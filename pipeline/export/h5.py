"""Vectors in the layout of biotrainer and UniProt: an HDF5 file for each role, one dataset for each sequence.

Where residues have vectors, it holds those, in place of the mean.

biotrainer names datasets by a digest of the sequence, UniProt by accession; both write the user's id as the attribute
`original_id`. A digest as name keeps ids with `/` or `..` from becoming groups.
"""

from pathlib import Path

import h5py

from pipeline.export.vectors import RoleVectors

CHAINS = ("heavy", "light", "antigen")
"""Attributes with the sequences, so that `store import` needs no other file."""


def write_h5(path: Path, role: RoleVectors) -> None:
    """Write float32 [D], or of residues float16 [L, D], under each key in hex, with its id and chains as attributes."""
    role.width()
    with h5py.File(path, "w") as root:
        for batch in role.batches():
            vectors = batch.residues if role.has_residues else iter(batch.vector_BD)
            for key, name, chains, vector in zip(batch.key_B16, batch.ids, batch.chains, vectors, strict=True):
                dataset = root.create_dataset(key.tobytes().hex(), data=vector)
                dataset.attrs["original_id"] = name
                for chain, sequence in zip(CHAINS, chains, strict=True):
                    if sequence is not None:
                        dataset.attrs[chain] = sequence
