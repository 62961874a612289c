"""Sources that begin again, and the order of a pack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sspcab_bench.inputs import Endless, pack_files, spread
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import BundleError, SourceError
from sspcab_edge.parity import read_pack
from sspcab_edge.preprocess import decode_picture
from sspcab_edge.protocols import Frame


class _Few:
    """A source of ``count`` frames that remembers whether it was closed."""

    uri = "few"

    def __init__(self, count: int) -> None:
        self.count = count
        self.closed = False
        self._frames = iter(range(count))

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        return Frame(np.zeros((1, 1, 3), np.uint8), next(self._frames), self.uri, 0.0, 0.0)

    def close(self) -> None:
        self.closed = True


def test_begins_again_with_the_indices_of_a_pass() -> None:
    opened: list[_Few] = []

    def open_pass() -> _Few:
        opened.append(_Few(3))
        return opened[-1]

    source = Endless(open_pass)
    assert [next(source).index for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert [one.closed for one in opened] == [True, True, False]
    source.close()
    assert opened[-1].closed
    assert (source.uri, source.count) == ("few", None)


def test_no_frames_at_all_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises(SourceError, match="few gives no frames"):
        next(Endless(lambda: _Few(0)))


def test_files_are_in_the_order_of_the_pack(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    files = pack_files(bundle)
    items = list(read_pack(bundle))
    assert len(files) == len(items)
    for file, item in zip(files, items, strict=True):
        assert np.array_equal(decode_picture(file).pixels, item.entry["frames"])


def test_a_pack_without_pictures(build: Callable[..., Bundle]) -> None:
    with pytest.raises(BundleError, match="0 pictures"):
        pack_files(build(inputs=0))


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_spread_is_a_permutation(count: int) -> None:
    assert sorted(spread(count)) == list(range(count))


def test_the_first_few_are_spread_over_all() -> None:
    first = sorted(spread(100)[:10])
    gaps = [after - before for before, after in zip([0, *first], [*first, 100], strict=True)]
    assert max(gaps) <= 25
