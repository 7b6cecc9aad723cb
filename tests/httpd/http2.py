"""A client of HTTP/2 in cleartext, as much as the tests need: several requests at once on one connection."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions


@dataclass
class Stream:
    """What came on one stream; ``ended``: its sender said that it is whole."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    reset: bool = False


def ask(port: int, *requests: dict[str, str]) -> list[Stream]:
    """Send requests and return what comes until all streams are done.

    Each is a dict of its headers with ``path`` and, unless that is GET, ``method``. A connection that ends before
    leaves them as they are.
    """
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    streams: dict[int, Stream] = {}
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        for request in requests:
            number = connection.get_next_available_stream_id()
            streams[number] = Stream()
            more = [(name, value) for name, value in request.items() if name not in {"path", "method"}]
            pseudo = [(":method", request.get("method", "GET")), (":scheme", "http"), (":authority", "x")]
            pseudo.append((":path", request["path"]))
            connection.send_headers(number, [*pseudo, *more], end_stream=True)
        while any(not (stream.ended or stream.reset) for stream in streams.values()):
            try:
                client.sendall(connection.data_to_send())
                data = client.recv(1 << 16)
            except ConnectionError:
                break
            if not data:
                break
            try:
                events = connection.receive_data(data)
            except h2.exceptions.InvalidBodyLengthError:
                break  # a body that is not as long as its header says
            for event in events:
                _note(connection, streams, event)
    return list(streams.values())


def _note(connection: h2.connection.H2Connection, streams: dict[int, Stream], event: h2.events.Event) -> None:
    stream = streams.get(getattr(event, "stream_id", None) or 0, Stream())
    if isinstance(event, h2.events.ResponseReceived):
        stream.headers = {str(name): str(value) for name, value in event.headers or []}
        stream.status = int(stream.headers[":status"])
    elif isinstance(event, h2.events.DataReceived):
        stream.body += event.data or b""
        connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
    elif isinstance(event, h2.events.StreamEnded):
        stream.ended = True
    elif isinstance(event, h2.events.StreamReset):
        stream.reset = True
