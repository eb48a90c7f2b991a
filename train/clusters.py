"""Which sequences belong together: single linkage of near-identical ones, by MMseqs2 or by our own search.

Shape suffixes: N sequences, M sequences not reached yet.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embed.store.durable import write_new
from train.errors import TrainError
from train.identity import Library

Labels = npt.NDArray[np.int64]

COVERAGE = 0.8
"""Share of both sequences that an alignment of MMseqs2 covers at least."""

_LAST_LINES = 3
_VERSION = 12
"""Letters of its version that are told: some builds give the 40 of a commit."""


def find_clusters(sequences: Sequence[str], identity: float) -> tuple[Labels, str]:
    """Cluster distinct sequences so that near-identical ones are together, however long the chain between them.

    MMseqs2 does it where `mmseqs` is on the PATH: it misses pairs that its prefilter misses. Otherwise our own search
    does, which misses none: no two sequences of an edit identity of at least `identity` are in two clusters.

    Returns:
        A label of each sequence, int64 [N], and what found it, in words.

    Raises:
        TrainError: MMseqs2 failed.
    """
    program = shutil.which("mmseqs")
    if program is None:
        return link(sequences, identity), f"own linkage, edit identity {identity:g}"
    label_N, version = _by_mmseqs(program, sequences, identity)
    return label_N, f"MMseqs2 {version}, identity {identity:g}"


def link(sequences: Sequence[str], identity: float) -> Labels:
    """Label sequences by single linkage at an edit identity; int64 [N].

    First sequences of one length are linked by substitutions alone, which is quick and gathers the mutants of a clone;
    then edit distances link what is not together yet. Sequences without neighbours take N^2 / 2 comparisons of sets of
    3-mers.
    """
    library = Library(sequences, identity)
    alone_N = np.arange(len(sequences))
    substituted_N = _grow(alone_N, lambda at, open_M: library.near_by_substitution(sequences[at], open_M))
    return _grow(substituted_N, lambda at, open_M: library.near(sequences[at], open_M))


def _grow(label_N: Labels, near: Callable[[int, Labels], npt.NDArray[np.bool_]]) -> Labels:
    """Join clusters that hold near sequences; what a cluster has reached is not looked at again."""
    order_N = np.argsort(label_N, kind="stable")
    first_N, end_N = (np.searchsorted(label_N[order_N], label_N, side) for side in ("left", "right"))
    joined_N, open_N = label_N.copy(), np.ones(len(label_N), np.bool_)
    for start in range(len(label_N)):
        if not open_N[start]:
            continue
        reached = order_N[first_N[start] : end_N[start]].tolist()
        open_N[reached] = False
        open_M = np.flatnonzero(open_N)
        while reached and len(open_M):
            found = open_M[near(reached.pop(), open_M)]
            if len(found):
                joining = np.flatnonzero(np.isin(label_N, label_N[found]))
                joined_N[joining] = label_N[start]
                open_N[joining] = False
                open_M = open_M[open_N[open_M]]
                reached += joining.tolist()
    return joined_N


def _by_mmseqs(program: str, sequences: Sequence[str], identity: float) -> tuple[Labels, str]:
    """Cluster by connected components of all alignments that MMseqs2 finds; the second value is its version."""
    version = subprocess.run([program, "version"], capture_output=True, text=True).stdout.strip()[:_VERSION]
    with tempfile.TemporaryDirectory(prefix="bindcache-") as folder:
        fasta, found = Path(folder) / "sequences.fasta", Path(folder) / "found"
        write_new(fasta, "".join(f">{number}\n{sequence}\n" for number, sequence in enumerate(sequences)).encode())
        search = ["--min-seq-id", f"{identity}", "-c", f"{COVERAGE}", "--cov-mode", "0", "-s", "7.5", "--mask", "0"]
        # Else at most 20 neighbours of a sequence count, and a greedy set cover leaves near pairs in two clusters.
        linkage = ["--cluster-mode", "1", "--single-step-clustering", "1", "--max-seqs", "1000"]
        threads = [
            "--threads",
            str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        ]
        command = [program, "easy-cluster", str(fasta), str(found), f"{folder}/tmp", *search, *linkage, *threads]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-_LAST_LINES:])
            raise TrainError(
                f"MMseqs2 ({program}) could not cluster {len(sequences):,} sequences: {said}\n"
                "Mend it, or take it off the PATH to use our own linkage."
            )
        rows = np.loadtxt(f"{found}_cluster.tsv", np.int64, ndmin=2)
    label_N = np.arange(len(sequences))
    label_N[rows[:, 1]] = rows[:, 0]
    return label_N, version
