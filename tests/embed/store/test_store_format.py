"""FORMAT.md: its examples hold, and a reader made from its words alone reads the store."""

import hashlib
import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from embed.sequences import antibody_key, antigen_key
from embed.store import schema
from embed.store.writer import ShardWriter

FORMAT = (Path(schema.__file__).parent / "FORMAT.md").read_text()


@pytest.mark.parametrize(
    ("role", "parts", "key"), re.findall(r"^\| (anti\w+) \| (.*?) \| `([0-9a-f]{32})` \|$", FORMAT, re.M)
)
def test_the_keys_in_the_specification_are_ours(role, parts, key):
    """Each row of its table, by our functions and by the words of the text."""
    parts = re.findall("`(.*?)`", parts)
    made = antigen_key(*parts) if role == "antigen" else antibody_key(*parts, *[None] * (2 - len(parts)))
    text = b"".join(len(part).to_bytes(8, "little") + part.encode() for part in parts)
    by_words = hashlib.blake2b(text, digest_size=16, person=role.encode().ljust(16, b"\0"))
    assert made.hex() == key == by_words.hexdigest()


def test_the_fingerprint_in_the_specification_is_ours():
    """Facts in any order give the digest of the canonical text."""
    text, digest = re.search(r"^`(\{.*\})` has the fingerprint\s+`([0-9a-f]{64})`", FORMAT, re.M).groups()
    facts = json.loads(text)
    assert (
        schema.fingerprint_digest(dict(reversed(facts.items()))) == digest == hashlib.sha256(text.encode()).hexdigest()
    )


def test_a_reader_made_from_the_specification_reads_the_store(folder, fingerprint, numbered_keys):
    """Plain h5py and hashlib, no line of ours: names, digests, attributes, types, rows."""
    key_N16 = numbered_keys(range(50))
    with ShardWriter(folder, fingerprint=fingerprint, dim=16, shard_rows=20) as writer:
        writer.add(key_N16, key_N16.astype(np.float32) / 3, np.arange(50, dtype=np.int32))
    facts = json.loads((folder / "fingerprint.json").read_text())["facts"]
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    found = {}
    for path in sorted((folder / "shards").iterdir(), reverse=True):
        assert path.name == hashlib.sha256(path.read_bytes()).hexdigest() + ".h5"
        with h5py.File(path, "r") as root:
            assert dict(root.attrs) == {
                "format": 1,
                "fingerprint": hashlib.sha256(canonical.encode()).hexdigest().encode(),
            }
            assert {name: str(root[name].dtype) for name in root} == {
                "key": "uint8",
                "vector": "float32",
                "length": "int32",
            }
            rows = zip(root["key"][()], root["vector"][()], root["length"][()], strict=True)
            found |= {key.tobytes(): (vector.tolist(), int(length)) for key, vector, length in rows}
    assert found == {
        key.tobytes(): ((key.astype(np.float32) / 3).tolist(), number) for number, key in enumerate(key_N16)
    }
