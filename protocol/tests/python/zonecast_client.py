"""A small asyncio client of the zonecast wire protocol, version 1.

Written from WIRE.md and the .proto files alone, on top of aioquic (QUIC) and protobuf. It has two layers:

* `Connection`: one QUIC connection whose streams carry frames. It can send anything, also what no client may send.
* `Session`: a client that behaves: hello, requests, publishes, deliveries, goodbye.

A wait never sleeps: it ends when the frame or the close that it waits for has come. `GUARD` only bounds it.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import ipaddress
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aioquic.asyncio import QuicConnectionProtocol
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicProtocolVersion
from google.protobuf.message import DecodeError

PROTOCOL_DIR = Path(__file__).resolve().parents[2]


def _generate(names: Iterable[str]) -> list:
    """Compiles the .proto files into a directory that is gone again after the import; returns the modules."""
    source = PROTOCOL_DIR / "proto"
    with tempfile.TemporaryDirectory(prefix="zonecast-proto-") as generated:
        files = sorted(str(file.relative_to(source)) for file in source.rglob("*.proto"))
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={source}", f"--python_out={generated}"]
        subprocess.run([*command, *files], check=True)
        sys.path.insert(0, generated)
        try:
            importlib.invalidate_caches()
            return [importlib.import_module(f"zonecast.v1.{name}_pb2") for name in names]
        finally:
            sys.path.remove(generated)


_error, _event, _frame, _interest = _generate(["error", "event", "frame", "interest"])

ClientFrame, ServerFrame = _frame.ClientFrame, _frame.ServerFrame
Hello, Welcome, Publish = _frame.Hello, _frame.Welcome, _frame.Publish
Ping, Goodbye, DeliveryAck = _frame.Ping, _frame.Goodbye, _frame.DeliveryAck
Event, Place = _event.Event, _event.Place
Zone, TopicSubscription = _interest.Zone, _interest.TopicSubscription
UpdateZones, HandOverZones, UpdateTopics = _interest.UpdateZones, _interest.HandOverZones, _interest.UpdateTopics
ErrorCode = _error.ErrorCode

ACK_NONE, ACK_ROUTED, ACK_PROCESSED = 0, 1, 2
RELIABLE, STATE, TRANSIENT = 1, 2, 3

ALPN = "zonecast/1"
PROTOCOL_VERSION = 1
# What Limits.frame_bytes_max is until Welcome says otherwise.
FRAME_BYTES_MAX = 1_114_112
# Longest a wait may take, in seconds. Only something broken takes so long.
GUARD = 20.0
# The broker closes a connection after 10 s of silence.
KEEP_ALIVE = 3.0

T = TypeVar("T")


def code_name(code: int) -> str:
    """`WRONG_SOURCE` for 52; the number itself when this client does not know it."""
    known = ErrorCode.DESCRIPTOR.values_by_number.get(code)
    return known.name.removeprefix("ERROR_CODE_") if known else str(code)


def compute_source(client_id: str, incarnation: int) -> int:
    """What the broker must give as Welcome.source."""
    digest = hashlib.sha256(client_id.encode() + b"\0" + incarnation.to_bytes(8, "big")).digest()
    return int.from_bytes(digest[:8], "big")


# --------------------------------------------------------------------------------------------------------------------
# Errors


@dataclass(frozen=True)
class Close:
    """How a connection ended. `application` tells an ErrorCode from an error number of QUIC's own."""

    code: int
    application: bool
    reason: str

    def __str__(self) -> str:
        if self.application:
            return f"closed with {code_name(self.code)} ({self.reason!r})"
        return f"closed by QUIC with 0x{self.code:x} ({self.reason!r})"


class Closed(Exception):
    """The connection ended while something was awaited."""

    def __init__(self, close: Close) -> None:
        super().__init__(str(close))
        self.close = close


class Refused(Exception):
    """The broker refused one request or publish; the session goes on."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"refused with {code_name(code)} ({message!r})")
        self.code = code
        self.message = message


class ProtocolViolation(Exception):
    """The broker did what WIRE.md does not permit."""


# --------------------------------------------------------------------------------------------------------------------
# Framing


def varint(number: int) -> bytes:
    """A protobuf varint."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def delimited(message: bytes) -> bytes:
    """A frame: the message behind its length."""
    return varint(len(message)) + message


