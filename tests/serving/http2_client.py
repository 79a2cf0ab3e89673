"""A gRPC client on the `h2` package: an HTTP/2 peer that keeps its own account of windows and of the protocol."""

import socket
import time

import h2.config
import h2.connection
import h2.events
import h2.settings

from tests.serving.http2_wire import PATH

Codes = h2.settings.SettingCodes


class Client:
    """A connection; it gives the server no more than it is told to."""

    def __init__(self, port, *, window=None, frame_bytes=None, connection_window=None):
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.connection = h2.connection.H2Connection(config)
        settings = {}
        if window is not None:
            settings[Codes.INITIAL_WINDOW_SIZE] = window
        if frame_bytes is not None:
            settings[Codes.MAX_FRAME_SIZE] = frame_bytes
        self.connection.initiate_connection()
        if settings:
            self.connection.update_settings(settings)
        if connection_window:
            self.connection.increment_flow_control_window(connection_window)
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(10)
        self.bodies, self.heads, self.ended, self.events = {}, {}, {}, []
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def flush(self):
        self.socket.sendall(self.connection.data_to_send())

    def open(self, path="ModelInfer", extra=(), end=False):
        stream = self.connection.get_next_available_stream_id()
        head = [(":method", "POST"), (":scheme", "http"), (":path", PATH + path), (":authority", "t")]
        head += [("te", "trailers"), ("content-type", "application/grpc"), *extra]
        self.connection.send_headers(stream, head, end_stream=end)
        self.bodies[stream] = bytearray()
        self.flush()
        return stream

    def send(self, stream, body, *, end=True, pad=None):
        """Send as the server's windows allow."""
        view, at = memoryview(body), 0
        while at < len(view):
            room = min(
                self.connection.local_flow_control_window(stream), self.connection.max_outbound_frame_size
            )
            room -= 0 if pad is None else pad + 1
            if room <= 0:
                self.read_once()
                continue
            part = view[at : at + room]
            at += len(part)
            self.connection.send_data(stream, part.tobytes(), pad_length=pad)
            self.flush()
        if end:
            self.connection.end_stream(stream)
            self.flush()

    def read_once(self, grant=True):
        """Take what is there and, if wanted, let the server send as much again."""
        data = self.socket.recv(1 << 18)
        for event in self.connection.receive_data(data) if data else [h2.events.ConnectionTerminated()]:
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] += event.data
                if grant and event.flow_controlled_length:
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                self.heads[event.stream_id] = dict(event.headers)
            elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                self.ended[event.stream_id] = event
        self.flush()
        return data

    def answer(self, stream, seconds=20):
        """(body without its prefix, trailers) of a call."""
        until = time.monotonic() + seconds
        while stream not in self.ended and time.monotonic() < until:
            assert self.read_once(), "the server hung up"
        return bytes(self.bodies[stream][5:]), self.heads[stream]

    def call(self, body, **arguments):
        stream = self.open(**arguments)
        self.send(stream, body)
        return self.answer(stream)
