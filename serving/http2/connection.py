"""A connection of a server, as the event loop sees it: bytes come, are taken apart into frames, and answers leave."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from serving.http2 import frames
from serving.http2.frames import (
    HEAD,
    HEAD_BYTES,
    PREFACE,
    Code,
    Flag,
    Kind,
    ProtocolError,
    Setting,
    StreamError,
)
from serving.http2.rules import OPEN, UNKNOWN, Rules
from serving.http2.session import Site

log = logging.getLogger(__name__)

HIGH_WATER = 1 << 19
"""Bytes in the transport beyond which a connection waits for its peer."""


class Connection(Rules):
    """The server's side of one connection.

    Args:
        site: the server.
    """

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._rest, self._needed = bytearray(), len(PREFACE)
        self._left = self._left_flags = self._left_stream = 0
        self._has_preface = False
        self._longest = site.limits.frame_bytes << 8 | 0xFF

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what is allowed here."""
        self.transport = self.sender.transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            self.peer = (name[0], name[1])
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        self.site.connections.add(self)
        limits = self.limits
        self.sender.control(
            frames.settings(
                {
                    Setting.MAX_CONCURRENT_STREAMS: limits.streams,
                    Setting.INITIAL_WINDOW_SIZE: limits.window,
                    Setting.MAX_FRAME_SIZE: limits.frame_bytes,
                    Setting.MAX_HEADER_LIST_SIZE: limits.header_bytes,
                }
            )
        )
        if limits.connection_window > frames.DEFAULT_WINDOW:
            self.sender.control(frames.window_update(0, limits.connection_window - frames.DEFAULT_WINDOW))
        self._timer = self.site.loop.call_later(limits.handshake_seconds, self._silent)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the streams."""
        self.is_over = True
        self.sender.transport = None
        self.site.connections.discard(self)
        self._stop_timer()
        self._lose_streams()

    def data_received(self, data: bytes) -> None:
        """Take what the peer sent."""
        if self.is_over:
            return
        turn = self.site.turn
        turn.hold()
        try:
            self._receive(data)
        except ProtocolError as error:
            self.fail(error.code, str(error))
        except Exception:
            log.exception("unexpected error in an HTTP/2 connection")
            self.fail(Code.INTERNAL_ERROR, "unexpected error")
        finally:
            turn.end()

    def pause_writing(self) -> None:
        """The peer does not read as fast as it asks: nor is it read until it does."""
        if self.is_over:
            return
        self.sender.is_paused = True
        self.transport.pause_reading()
        self._stop_timer()
        size = self.transport.get_write_buffer_size()
        self._timer = self.site.loop.call_later(self.limits.stall_seconds, self._stalled, size)

    def resume_writing(self) -> None:
        """Go on."""
        if self.is_over:
            return
        self._stop_timer()
        self.sender.is_paused = False
        self.sender.pump()
        # Not before: what was pumped may have paused it again.
        if not (self.is_over or self.sender.is_paused):
            self.transport.resume_reading()

    def _silent(self) -> None:
        self.fail(Code.PROTOCOL_ERROR, "nothing was said in time")

    def _stalled(self, before: int) -> None:
        """Let a peer that reads nothing go; one that is slow may be."""
        size = self.transport.get_write_buffer_size()
        if size >= before:
            self.transport.abort()
        else:
            self._timer = self.site.loop.call_later(self.limits.stall_seconds, self._stalled, size)

    def _receive(self, data: bytes) -> None:
        at = self._go_on(data) if self._left else 0
        if self._rest:
            self._rest += memoryview(data)[at:]
            if len(self._rest) < self._needed:
                return
            data, at = bytes(self._rest), 0
            self._rest.clear()
            self._needed = HEAD_BYTES
        if not self._has_preface:
            if not self._greet(data):
                return
            at = len(PREFACE)
        end = len(data)
        while end - at >= HEAD_BYTES:
            word, flags, number = HEAD.unpack_from(data, at)
            kind, start, number = word & 0xFF, at + HEAD_BYTES, number & 0x7FFFFFFF
            stop = start + (word >> 8)
            if word > self._longest:
                self._check_size(kind, word >> 8)
            if stop > end:
                if not self._begin(data, start, stop, kind, flags, number):
                    break
                return
            at = stop
            try:
                self._table[kind if kind < UNKNOWN else UNKNOWN](self, data, start, stop, flags, number)
            except StreamError as error:
                self._break_off(number, error.code)
            if self.is_over:
                return
        if at < end:
            self._rest += memoryview(data)[at:]

    def _greet(self, data: bytes) -> bool:
        """Whether the preface is there."""
        if not PREFACE.startswith(data[: len(PREFACE)]):
            raise ProtocolError(Code.PROTOCOL_ERROR, "the connection does not begin with HTTP/2's preface")
        self._has_preface = len(data) >= len(PREFACE)
        if not self._has_preface:
            self._rest += data
        self._needed = HEAD_BYTES if self._has_preface else len(PREFACE)
        return self._has_preface

    def _begin(self, data: bytes, start: int, stop: int, kind: int, flags: int, number: int) -> bool:
        """A frame that is not here as a whole; whether its part was taken already."""
        size = stop - start
        self._check_size(kind, size)
        if kind != Kind.DATA or flags & Flag.PADDED or self._table is not OPEN:
            self._needed = HEAD_BYTES + size
            return False
        self._left, self._left_flags, self._left_stream = size, flags, number
        self._go_on(data, start)
        return True

    def _go_on(self, data: bytes, at: int = 0) -> int:
        """The next part of a DATA frame; where what follows it begins."""
        size = min(self._left, len(data) - at)
        self._left -= size
        flags = self._left_flags if not self._left else Flag.NONE
        if size:
            try:
                self._on_data(data, at, at + size, flags, self._left_stream)
            except StreamError as error:
                self._break_off(self._left_stream, error.code)
        return at + size
