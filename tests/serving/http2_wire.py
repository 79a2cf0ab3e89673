"""A client that says on HTTP/2 whatever a test wants, with frames of `hyperframe` and headers of `hpack`."""

import socket
import time

import hpack
from hyperframe import frame as frames
from tritonclient.grpc import service_pb2

from tests.serving.planes import rows

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATH = "/inference.GRPCInferenceService/"


def request(n=1, id="", model="mlp", x=None):
    """A framed ModelInferRequest."""
    message = service_pb2.ModelInferRequest(model_name=model, id=id)
    x = rows(n) if x is None else x
    message.inputs.add(name="x" if model == "mlp" else "INPUT0", datatype="FP32", shape=x.shape)
    message.raw_input_contents.append(x.tobytes())
    return framed(message.SerializeToString())


def framed(content, flag=0):
    return bytes([flag]) + len(content).to_bytes(4, "big") + content


class Wire:
    """A connection; it acknowledges settings and keeps what the server says."""

    def __init__(self, port, *, settings=None, greet=True, size=None):
        self.socket = socket.socket()
        if size is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        self.socket.connect(("127.0.0.1", port))
        self.socket.settimeout(10)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.received, self.is_closed, self._rest = [], False, b""
        if greet:
            self.socket.sendall(PREFACE)
            self.send(frames.SettingsFrame(0, settings=settings or {}))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *given):
        self.raw(b"".join(frame.serialize() for frame in given))

    def raw(self, data):
        """Send bytes; a server that has hung up already does not care."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.is_closed = True

    def headers(self, stream, path="ModelInfer", *, extra=(), flags=("END_HEADERS",), base=None):
        """A HEADERS frame of a call."""
        plain = [(":method", "POST"), (":scheme", "http"), (":path", PATH + path), (":authority", "test")]
        plain += [("te", "trailers"), ("content-type", "application/grpc")]
        block = self.encoder.encode([*(plain if base is None else base), *extra])
        return frames.HeadersFrame(stream, block, flags=flags)

    def call(self, stream, body=None, path="ModelInfer", **arguments):
        """A whole call."""
        body = request() if body is None else body
        self.send(
            self.headers(stream, path, **arguments), frames.DataFrame(stream, body, flags=("END_STREAM",))
        )

    def read(self, until=lambda frame: False, seconds=10.0):
        """Read until a frame is there, or the connection ends; that frame."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            while len(self._rest) >= 9:
                frame, size = frames.Frame.parse_frame_header(memoryview(self._rest[:9]))
                if len(self._rest) < 9 + size:
                    break
                frame.parse_body(memoryview(self._rest[9 : 9 + size]))
                self._rest = self._rest[9 + size :]
                self.received.append(frame)
                if until(frame):
                    return frame
            self.socket.settimeout(max(0.01, end - time.monotonic()))
            try:
                data = self.socket.recv(1 << 20)
            except OSError:
                data = b""
            if not data:
                self.is_closed = True
                return None
            self._rest += data
        return None

    def goaway(self):
        """The error with which the server ends the connection."""
        frame = self.read(lambda frame: isinstance(frame, frames.GoAwayFrame))
        return None if frame is None else frame.error_code

    def reset(self, stream):
        """The error with which it ends a stream."""
        frame = self.read(lambda f: isinstance(f, frames.RstStreamFrame) and f.stream_id == stream)
        return None if frame is None else frame.error_code

    def answer(self, stream):
        """(headers, body, trailers) of a call; the trailers alone are both."""
        found = [frame for frame in self.received if frame.stream_id == stream]
        if not any("END_STREAM" in frame.flags for frame in found):
            last = self.read(lambda f: f.stream_id == stream and "END_STREAM" in f.flags)
            assert last is not None, self.received
            found = [frame for frame in self.received if frame.stream_id == stream]
        blocks = [dict(self.decoder.decode(f.data)) for f in found if isinstance(f, frames.HeadersFrame)]
        body = b"".join(f.data for f in found if isinstance(f, frames.DataFrame))
        return blocks[0], body, blocks[-1]

    def status(self, stream):
        return int(self.answer(stream)[2]["grpc-status"])

    def ping(self, content=b"pingping"):
        """Whether the server answers a PING."""
        self.send(frames.PingFrame(0, content))
        found = self.read(lambda f: isinstance(f, frames.PingFrame) and "ACK" in f.flags)
        return found is not None and found.opaque_data == content


def answers(port):
    """Whether a server serves a new connection."""
    with Wire(port) as wire:
        wire.call(1)
        return wire.status(1) == 0
