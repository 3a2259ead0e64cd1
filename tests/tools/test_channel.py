"""A hostile peer can make a channel unusable; it cannot crash, block or mislead its owner."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.check.composition import composition_of
from tools.check.verdict import Rejected
from tools.types import Composition
from tools.worker.attempt import CandidateProcess, _require_same_state
from tools.worker.channel import MAX_BODY_BYTES, Channel, ChannelClosedError, ChannelTimeoutError, ProtocolViolationError

HONEST_ERRORS = (ChannelClosedError, ChannelTimeoutError, ProtocolViolationError)


def frame(body: bytes, magic: bytes = b"KEV1", length: int | None = None) -> bytes:
    return struct.pack(">4sI", magic, len(body) if length is None else length) + body


def received(raw: bytes) -> dict[str, object]:
    ours, theirs = socket.socketpair()
    try:
        theirs.sendall(raw)
        theirs.close()
        return Channel(ours).receive(0.5)[0]
    finally:
        ours.close()


def test_a_message_arrives_with_its_descriptors() -> None:
    left, right = socket.socketpair()
    reader, writer = os.pipe()
    Channel(left).send({"op": "x", "n": [1, 2.5, None]}, [writer])
    message, fds = Channel(right).receive(1.0)
    os.write(fds[0], b"through")
    assert message == {"op": "x", "n": [1, 2.5, None]}
    assert os.read(reader, 7) == b"through"
    for fd in (reader, writer, *fds):
        os.close(fd)


def test_two_messages_in_one_packet_are_told_apart() -> None:
    left, right = socket.socketpair()
    left.sendall(frame(b'{"a": 1}') + frame(b'{"b": 2}'))
    channel = Channel(right)
    assert [channel.receive(1.0)[0], channel.receive(1.0)[0]] == [{"a": 1}, {"b": 2}]
    left.close()


@pytest.mark.parametrize(
    "raw",
    [
        frame(b"{}", magic=b"HTTP"),
        b"GET / HTTP/1.1\r\n\r\n",
        frame(b"", length=MAX_BODY_BYTES + 1),
        frame(b"[1, 2]"),
        frame(b"nonsense"),
        frame(b"\xff\xfe"),
    ],
    ids=["magic", "http", "oversized", "array", "text", "bytes"],
)
def test_what_is_no_message_is_a_violation(raw: bytes) -> None:
    with pytest.raises(ProtocolViolationError):
        received(raw)


def test_a_truncated_message_is_a_closed_channel() -> None:
    with pytest.raises(ChannelClosedError):
        received(frame(b'{"a": 1}')[:-2])


def test_deep_nesting_is_a_violation_and_no_crash() -> None:
    with pytest.raises(ProtocolViolationError):
        received(frame(b"[" * 200_000))


def test_nesting_that_python_itself_could_read_is_a_violation_too() -> None:
    with pytest.raises(ProtocolViolationError):
        received(frame(b'{"a": ' + b"[" * 70 + b"]" * 70 + b"}"))


def test_silence_ends_at_the_time_limit() -> None:
    left, right = socket.socketpair()
    with pytest.raises(ChannelTimeoutError):
        Channel(right).receive(0.05)
    left.close()


def test_a_peer_that_never_reads_cannot_block_a_sender() -> None:
    left, right = socket.socketpair()
    with pytest.raises(ChannelTimeoutError):
        Channel(left).send({"x": "y" * (MAX_BODY_BYTES - 100)}, timeout_s=0.1)
    right.close()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_never_crash_the_receiver(raw: bytes) -> None:
    with contextlib.suppress(*HONEST_ERRORS):
        assert isinstance(received(raw), dict)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=8),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda x: st.lists(x, max_size=3)),
        max_size=4,
    ),
    st.integers(0, 60),
)
def test_a_cut_or_changed_message_never_crashes_the_receiver(message: dict[str, object], cut: int) -> None:
    raw = bytearray(frame(json.dumps(message).encode()))
    place = cut % len(raw)
    raw[place] ^= 0xFF
    for variant in (bytes(raw), bytes(raw[:place])):
        with contextlib.suppress(*HONEST_ERRORS):
            assert isinstance(received(variant), dict)


def test_half_characters_become_question_marks() -> None:
    assert received(frame(b'{"text": "a\\ud800b", "\\udfff": ["\\ud83d\\ude00"]}')) == {"text": "a?b", "?": ["\N{GRINNING FACE}"]}


def test_only_utf_8_is_a_message() -> None:
    for body in ('{"a": 1}'.encode("utf-16"), b'{"a": "\xed\xa0\x80"}'):
        with pytest.raises(ProtocolViolationError):
            received(frame(body))


def test_descriptors_of_a_peer_that_has_none_to_give_are_closed_and_a_violation() -> None:
    left, right = socket.socketpair()
    reader, writer = os.pipe()
    Channel(left).send({"op": "x"}, [writer])
    with pytest.raises(ProtocolViolationError):
        Channel(right, accepts_fds=False).receive(1.0)
    os.close(writer)
    assert os.read(reader, 1) == b""  # nobody holds the other end any more
    os.close(reader)


def test_descriptors_sent_byte_by_byte_do_not_pile_up() -> None:
    left, right = socket.socketpair()
    reader, writer = os.pipe()
    for byte in frame(b'{"op": "a long enough message"}'):
        socket.send_fds(left, [bytes([byte])], [writer, writer])
    with pytest.raises(ProtocolViolationError):
        Channel(right).receive(1.0)
    left.close()
    right.close()
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["tensor", "list", "tuple", "float32", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["tensor", "list", "tuple", "dict", "shape", "dtype", "value", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)
EXPECTED: dict[str, Any] = {
    "tuple": [{"tensor": {"shape": [2, 3], "dtype": "float32"}}, {"dict": {"x": {"list": [{"tensor": {"shape": [1], "dtype": "int64"}}]}}}]
}


@settings(max_examples=300, deadline=None)
@given(JSON, JSON, JSON)
def test_whatever_a_process_says_of_its_output_ends_in_a_verdict(outputs: object, invalid: object, written: object) -> None:
    process = object.__new__(CandidateProcess)
    for expected in (EXPECTED, EXPECTED["tuple"][0], EXPECTED["tuple"][1]):
        with contextlib.suppress(Rejected):
            process._check_outputs({"outputs": outputs, "invalid": invalid, "written": written}, expected)
            assert written is True


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["w", "x"]), JSON, max_size=2))
def test_whatever_a_process_says_of_its_weights_ends_in_a_verdict(theirs: dict[str, Any]) -> None:
    with contextlib.suppress(Rejected):
        _require_same_state(theirs, {"dict": {"w": {"tensor": {"shape": [2]}}}})
        assert theirs["w"]["shape"] == [2] and set(theirs) == {"w"}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.fixed_dictionaries({}, optional={"operators": JSON, "launches": JSON, "kernels": JSON}), max_size=2))
def test_whatever_a_process_says_of_its_kernels_gives_a_composition(traces: list[dict[str, Any]]) -> None:
    assert composition_of(traces, [], Path("/nowhere")) in Composition
