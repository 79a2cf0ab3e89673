"""A closed-loop client of ModelInfer that costs a tenth of grpcio's, so that on a shared core the server is the limit.

It writes the frames of HTTP/2 itself: one connection, one stream a request, headers by index after the first time as
every gRPC client does. It reads no headers: a stream that ends with as many bytes as the right answer has is answered.
"""

from __future__ import annotations

import socket
import struct
import time

import grpc
import numpy as np

from serving.protocol.codec import build_request, parse_response
from serving.protocol.messages import SERVICE
from serving.types import InferRequest

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
LARGEST_WINDOW = 2**31 - 1
FIRST_WINDOW = 65_535
LARGEST_FRAME = 16_384
CHUNK = 1 << 18


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """One frame of HTTP/2."""
    return struct.pack(">IBBI", len(content), kind, flags, stream)[1:] + content


def _headers(address: str) -> tuple[bytes, bytes]:
    """HPACK of the first request, which fills the dynamic table, and of all others, which point into it."""
    text = (f"/{SERVICE}/ModelInfer".encode(), address.encode(), b"application/grpc")
    names = (b"\x44", b"\x41", b"\x5f")  # with incremental indexing: :path, :authority, content-type
    first = b"\x83\x86" + b"".join(n + bytes([len(t)]) + t for n, t in zip(names, text, strict=True))
    return first + b"\x40\x02te\x08trailers", b"\x83\x86\xc1\xc0\xbf\xbe"


class Connection:
    """One connection with many streams.

    Args:
        address: "host:port".
        payload: of every request.
        expected: bytes of the right answer, with gRPC's prefix.
    """

    def __init__(self, address: str, payload: bytes, expected: int) -> None:
        if len(payload) + 5 > LARGEST_FRAME:
            raise ValueError(f"a request of {len(payload)} bytes; one frame holds {LARGEST_FRAME - 5}")
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        first, later = _headers(address)
        self._first, self._later = (frame(HEADERS, END_HEADERS, 0, block) for block in (first, later))
        self._body = frame(DATA, END_STREAM, 0, b"\0" + struct.pack(">I", len(payload)) + payload)
        self._expected, self._next, self._window = expected, 1, FIRST_WINDOW
        self._started: dict[int, float] = {}
        self._received: dict[int, int] = {}
        self.latencies: list[float] = []
        self.errors = self._unread = 0
        window = struct.pack(">HI", 4, LARGEST_WINDOW)
        more = struct.pack(">I", LARGEST_WINDOW - FIRST_WINDOW)
        hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, window)
        self.socket.sendall(hello + frame(WINDOW_UPDATE, 0, 0, more))

    def run(self, clients: int, seconds: float) -> None:
        """Keep so many requests on their way, then wait for the last ones."""
        until, waiting, rest = time.perf_counter() + seconds, clients, b""
        while True:
            out = []
            while waiting and self._window >= len(self._body):
                out.append(self._request())
                waiting -= 1
            if out:
                self.socket.sendall(b"".join(out))
            if not (self._started or waiting):
                return
            received = self.socket.recv(CHUNK)
            if not received:
                raise ConnectionError("the server hung up")
            rest, ended = self._read(rest + received)
            if time.perf_counter() < until:
                waiting += ended
            else:
                waiting = 0

    def _request(self) -> bytes:
        stream = self._next.to_bytes(4, "big")
        head = self._first if self._next == 1 else self._later
        self._started[self._next] = time.perf_counter()
        self._next += 2
        self._window -= len(self._body) - 9
        return b"".join((head[:5], stream, head[9:], self._body[:5], stream, self._body[9:]))

    def _read(self, data: bytes) -> tuple[bytes, int]:
        """Take frames; what is left of the last one, and how many requests ended."""
        at, ended, answers = 0, 0, []
        while len(data) - at >= 9:
            length = int.from_bytes(data[at : at + 3], "big")
            end = at + 9 + length
            if end > len(data):
                break
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : at + 9], "big")
            if kind == DATA:
                self._received[stream] = self._received.get(stream, 0) + length
                self._unread += length
            if (kind in {DATA, HEADERS} and flags & END_STREAM) or kind == RESET:
                ended += self._ended(stream)
            elif kind > HEADERS:
                answers.append(self._control(kind, flags, stream, data[at + 9 : end]))
            at = end
        if self._unread > LARGEST_WINDOW // 4:
            answers.append(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._unread)))
            self._unread = 0
        if any(answers):
            self.socket.sendall(b"".join(answers))
        return data[at:], ended

    def _ended(self, stream: int) -> int:
        """Note the end of a stream; 0 if that was known."""
        started = self._started.pop(stream, None)
        received = self._received.pop(stream, 0)
        if started is None:
            return 0
        if received == self._expected:
            self.latencies.append(time.perf_counter() - started)
        else:
            self.errors += 1
        return 1

    def _control(self, kind: int, flags: int, stream: int, content: bytes) -> bytes:
        """Frames about the connection; what to answer."""
        if kind == WINDOW_UPDATE and not stream:
            self._window += int.from_bytes(content, "big")
        elif kind == GOAWAY:
            raise ConnectionError(f"the server says GOAWAY: {content[8:]!r}")
        elif kind in {SETTINGS, PING} and not flags & ACK:
            return frame(kind, ACK, 0, content if kind == PING else b"")
        return b""


def drive(address: str, model: str, width: int, clients: int, seconds: float) -> tuple[list[float], int]:
    """(latencies in s, errors) of a closed loop; the first answer is looked at through grpcio."""
    payload = build_request(InferRequest(model=model, inputs={"INPUT0": np.ones((1, width), np.float32)}))
    with grpc.insecure_channel(address) as channel:
        answer = channel.unary_unary(f"/{SERVICE}/ModelInfer")(payload, wait_for_ready=True)
    output = parse_response(answer).outputs[0].data
    if output is None or (model == "identity" and not (output == 1).all()):
        raise RuntimeError(f"{address} gives a wrong answer")
    connection = Connection(address, payload, len(answer) + 5)
    try:
        connection.run(clients, seconds)
    finally:
        connection.socket.close()
    return connection.latencies, connection.errors
