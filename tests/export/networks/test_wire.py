"""Messages arrive as they were sent; those of a child that does not keep to the form are refused."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sspcab_export.networks.wire import Ended, Message, receive, send


class Counted(io.BytesIO):
    """A stream that remembers the most that was asked of it at once."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.most = max(self.most, -1 if size is None else size)
        return super().read(size)


def stream(head: bytes, body: bytes = b"", announced: int | None = None) -> Counted:
    return Counted(struct.pack("<QQ", len(head), len(body) if announced is None else announced) + head + body)


def arrays(shapes: Any) -> bytes:
    return json.dumps({"head": {}, "arrays": shapes}).encode()


def sent() -> bytes:
    buffer = io.BytesIO()
    send(buffer, Message({"do": "run"}, {"picture": np.arange(6, dtype=np.float32).reshape(2, 3)}, b"more"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "head",
    [
        b"", b"{", b"[1]", b"7", b"null", b"\xff\xfe", b"[" * 100_000, b'{"head": {}}', b'{"arrays": []}',
        b'{"head": [1], "arrays": []}', b'{"head": {}, "arrays": 3}', b'{"head": {}, "arrays": [["a"]]}',
        b'{"head": {}, "arrays": [["a", 3]]}', b'{"head": {}, "arrays": [["a", [Infinity]]]}',
        b'{"head": {}, "arrays": [["a", [NaN]]]}', b'{"head": {}, "arrays": [["a", ["x"]]]}',
        b'{"head": {}, "arrays": [["a", [' + b"9" * 5000 + b"]]]}",
    ],
    ids=lambda head: head[:40].decode(errors="replace"),
)  # fmt: skip
def test_a_head_of_another_form_is_refused(head: bytes) -> None:
    with pytest.raises(Ended):
        receive(stream(head, bytes(16)))


@pytest.mark.parametrize(
    "shapes",
    [
        [["a", [5]]],
        [["a", [-1]]],
        [["a", [-2, -2]]],
        [["a", [2**62, 4]]],
        [["a", [0, 10**30]]],
        [["a", [0, 2**62, 2**62]]],
        [["a", [1] * 70]],
        [["a", [2]], ["b", [3]]],
    ],
    ids=str,
)
def test_shapes_that_the_body_cannot_hold_are_refused(shapes: list[list[Any]]) -> None:
    with pytest.raises(Ended):
        receive(stream(arrays(shapes), bytes(16)))


@pytest.mark.parametrize(("head", "body"), [(2**20 + 1, 0), (2**63, 0), (2, 2**33 + 1), (2, 2**64 - 1)])
def test_lengths_beyond_the_limits_are_refused_before_anything_is_read(head: int, body: int) -> None:
    said = Counted(struct.pack("<QQ", head, body) + b"{}")
    with pytest.raises(Ended):
        receive(said)
    assert said.most == 16


@given(shapes=st.lists(st.lists(st.integers(-4, 2**40), max_size=4), max_size=4), size=st.integers(0, 64))
def test_no_more_is_asked_for_than_was_announced(shapes: list[list[int]], size: int) -> None:
    head = arrays([[f"a{number}", shape] for number, shape in enumerate(shapes)])
    said = stream(head, bytes(size))
    try:
        message = receive(said)
    except Ended:
        pass
    else:
        assert sum(array.nbytes for array in message.arrays.values()) + len(message.blob) == size
    assert said.most <= max(16, len(head), size)


@given(cut=st.integers(0, len(sent()) - 1))
def test_a_message_that_is_cut_off_is_none(cut: int) -> None:
    with pytest.raises(Ended):
        receive(io.BytesIO(sent()[:cut]))


@given(
    head=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=3),
    blob=st.binary(max_size=50),
)
def test_messages_arrive_as_they_were_sent(
    head: dict[str, Any], shapes: list[list[int]], blob: bytes
) -> None:
    arrays = {
        str(n): np.random.default_rng(n).random(shape).astype(np.float32) for n, shape in enumerate(shapes)
    }
    stream = io.BytesIO()
    send(stream, Message(head, arrays, blob))
    stream.seek(0)
    got = receive(stream)
    assert (dict(got.head), got.blob) == (head, blob)
    assert set(got.arrays) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(got.arrays[name], array)


@given(st.binary(max_size=80))
def test_noise_is_no_message(data: bytes) -> None:
    with pytest.raises(Ended):
        receive(io.BytesIO(data))


def test_messages_follow_each_other_without_a_gap() -> None:
    both = io.BytesIO(sent() + sent())
    for _ in range(2):
        message = receive(both)
        assert message.blob == b"more"
        np.testing.assert_array_equal(message.arrays["picture"], [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(Ended):
        receive(both)


def test_nobody_to_read_is_an_end() -> None:
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(Ended):
        send(closed, Message({}))
