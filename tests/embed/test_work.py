"""What is left to read: every distinct sequence by the right encoder, in exactly one part, and not what is stored."""

from dataclasses import replace

import numpy as np
import pytest

from embed.encoders.checkpoint import Checkpoint
from embed.fingerprint import Source, Sources
from embed.pairs import PairsConfig, read_pairs
from embed.sequences import antibody_key, antigen_key
from embed.store.schema import fingerprint_digest
from embed.store.writer import ShardWriter, create_folder
from embed.work import left_to_read


def source(tmp_path, role, model):
    facts = {"model": model}
    checkpoint = Checkpoint(model=model, revision="", folder=tmp_path, config={}, weights=())
    return Source(
        role=role,
        family="none",
        checkpoint=checkpoint,
        precision="fp32",
        facts=facts,
        fingerprint=fingerprint_digest(facts),
        store=tmp_path / "store",
    )


@pytest.fixture
def sources(tmp_path):
    """Two encoders: one for antibodies with or without light chain, one for antigens."""
    antibody = source(tmp_path, "antibody", "antibodies")
    return Sources(paired=antibody, single=antibody, antigen=source(tmp_path, "antigen", "antigens"))


@pytest.fixture
def table(tmp_path):
    """60 pairs of 60 antibodies, every fourth without light chain, and 7 antigens."""
    random = np.random.default_rng(0)

    def sequence(least, most):
        return "".join(random.choice(list("ACDEFGHIKLMNPQRSTVWY"), random.integers(least, most)))

    antigens = [sequence(40, 90) for _ in range(7)]
    rows = [f"{sequence(20, 30)},{sequence(20, 30) if i % 4 else ''},{antigens[i % 7]}" for i in range(60)]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(["heavy,light,antigen", *rows]) + "\n")
    return read_pairs(PairsConfig(path=path))


def check(work):
    """Keys, lengths and sequences of a work are of one another; gives the sequences."""
    sequences = list(work.sequences)
    name = (lambda s: antigen_key(s)) if work.source.role == "antigen" else (lambda s: antibody_key(*s))
    assert [key.tobytes() for key in work.key_NK] == [name(sequence) for sequence in sequences]
    assert work.length_N.tolist() == [
        sum(map(len, filter(None, s if isinstance(s, tuple) else [s]))) for s in sequences
    ]
    assert len(work) == len(sequences)
    return sequences


def test_an_empty_store_leaves_everything(table, sources):
    """Each distinct antibody and antigen, in the order of the table."""
    (antibodies, held), (antigens, held_too) = left_to_read(table, sources, (1, 1))
    assert (check(antibodies), check(antigens)) == (list(table.antibodies), list(table.antigens))
    assert (len(antibodies), len(antigens), held, held_too) == (60, 7, 0, 0)


def test_a_single_chain_encoder_reads_what_has_no_light_chain(tmp_path, table, sources):
    """Two encoders of antibodies part them; one encoder reads both kinds."""
    apart = replace(sources, single=source(tmp_path, "antibody", "nanobodies"))
    (paired, _), (single, _), _ = left_to_read(table, apart, (1, 1))
    assert (paired.source, single.source) == (apart.paired, apart.single)
    assert check(paired) == [antibody for antibody in table.antibodies if antibody[1] is not None]
    assert check(single) == [antibody for antibody in table.antibodies if antibody[1] is None]
    assert len(single) == 15


@pytest.mark.parametrize("parts", [2, 3, 100])
def test_parts_are_disjoint_and_whole(table, sources, parts):
    """N parts together read everything once."""
    works = [left_to_read(table, sources, (index, parts)) for index in range(1, parts + 1)]
    for side, whole in enumerate((table.antibodies, table.antigens)):
        read = [sequence for work in works for sequence in check(work[side][0])]
        assert sorted(read, key=str) == sorted(whole, key=str)


def test_what_the_store_holds_is_not_read_again(table, sources):
    """Held sequences are counted, per part, and do not change whose part the others are in."""
    before = [left_to_read(table, sources, (index, 2))[0][0] for index in (1, 2)]
    folder = create_folder(sources.paired.store, sources.paired.name, sources.paired.facts, {})
    with ShardWriter(folder, fingerprint=sources.paired.fingerprint, dim=2) as writer:
        for work in before:
            writer.add(work.key_NK[:9], np.ones((9, 2), np.float32), work.length_N[:9])
    for index, work in enumerate(before, 1):
        (left, held), (antigens, held_antigens) = left_to_read(table, sources, (index, 2))
        assert check(left) == list(work.sequences)[9:]
        assert (held, held_antigens) == (9, 0)
        assert len(antigens) in (3, 4)
