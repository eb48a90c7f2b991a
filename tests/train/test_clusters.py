"""Clusters: single linkage against a plain graph, one clone, and the way to MMseqs2."""

import shutil
import stat

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tests.train.test_identity import families, identity
from train.clusters import find_clusters, link
from train.errors import TrainError


def by_graph(sequences: list[str], least: float) -> np.ndarray:
    near = np.array([[identity(one, other) >= least - 1e-9 for other in sequences] for one in sequences])
    return connected_components(coo_array(near), directed=False)[1]


@settings(max_examples=40, deadline=None)
@given(families(), families())
def test_clusters_are_the_components_of_all_near_pairs(one, other) -> None:
    """Chains of near sequences are followed to their end."""
    sequences = sorted({*one, *other})
    expected, found = by_graph(sequences, 0.8), link(sequences, 0.8)
    assert (
        len(set(found.tolist()))
        == len(set(expected.tolist()))
        == len({*zip(found.tolist(), expected.tolist(), strict=True)})
    )


def test_ten_thousand_mutants_of_a_clone_are_one_cluster() -> None:
    """As many as deep mutational scans have: each is looked at a few times, not ten thousand times."""
    random = np.random.default_rng(0)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    clone = random.choice(letters, 120)
    mutants = np.tile(clone, (10_000, 1))
    for _ in range(5):
        mutants[np.arange(10_000), random.integers(0, 120, 10_000)] = random.choice(letters, 10_000)
    assert len(set(link(["".join(row) for row in mutants.tolist()], 0.9).tolist())) == 1


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program called mmseqs on the PATH, which does what a shell script says."""

    def put(script: str) -> None:
        path = tmp_path / "mmseqs"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return put


def test_mmseqs_is_used_where_it_is_found(program) -> None:
    """Its clusters are taken as they are, and its version and settings are told."""
    program('test "$1" = version && echo 15-test || printf "0\\t0\\n0\\t2\\n1\\t1\\n" > "$3_cluster.tsv"')
    label_N, told = find_clusters(["AAAA", "CCCC", "DDDD"], 0.8)
    assert label_N.tolist() == [0, 1, 0]
    assert told == "MMseqs2 15-test, identity 0.8"


def test_mmseqs_that_fails_is_told_with_the_way_out(program) -> None:
    """Its last words are passed on."""
    program('test "$1" = version || { echo Disk is full >&2; exit 1; }')
    with pytest.raises(TrainError, match=r"could not cluster 1 sequences: Disk is full\nMend it, or take it off"):
        find_clusters(["AAAA"], 0.9)


def test_without_mmseqs_our_own_linkage_does_it(monkeypatch, tmp_path) -> None:
    """And the run says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_clusters(["AAAA", "CCCC"], 0.9)[1] == "own linkage, edit identity 0.9"


@pytest.mark.skipif(shutil.which("mmseqs") is None, reason="MMseqs2 is not installed")
def test_the_real_mmseqs_finds_two_families() -> None:
    """Mutants of two random sequences are two clusters, as with our own linkage."""
    random = np.random.default_rng(0)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    sequences = []
    for _ in range(2):
        clone = random.choice(letters, 120)
        for _ in range(20):
            mutant = clone.copy()
            mutant[random.integers(0, 120, 3)] = "A"
            sequences.append("".join(mutant))
    sequences = sorted(set(sequences))
    label_N, _ = find_clusters(sequences, 0.9)
    own_N = link(sequences, 0.9)
    assert len(set(zip(label_N.tolist(), own_N.tolist(), strict=True))) == len(set(own_N.tolist())) == 2
