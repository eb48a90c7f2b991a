"""Texts that stay in Arrow's memory, where ten million are two buffers; a str is made when it is asked for.

Array suffixes: N texts or antibodies, C texts of the Arrow array they are picked from.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embed.sequences import Antibody

Index = npt.NDArray[np.integer[Any]]

_AT_ONCE = 1 << 16
"""Texts that are turned into str together."""


class Texts(Sequence[str]):
    """Texts picked from an Arrow array."""

    def __init__(self, array: pa.Array, index_N: Index | None = None) -> None:
        """Pick some texts of a `large_string` array without nulls; all of it, in its order, without an index."""
        self._array = array
        self._index_N = index_N

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        """Hold texts."""
        return cls(_array_of(texts))

    def __len__(self) -> int:
        return len(self._array) if self._index_N is None else len(self._index_N)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> "Texts": ...
    def __getitem__(self, at: int | slice) -> "str | Texts":
        if isinstance(at, slice):
            return self.take(np.arange(len(self))[at])
        place = range(len(self))[at]
        return str(self._array[place if self._index_N is None else int(self._index_N[place])].as_py())

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self._cut(start, start + _AT_ONCE).to_pylist()

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:
        """Hand the texts to `pyarrow.array`."""
        return self.array if type is None else self.array.cast(type)

    @property
    def array(self) -> pa.Array:
        """The texts as `large_string`; a copy where they are picked by an index."""
        return self._cut(0, len(self))

    def take(self, index_N: Index) -> "Texts":
        """Pick texts; none is copied."""
        return Texts(self._array, index_N if self._index_N is None else self._index_N[index_N])

    def lengths(self) -> npt.NDArray[np.int32]:
        """Count the characters of each text, int32 [N]."""
        length_C: npt.NDArray[np.int32] = pc.utf8_length(self._array).to_numpy().astype(np.int32)
        return length_C if self._index_N is None else length_C[self._index_N]

    def matches(self, pattern: str) -> npt.NDArray[np.bool_]:
        """Tell which texts hold a match of a regular expression (RE2), bool [N]."""
        matches_C: npt.NDArray[np.bool_] = pc.match_substring_regex(self._array, pattern).to_numpy(zero_copy_only=False)
        return matches_C if self._index_N is None else matches_C[self._index_N]

    def replace(self, place_M: Index, texts: Iterable[str | None]) -> "tuple[Texts, npt.NDArray[np.int64]]":
        """Put other texts in some places of distinct ones.

        Args:
            place_M: Where, in rising order.
            texts: What; None for nothing.

        Returns:
            The distinct texts that this gives, as they first appear, and the number of each text among them; -1 for
            nothing.
        """
        if not len(place_M):
            return self, np.arange(len(self))
        mask = np.zeros(len(self), np.bool_)
        mask[place_M] = True
        replaced = pc.replace_with_mask(self.array, pa.array(mask), _array_of(texts)).dictionary_encode()
        pa.default_memory_pool().release_unused()  # as large as the texts themselves
        return Texts(replaced.dictionary), replaced.indices.fill_null(-1).to_numpy().astype(np.int64)

    def _cut(self, start: int, stop: int) -> pa.Array:
        if self._index_N is None:
            return self._array.slice(start, stop - start)
        return self._array.take(pa.array(self._index_N[start:stop]))


class Antibodies(Sequence[Antibody]):
    """Antibodies whose chains are picked from the distinct chains of a table."""

    def __init__(self, heavy: Texts, light: Texts, light_N: Index) -> None:
        """Pair each heavy chain with the light chain of that number; -1 stands for none."""
        self._heavy = heavy
        self._light = light
        self._light_N = light_N

    def __len__(self) -> int:
        return len(self._heavy)

    @overload
    def __getitem__(self, at: int) -> Antibody: ...
    @overload
    def __getitem__(self, at: slice) -> "Antibodies": ...
    def __getitem__(self, at: int | slice) -> "Antibody | Antibodies":
        if isinstance(at, slice):
            return self.take(np.arange(len(self))[at])
        light = int(self._light_N[at])
        return self._heavy[at], None if light < 0 else self._light[light]

    def __iter__(self) -> Iterator[Antibody]:
        for start in range(0, len(self), _AT_ONCE):
            light_N = self._light_N[start : start + _AT_ONCE]
            lights = iter(self._light.take(light_N[light_N >= 0]))
            for heavy, alone in zip(self._heavy[start : start + _AT_ONCE], (light_N < 0).tolist(), strict=True):
                yield heavy, None if alone else next(lights)

    @property
    def heavy(self) -> Texts:
        """The heavy chain of each antibody."""
        return self._heavy

    def alone(self) -> npt.NDArray[np.bool_]:
        """Which antibodies have no light chain, bool [N]."""
        return self._light_N < 0

    def take(self, index_N: Index) -> "Antibodies":
        """Pick antibodies; no chain is copied."""
        return Antibodies(self._heavy.take(index_N), self._light, self._light_N[index_N])

    def lengths(self) -> npt.NDArray[np.int32]:
        """Count the residues of each antibody, both chains together, int32 [N]."""
        light_C = np.append(self._light.lengths(), np.int32(0))  # none, index -1, is the last
        return self._heavy.lengths() + light_C[self._light_N]


def _array_of(texts: Iterable[str | None]) -> pa.Array:
    """Move texts into Arrow's memory, some at a time; None becomes null."""
    blocks, given = [pa.array([], pa.large_string())], iter(texts)
    while block := list(islice(given, _AT_ONCE)):
        blocks.append(pa.array(block, pa.large_string()))
    return pa.concat_arrays(blocks)
