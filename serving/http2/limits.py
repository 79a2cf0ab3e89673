"""What a peer may ask of a connection."""

from __future__ import annotations

import time
from dataclasses import dataclass

from serving.errors import InvalidInput
from serving.http2.frames import DEFAULT_FRAME_BYTES, LARGEST_FRAME_BYTES, LARGEST_WINDOW


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of one connection.

    Attributes:
        streams: at the same time.
        header_bytes: of a request, as RFC 9113 counts them: 32 for each beside its name and value.
        window: bytes of a stream that may be on their way.
        connection_window: bytes of all streams that may be on their way.
        frame_bytes: of the longest frame.
        queued_bytes: of answers that wait for the peer; more than one answer may not exceed it.
        burst: frames that cost work and bring nothing (resets, pings, settings and the like) in one go.
        rate: of such frames a second, in the long run.
        handshake_seconds: until the peer has said what it speaks.
        stall_seconds: that a peer may read nothing while there is something to read.
    """

    streams: int = 1024
    header_bytes: int = 16_384
    window: int = 4 << 20
    connection_window: int = 16 << 20
    frame_bytes: int = 1 << 20
    queued_bytes: int = 1 << 28
    burst: int = 2000
    rate: float = 500.0
    handshake_seconds: float = 20.0
    stall_seconds: float = 60.0

    def __post_init__(self) -> None:
        allowed = {
            "streams": (1, 2**31 - 1),
            "header_bytes": (1, 1 << 20),
            "window": (1, LARGEST_WINDOW),
            "queued_bytes": (1, 2**63),
            "connection_window": (65_535, LARGEST_WINDOW),
            "frame_bytes": (DEFAULT_FRAME_BYTES, LARGEST_FRAME_BYTES),
        }
        for name, (least, most) in allowed.items():
            if not least <= getattr(self, name) <= most:
                raise InvalidInput(f"{name} is {getattr(self, name)}; {least} to {most} are allowed")

    @property
    def block_bytes(self) -> int:
        """Of the longest header block that is looked at: more than allowed, so that a request can be refused alone."""
        return max(16_384, 2 * self.header_bytes)

    @property
    def unpacked_bytes(self) -> int:
        """Of headers beyond which a block is a bomb and ends the connection."""
        return max(65_536, 4 * self.header_bytes)


class Allowance:
    """A bucket of tokens that fills with time.

    Args:
        burst: tokens that it holds.
        rate: tokens that come back in a second.
    """

    def __init__(self, burst: int, rate: float) -> None:
        self._burst, self._rate = burst, rate
        self._left, self._at = float(burst), time.monotonic()

    def spend(self) -> bool:
        """Take one; false if there is none."""
        self._left -= 1
        if self._left >= 0:
            return True
        # The clock is looked at only here: most connections never come this far.
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        return self._left >= 0