class FrameReader:
    """Cuts what arrives on one stream into the bytes of messages."""

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterable[bytes]:
        self._buffer += data
        while (header := self._header()) is not None:
            start, length = header
            if length > self.frame_bytes_max:
                raise ProtocolViolation(f"a frame of {length} bytes")
            if len(self._buffer) < start + length:
                return
            message = bytes(self._buffer[start : start + length])
            del self._buffer[: start + length]
            yield message

    def at_boundary(self) -> bool:
        return not self._buffer

    def _header(self) -> tuple[int, int] | None:
        """Length of the prefix and of the message, or None while the prefix is incomplete."""
        length = 0
        for index, byte in enumerate(self._buffer[:5]):
            length |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return index + 1, length
        if len(self._buffer) >= 5:
            raise ProtocolViolation("a length prefix of more than 5 bytes")
        return None


# --------------------------------------------------------------------------------------------------------------------
# Connection


class Connection(QuicConnectionProtocol):
    """One QUIC connection, its streams as sequences of frames. Obeys no rule of the session."""

    CONTROL = 0  # the id of the first bidirectional stream that a client opens

    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic)
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[Close] = loop.create_future()
        self.closed.add_done_callback(lambda future: future.exception())  # it is no fault not to ask
        self.control_ended: asyncio.Future[None] = loop.create_future()
        self.frames: asyncio.Queue[tuple[int, ServerFrame]] = asyncio.Queue()
        self.frame_bytes_max = FRAME_BYTES_MAX
        self.on_frame = lambda stream_id, frame: self.frames.put_nowait((stream_id, frame))
        self._handshake: asyncio.Future[None] = loop.create_future()
        self._readers: dict[int, FrameReader] = {}
        self._keep_alive: asyncio.TimerHandle | None = None

    @classmethod
    async def open(
        cls, host: str, port: int, *, ca: str, server_name: str | None = None, alpn: str = ALPN
    ) -> Connection:
        """Connects; raises `Closed` when the handshake fails."""
        configuration = QuicConfiguration(
            is_client=True,
            alpn_protocols=[alpn],
            server_name=server_name or host,
            supported_versions=[QuicProtocolVersion.VERSION_1],
        )
        configuration.load_verify_locations(cafile=ca)
        loop = asyncio.get_running_loop()
        family, _, _, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM))[0]
        _, connection = await loop.create_datagram_endpoint(
            lambda: cls(QuicConnection(configuration=configuration)),
            local_addr=("::" if family == socket.AF_INET6 else "0.0.0.0", 0),
            family=family,
        )
        connection.connect(address)
        try:
            await connection.wait(connection._handshake, "handshake")
        except TimeoutError:
            connection.close()
            raise
        connection._ping_again()
        return connection

    async def wait(self, awaited: Awaitable[T], what: str) -> T:
        """Waits for something that the broker is to send; raises `Closed` when the connection ends instead."""
        task = asyncio.ensure_future(awaited)
        try:
            await asyncio.wait({task, self.closed}, timeout=GUARD, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if self.closed.done():
                raise Closed(self.closed.result())
            raise TimeoutError(f"{what}: nothing came within {GUARD} s")
        finally:
            task.cancel()

    async def wait_close(self) -> Close:
        """Waits until the connection has ended."""
        return await self.wait(asyncio.shield(self.closed), "close")

    def send(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        """Writes bytes to a stream, whatever they are."""
        if self.closed.done():
            raise Closed(self.closed.result())
        self._quic.send_stream_data(stream_id, data, end_stream=end)
        self._transmit_soon()

    def send_frame(self, stream_id: int, **member: object) -> None:
        """Sends one ClientFrame, as in `send_frame(0, ping=Ping(nonce=1))`."""
        self.send(stream_id, delimited(ClientFrame(**member).SerializeToString()))

    def open_lane_stream(self) -> int:
        """The id of a new unidirectional stream. The broker sees it with its first byte."""
        stream_id = self._quic.get_next_available_stream_id(is_unidirectional=True)
        self.send(stream_id, b"")
        return stream_id

    def stop_keep_alive(self) -> None:
        if self._keep_alive is not None:
            self._keep_alive.cancel()

    # aioquic calls this for all that happens.
    def quic_event_received(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.HandshakeCompleted):
            self._handshake.set_result(None)
        elif isinstance(event, events.StreamDataReceived):
            try:
                self._stream_data(event.stream_id, event.data, event.end_stream)
            except (ProtocolViolation, DecodeError) as violation:  # whoever waits on this connection is to see it
                self._fail(violation)
        elif isinstance(event, events.StreamReset):
            self._fail(ProtocolViolation(f"the broker reset stream {event.stream_id} with {event.error_code}"))
        elif isinstance(event, events.ConnectionTerminated):
            self.stop_keep_alive()
            if not self.closed.done():
                close = Close(event.error_code, event.frame_type is None, event.reason_phrase)
                self.closed.set_result(close)
            self._transport.close()

    def _stream_data(self, stream_id: int, data: bytes, end: bool) -> None:
        if self.closed.done():
            return
        reader = self._readers.get(stream_id)
        if reader is None:
            # The control stream, or the one stream that the broker opens: its first unidirectional one.
            if stream_id not in (self.CONTROL, 3):
                raise ProtocolViolation(f"the broker opened stream {stream_id}")
            reader = self._readers[stream_id] = FrameReader()
        reader.frame_bytes_max = self.frame_bytes_max
        for message in reader.feed(data):
            self.on_frame(stream_id, ServerFrame.FromString(message))
        if end:
            if not reader.at_boundary():
                raise ProtocolViolation(f"the broker ended stream {stream_id} within a frame")
            if stream_id == self.CONTROL and not self.control_ended.done():
                self.control_ended.set_result(None)

    def _fail(self, violation: Exception) -> None:
        if not self.closed.done():
            self.closed.set_exception(violation)
        self.close(0, "the broker violated the protocol")

    def _ping_again(self) -> None:
        """QUIC PINGs, so that the connection is never silent for long."""
        self._quic.send_ping(0)
        self._transmit_soon()
        self._keep_alive = asyncio.get_running_loop().call_later(KEEP_ALIVE, self._ping_again)


# --------------------------------------------------------------------------------------------------------------------
# Session


@dataclass(frozen=True)
class Delivery:
    """One event that arrived: its number, its bytes as its publisher sent them, and the same decoded."""

    seq: int
    data: bytes
    event: Event


class _Lane:
    """A lane that this client publishes on."""

    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id
        self.last_seq = 0
        # What was published and not answered, in order: the number, and who waits. None: no acknowledgement wanted.
        self.unanswered: deque[tuple[int, asyncio.Future | None]] = deque()


class Session:
    """A client that keeps to the rules, and checks that the broker does."""

    def __init__(self, connection: Connection, client_id: str, incarnation: int) -> None:
        loop = asyncio.get_running_loop()
        self.connection = connection
        self.client_id = client_id
        self.incarnation = incarnation
        self.welcome: Welcome = Welcome()
        self.deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
        self.zones_received: asyncio.Queue = asyncio.Queue()
        # Refusals of publishes for which nobody waits: without an acknowledgement, or of an event that was unreadable.
        self.refusals: asyncio.Queue = asyncio.Queue()
        self.gaps: list = []
        self.go_away: asyncio.Future = loop.create_future()
        self.source = 0
        self._welcomed: asyncio.Future[Welcome] = loop.create_future()
        self._last_seq = 0
        self._last_request = 0
        self._last_epoch = 0
        self._requests: deque[tuple[int, asyncio.Future]] = deque()
        self._pings: deque[tuple[int, int, asyncio.Future]] = deque()
        self._lanes: dict[int, _Lane] = {}
        connection.on_frame = self._on_frame

    @classmethod
    async def open(
        cls, host: str, port: int, *, ca: str, client_id: str, incarnation: int = 1, **options: str
    ) -> Session:
        """Connects and says hello; raises `Closed` when the broker does not want it."""
        connection = await Connection.open(host, port, ca=ca, **options)
        session = cls(connection, client_id, incarnation)
        hello = Hello(
            protocol_version=PROTOCOL_VERSION, client_id=client_id, incarnation=incarnation, software="python"
        )
        connection.send_frame(Connection.CONTROL, hello=hello)
        session.welcome = await connection.wait(session._welcomed, "Welcome")
        session.source = session.welcome.source
        connection.frame_bytes_max = session.welcome.limits.frame_bytes_max
        return session

    # Requests

    async def update_zones(
        self, upsert: Iterable[Zone] = (), *, remove: Iterable[int] = (), replace_all: bool = False
    ) -> int:
        """Changes the zones; returns the epoch when the change is in force."""
        return await self._request(update_zones=UpdateZones(upsert=upsert, remove=remove, replace_all=replace_all))

    async def hand_over_zones(self, zone_ids: Iterable[int], to_client_id: str) -> int:
        """Gives zones to another client; returns the epoch when that is in force."""
        return await self._request(hand_over_zones=HandOverZones(zone_ids=zone_ids, to_client_id=to_client_id))

    async def update_topics(self, add: Iterable[TopicSubscription] = (), *, remove: Iterable[int] = ()) -> int:
        """Changes the topic subscriptions; returns the epoch when the change is in force."""
        return await self._request(update_topics=UpdateTopics(add=add, remove=remove))

    async def listen(self, *patterns: str, group: str = "") -> int:
        """Adds subscriptions numbered from 1 upwards; for sessions that ask once."""
        return await self.update_topics(
            TopicSubscription(id=number, pattern=pattern, queue_group=group)
            for number, pattern in enumerate(patterns, start=1)
        )

    async def ping(self, nonce: int = 1) -> int:
        """Asks for a Pong; returns its nonce."""
        pong = asyncio.get_running_loop().create_future()
        self._pings.append((nonce, self._last_request, pong))
        self.connection.send_frame(Connection.CONTROL, ping=Ping(nonce=nonce))
        return await self.connection.wait(pong, "Pong")

    def acknowledge(self, through_seq: int, *, processed: Iterable[int] = ()) -> None:
        """Says which deliveries were received, and which of those that somebody waits for were processed."""
        ack = DeliveryAck(through_seq=through_seq, processed=processed)
        self.connection.send_frame(Connection.CONTROL, delivery_ack=ack)

    async def goodbye(self) -> Close:
        """Leaves in order; returns how the broker closed."""
        for stream_id in {lane.stream_id for lane in self._lanes.values()}:
            self.connection.send(stream_id, b"", end=True)
        self.connection.send_frame(Connection.CONTROL, goodbye=Goodbye())
        self.connection.send(Connection.CONTROL, b"", end=True)
        return await self.connection.wait_close()

    # Publishing

    def event(self, *, lane: int = 0, **fields: object) -> Event:
        """The next event of a lane, as in `event(lane=1, topic="a.b", payload=b"...")`."""
        self._lane(lane).last_seq += 1
        return Event(source=self.source, lane=lane, lane_seq=self._lane(lane).last_seq, **fields)

    def send_event(
        self,
        event: Event | bytes,
        *,
        ack: int = ACK_ROUTED,
        exclude_self: bool = False,
        stream_of_lane: int | None = None,
    ) -> asyncio.Future | None:
        """Sends an event, also one that is not right. With an acknowledgement, returns the future of the answer."""
        data = event if isinstance(event, bytes) else event.SerializeToString()
        try:
            event = Event.FromString(data)
        except DecodeError:
            event = Event()
        lane = self._lane(event.lane, stream_of_lane)
        answer = asyncio.get_running_loop().create_future() if ack and event.lane_seq else None
        if event.lane_seq:  # without a number its refusal cannot be told from others, and goes to `refusals`
            lane.unanswered.append((event.lane_seq, answer))
        publish = Publish(ack=ack, exclude_self=exclude_self, event=data)
        stream_id = lane.stream_id if stream_of_lane is None else self._lane(stream_of_lane).stream_id
        self.connection.send_frame(stream_id, publish=publish)
        return answer

    async def answer(self, future: asyncio.Future) -> int:
        """The number of sessions that an event was routed to; raises `Refused` when it was not taken."""
        return await self.connection.wait(asyncio.shield(future), "PublishAck")

    async def publish(self, *, exclude_self: bool = False, lane: int = 0, **fields: object) -> int:
        """Publishes the next event of a lane; returns the number of sessions that it was routed to."""
        return await self.answer(self.send_event(self.event(lane=lane, **fields), exclude_self=exclude_self))

    # Receiving

    async def receive(self) -> Delivery:
        """The next delivery."""
        return await self._next(self.deliveries, "Deliver")

    async def receive_refusal(self) -> Refused:
        """The next refusal of a publish for which no acknowledgement was wanted, or that could not be read."""
        refusal = await self._next(self.refusals, "PublishRefused")
        return Refused(refusal.code, refusal.message)

    async def receive_zones(self) -> object:
        """The next ZonesReceived."""
        return await self._next(self.zones_received, "ZonesReceived")

    # Below: what the methods above are made of.

    async def _next(self, queue: asyncio.Queue[T], what: str) -> T:
        """What came before a close is still there after it."""
        return queue.get_nowait() if not queue.empty() else await self.connection.wait(queue.get(), what)

    async def _request(self, **member: object) -> int:
        self._last_request += 1
        (message,) = member.values()
        message.request_id = self._last_request
        answer = asyncio.get_running_loop().create_future()
        self._requests.append((self._last_request, answer))
        self.connection.send_frame(Connection.CONTROL, **member)
        return await self.connection.wait(asyncio.shield(answer), "InterestApplied")

    def _lane(self, lane: int, stream_of_lane: int | None = None) -> _Lane:
        if lane not in self._lanes:
            shared = None if stream_of_lane is None else self._lane(stream_of_lane).stream_id
            self._lanes[lane] = _Lane(self.connection.open_lane_stream() if shared is None else shared)
        return self._lanes[lane]

    def _on_frame(self, stream_id: int, frame: ServerFrame) -> None:
        member = frame.WhichOneof("frame")
        if member is None:
            return  # of a later version
        if (member in ("deliver", "gap")) != (stream_id != Connection.CONTROL):
            raise ProtocolViolation(f"{member} on the wrong stream")
        if not self._welcomed.done() and member != "welcome":
            raise ProtocolViolation(f"{member} before welcome")
        getattr(self, f"_on_{member}")(getattr(frame, member))

    def _on_welcome(self, welcome: Welcome) -> None:
        if self._welcomed.done():
            raise ProtocolViolation("a second welcome")
        self._welcomed.set_result(welcome)

    def _on_interest_applied(self, applied: object) -> None:
        self._new_epoch(applied.epoch)
        self._next_request(applied.request_id).set_result(applied.epoch)

    def _on_request_refused(self, refused: object) -> None:
        self._next_request(refused.request_id).set_exception(Refused(refused.code, refused.message))

    def _next_request(self, request_id: int) -> asyncio.Future:
        if not self._requests or self._requests[0][0] != request_id:
            raise ProtocolViolation(f"request {request_id} was answered out of order")
        return self._requests.popleft()[1]

    def _new_epoch(self, epoch: int) -> None:
        if epoch <= self._last_epoch:
            raise ProtocolViolation(f"epoch {epoch} after {self._last_epoch}")
        self._last_epoch = epoch

    def _on_zones_received(self, received: object) -> None:
        self._new_epoch(received.epoch)
        self.zones_received.put_nowait(received)

    def _on_pong(self, pong: object) -> None:
        if not self._pings or self._pings[0][0] != pong.nonce:
            raise ProtocolViolation(f"a pong that nobody asked for: {pong.nonce}")
        nonce, last_request, future = self._pings.popleft()
        if self._requests and self._requests[0][0] <= last_request:
            raise ProtocolViolation("a pong before the answer to an earlier request")
        future.set_result(nonce)

    def _on_publish_ack(self, ack: object) -> None:
        answer = self._next_publish(ack.lane, ack.lane_seq)
        if answer is None:
            raise ProtocolViolation(f"event {ack.lane}/{ack.lane_seq} was acknowledged unasked")
        answer.set_result(ack.matched)

    def _on_publish_refused(self, refused: object) -> None:
        if not refused.lane_seq:  # it could not be read
            self.refusals.put_nowait(refused)
            return
        answer = self._next_publish(refused.lane, refused.lane_seq)
        if answer is None:
            self.refusals.put_nowait(refused)
        else:
            answer.set_exception(Refused(refused.code, refused.message))

    def _next_publish(self, lane: int, lane_seq: int) -> asyncio.Future | None:
        """Who waits for the answer to this event. Everything earlier of the lane must have been answered."""
        unanswered = self._lanes[lane].unanswered if lane in self._lanes else deque()
        while unanswered:
            seq, answer = unanswered.popleft()
            if seq == lane_seq:
                return answer
            if answer is not None:
                raise ProtocolViolation(f"event {lane}/{lane_seq} was answered before {lane}/{seq}")
        raise ProtocolViolation(f"an answer to event {lane}/{lane_seq}, which is not waiting for one")

    def _on_deliver(self, deliver: object) -> None:
        if deliver.seq != self._last_seq + 1:
            raise ProtocolViolation(f"delivery {deliver.seq} after {self._last_seq} without a gap")
        self._last_seq = deliver.seq
        self.deliveries.put_nowait(Delivery(deliver.seq, deliver.event, Event.FromString(deliver.event)))

    def _on_gap(self, gap: object) -> None:
        if gap.from_seq != self._last_seq + 1 or gap.to_seq < gap.from_seq:
            raise ProtocolViolation(f"a gap of {gap.from_seq} to {gap.to_seq} after {self._last_seq}")
        self._last_seq = gap.to_seq
        self.gaps.append(gap)

    def _on_go_away(self, go_away: object) -> None:
        if not self.go_away.done():
            self.go_away.set_result(go_away)


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT`, an IPv6 address in brackets."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        host = str(ipaddress.ip_address(host))
    except ValueError:
        pass  # a name
    return host, int(port)
