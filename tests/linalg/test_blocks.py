"""Blocks of consecutive indices."""

import pytest

from gflow.linalg.blocks import spans


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("stop", [0, 2, 3, 9, 10])
@pytest.mark.parametrize("size", [1, 3, 20])
def test_every_index_is_in_one_slice(start, stop, size):
    slices = list(spans(stop, size, start))
    assert [i for s in slices for i in range(s.start, s.stop)] == list(range(start, stop))
    assert all(s.stop - s.start == size for s in slices[:-1])
    assert all(0 < s.stop - s.start <= size for s in slices)
