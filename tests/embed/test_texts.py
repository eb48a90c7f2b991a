"""Texts in Arrow's memory behave like the lists that they stand for."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embed import texts as module
from embed.texts import Antibodies, Texts

words = st.lists(st.text(max_size=5), max_size=12)


def antibodies_of(pairs):
    """Antibodies whose light chains are held once each."""
    lights = sorted({light for _, light in pairs if light is not None})
    number_N = np.array([-1 if light is None else lights.index(light) for _, light in pairs], np.int64)
    return Antibodies(Texts.of([heavy for heavy, _ in pairs]), Texts.of(lights), number_N)


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 3)  # so that small lists have several blocks


@given(words, st.data())
@settings(deadline=None, max_examples=200)
def test_texts_are_the_list(held, data):
    """Length, items, slices, lengths and Arrow's view agree, before and after picking, twice too."""
    texts = Texts.of(held)
    for _ in range(3):
        assert list(texts) == list(texts.array.to_pylist()) == pa.array(texts).to_pylist() == held
        assert [texts[i] for i in range(-len(held), len(held))] == held + held
        assert texts.lengths().tolist() == [len(text) for text in held]
        assert texts.matches("^.?$").tolist() == [len(text) < 2 and text != "\n" for text in held]
        assert list(texts[1:-1]) == held[1:-1]
        index = data.draw(st.lists(st.integers(0, len(held) - 1), max_size=12)) if held else []
        texts, held = texts.take(np.array(index, np.int64)), [held[i] for i in index]


@pytest.mark.parametrize("texts", [Texts.of(["a"]), Texts.of(["b", "a"]).take(np.array([1]))])
@pytest.mark.parametrize("at", [1, -2])
def test_places_outside_are_no_texts(texts, at):
    """A list would say so too."""
    with pytest.raises(IndexError):
        texts[at]


@given(st.lists(st.text(max_size=3), unique=True, max_size=12), st.data())
@settings(deadline=None, max_examples=200)
def test_replaced_texts_are_numbered_as_they_appear(held, data):
    """Against a plain loop: equal texts have one number, nothing has none."""
    place = st.dictionaries(st.integers(0, len(held) - 1), st.none() | st.sampled_from(["x", "y", *held]))
    put = dict(sorted(data.draw(place).items())) if held else {}
    expected = [put.get(i, text) for i, text in enumerate(held)]
    texts, number_N = Texts.of(held).replace(np.array(list(put), np.int64), iter(put.values()))
    assert list(texts) == [text for text in dict.fromkeys(expected) if text is not None]
    assert [None if n < 0 else texts[n] for n in number_N.tolist()] == expected


pairs = st.lists(st.tuples(st.sampled_from(["EVQ", "QV", "A"]), st.sampled_from(["DIQ", "EIVL", None])), max_size=12)


@given(pairs, st.data())
@settings(deadline=None, max_examples=200)
def test_antibodies_are_the_list(held, data):
    """Items, slices, lengths and what has no light chain agree, before and after picking."""
    antibodies = antibodies_of(held)
    for _ in range(3):
        assert list(antibodies) == held
        assert [antibodies[i] for i in range(-len(held), len(held))] == held + held
        assert antibodies.lengths().tolist() == [len(heavy) + len(light or "") for heavy, light in held]
        assert antibodies.alone().tolist() == [light is None for _, light in held]
        assert list(antibodies[1:]) == held[1:]
        index = data.draw(st.lists(st.integers(0, len(held) - 1), max_size=12)) if held else []
        antibodies, held = antibodies.take(np.array(index, np.int64)), [held[i] for i in index]
