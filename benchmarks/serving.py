"""A contestant's process: load once, then answer one request a line; the standard library and numpy only.

Started with the path of a JSON file: `tables` (two lists of sequences, by name) and whatever the contestant needs.
Answers are JSON lines on the process's first standard output; what libraries print goes to standard error.
"""

import json
import os
import resource
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

# N sequences, D width

Sequences = list[Any]
"""Antigens as strings, antibodies as `[heavy, light]`."""


class RefusedError(Exception):
    """The contestant cannot do this here; the message says why."""


class Contestant(ABC):
    """One way of encoding."""

    notes: dict[str, object]
    """What its row should say besides: versions, padding."""

    def __init__(self) -> None:
        self.notes = {}

    @abstractmethod
    def encode(self, sequences: Sequences) -> npt.NDArray[np.float32] | None:
        """Encode; this is timed.

        Returns:
            Vectors, float32 `[N, D]` in the order of the sequences; None where it makes none.
        """

    def vectors(self, sequences: Sequences) -> npt.NDArray[np.float32]:
        """Encode to vectors; not timed."""
        vector_ND = self.encode(sequences)
        assert vector_ND is not None
        return vector_ND


def serve(load: Callable[[dict[str, Any]], Contestant]) -> None:
    """Answer requests until standard input ends.

    Args:
        load: Makes the contestant from the content of the JSON file.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    asked = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    try:
        desk = _Desk(load(asked), asked["tables"])
        for line in sys.stdin:
            _answer(answers, desk.do(json.loads(line)))
    except RefusedError as refusal:
        _answer(answers, {"refused": str(refusal)})


class _Desk:
    def __init__(self, contestant: Contestant, tables: dict[str, Sequences]) -> None:
        self._contestant, self._tables = contestant, tables
        self._made: dict[str, npt.NDArray[np.float32] | None] = {}

    def do(self, request: dict[str, str]) -> dict[str, object]:
        """Time a table, or save the vectors that its last run made."""
        table = request["table"]
        sequences = self._tables[table]
        if "vectors" in request:
            made = self._made.get(table)
            np.save(request["vectors"], self._contestant.vectors(sequences) if made is None else made)
            return {}
        started = time.perf_counter()
        self._made[table] = self._contestant.encode(sequences)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "peak_bytes": _peak_bytes(), "notes": self._contestant.notes}


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _answer(answers: TextIO, content: dict[str, object]) -> None:
    print(json.dumps(content), file=answers, flush=True)
