"""SETTINGS of the peer."""

from __future__ import annotations

from collections.abc import Mapping

from serving.http2.frames import (
    DEFAULT_FRAME_BYTES,
    LARGEST_FRAME_BYTES,
    LARGEST_WINDOW,
    SETTING,
    Code,
    ProtocolError,
    Setting,
)
from serving.http2.sending import Sender
from serving.http2.stream import Stream


def apply_settings(sender: Sender, streams: Mapping[int, Stream], payload: bytes) -> None:
    """Do as the peer says.

    Args:
        sender: of the connection.
        streams: that are open.
        payload: of the SETTINGS frame. The size of the table of headers is of no concern: answers need none.

    Raises:
        ProtocolError: it says what it may not.
    """
    if len(payload) % SETTING.size:
        raise ProtocolError(
            Code.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes; multiples of 6 are allowed"
        )
    for name, value in SETTING.iter_unpack(payload):
        if name == Setting.INITIAL_WINDOW_SIZE:
            _check_window(value, streams)
            sender.initial = value
        elif name == Setting.MAX_FRAME_SIZE:
            if not DEFAULT_FRAME_BYTES <= value <= LARGEST_FRAME_BYTES:
                raise ProtocolError(
                    Code.PROTOCOL_ERROR,
                    f"SETTINGS_MAX_FRAME_SIZE is {value}; {DEFAULT_FRAME_BYTES} to {LARGEST_FRAME_BYTES} are allowed",
                )
            sender.frame_bytes = value
        elif name == Setting.ENABLE_PUSH and value > 1:
            raise ProtocolError(Code.PROTOCOL_ERROR, f"SETTINGS_ENABLE_PUSH is {value}; 0 and 1 are allowed")


def _check_window(value: int, streams: Mapping[int, Stream]) -> None:
    """A stream's window follows the initial one, and may be too large then though that is not."""
    largest = max((stream.delta for stream in streams.values()), default=0)
    if value + max(0, largest) > LARGEST_WINDOW:
        raise ProtocolError(
            Code.FLOW_CONTROL_ERROR,
            f"SETTINGS_INITIAL_WINDOW_SIZE is {value}, on a stream {value + largest}; {LARGEST_WINDOW} is allowed",
        )
