"""Framed JSON between two processes over a private Unix socket, with file descriptors beside it.

A frame is four bytes `KEV1`, the body's length (uint32, big endian) and a JSON object in UTF-8. Nothing is ever unpickled. The receiving side bounds the
size and the time of each message, so a hostile peer can make a channel unusable but cannot crash or block its owner.
"""

from __future__ import annotations

import array
import json
import os
import re
import select
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_MAGIC = b"KEV1"
_HEADER = struct.Struct(">4sI")
_MAX_FDS = 4
_MAX_DEPTH = 64
"""Levels of nesting in a message: honest ones have a dozen, and whoever walks them later recurses."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
MAX_BODY_BYTES = 4 << 20
"""Largest accepted body, in bytes: far above any honest message (specifications of a few hundred tensors)."""


class ChannelClosedError(Exception):
    """The peer is gone: its process ended or closed the socket."""


class ChannelTimeoutError(Exception):
    """No complete message arrived in time."""


class ProtocolViolationError(Exception):
    """The peer sent bytes that are not a frame, too large a frame, or a body that is not a JSON object."""


class Channel:
    """One end of a message channel."""

    def __init__(self, sock: socket.socket, *, accepts_fds: bool = True) -> None:
        """Take over a connected socket.

        Args:
            sock: A Unix stream socket.
            accepts_fds: False: a descriptor from the peer is a violation, for peers that have none to give.
        """
        sock.setblocking(False)
        self._sock = sock
        self._accepts_fds = accepts_fds
        self._buffer = bytearray()
        self._fds: list[int] = []

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket; pending messages, and descriptors that came with them, are lost."""
        self._close_fds()
        self._sock.close()

    def send(
        self, message: Mapping[str, Any], fds: Sequence[int] = (), timeout_s: float = 30.0, *, start: Callable[[], None] | None = None
    ) -> None:  # Any: JSON
        """Send one message.

        Args:
            message: A JSON-ready object.
            fds: File descriptors that travel with it, at most 4; they stay open here.
            timeout_s: Limit for a peer that does not read.
            start: Called as soon as the message is on its way, or has to be read for the rest to be sent: lets a peer go that is held still.

        Raises:
            ChannelClosedError: The peer is gone.
            ChannelTimeoutError: The peer does not read.
        """
        body = json.dumps(message).encode()
        data = memoryview(_HEADER.pack(_MAGIC, len(body)) + body)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []
        deadline = time.monotonic() + timeout_s
        while data:
            try:
                sent = self._sock.sendmsg([data], ancillary)
            except BlockingIOError:
                if start is not None:
                    start()
                _wait(self._sock, select.POLLOUT, deadline)
                continue
            except OSError as err:
                raise ChannelClosedError("the peer closed the channel") from err
            data, ancillary = data[sent:], []
        if start is not None:
            start()

    def receive(self, timeout_s: float) -> tuple[dict[str, Any], list[int]]:  # Any: JSON
        """Return the next message and the descriptors received so far.

        Raises:
            ChannelClosedError: The peer is gone.
            ChannelTimeoutError: No complete message within `timeout_s`.
            ProtocolViolationError: The bytes are not a well-formed message.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            message = self._take()
            if message is not None:
                fds, self._fds = self._fds, []
                return message, fds
            _wait(self._sock, select.POLLIN, deadline)
            self._fill()

    def is_readable(self, timeout_s: float = 0.0) -> bool:
        """Tell whether something comes in within a time limit, or the peer is gone."""
        return bool(self._buffer) or _is_ready(self._sock, timeout_s)

    def has_data(self) -> bool:
        """Tell whether bytes of an unread message are there (an unsolicited message)."""
        if self._buffer:
            return True
        try:
            self._fill()
        except ChannelClosedError:
            return False
        except ProtocolViolationError:
            return True
        return bool(self._buffer)

    def _fill(self) -> None:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(1 << 16, socket.CMSG_LEN(_MAX_FDS * 4))
        except BlockingIOError:
            return
        except OSError as err:
            raise ChannelClosedError("the peer closed the channel") from err
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(payload[: len(payload) - len(payload) % 4])
                self._fds.extend(received)
        if len(self._fds) > (_MAX_FDS if self._accepts_fds else 0):  # kept, they would use up what this process may open
            self._close_fds()
            raise ProtocolViolationError("the peer sent descriptors that nobody asked for")
        if not data:
            raise ChannelClosedError("the peer closed the channel")
        self._buffer += data

    def _close_fds(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def _take(self) -> dict[str, Any] | None:  # Any: JSON
        if len(self._buffer) < _HEADER.size:
            if not _MAGIC.startswith(bytes(self._buffer[:4])):
                raise ProtocolViolationError("the message does not begin with the frame mark")
            return None
        magic, length = _HEADER.unpack_from(self._buffer)
        if magic != _MAGIC:
            raise ProtocolViolationError("the message does not begin with the frame mark")
        if length > MAX_BODY_BYTES:
            raise ProtocolViolationError(f"the message announces {length} bytes; at most {MAX_BODY_BYTES} are accepted")
        if len(self._buffer) < _HEADER.size + length:
            return None
        body = bytes(self._buffer[_HEADER.size : _HEADER.size + length])
        del self._buffer[: _HEADER.size + length]
        try:
            message = json.loads(body.decode())
        except (ValueError, RecursionError) as err:
            raise ProtocolViolationError(f"the message is not JSON: {err}") from err
        if not isinstance(message, dict):
            raise ProtocolViolationError(f"the message is a JSON {type(message).__name__}, not an object")
        if not _is_shallow(message):
            raise ProtocolViolationError(f"the message is nested more than {_MAX_DEPTH} levels deep")
        if _SURROGATE.search(body):
            cleaned: dict[str, Any] = _clean(message)  # Any: JSON
            return cleaned
        return message


def _is_shallow(message: Any) -> bool:  # Any: JSON
    level = [message]
    for _ in range(_MAX_DEPTH):
        level = [inner for item in level if isinstance(item, (dict, list)) for inner in (item.values() if isinstance(item, dict) else item)]
        if not level:
            return True
    return False


def _clean(value: Any) -> Any:  # Any: JSON
    """Return JSON data with half characters, which no file and no terminal takes, replaced by question marks."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value


def _is_ready(sock: socket.socket, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def _wait(sock: socket.socket, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(sock, event)
    remaining_s = deadline - time.monotonic()
    if remaining_s <= 0 or not poll.poll(remaining_s * 1000):
        raise ChannelTimeoutError("no message in time")
