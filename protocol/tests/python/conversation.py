"""The whole conversation of the zonecast wire protocol with a live broker, from outside of its own code base.

    python conversation.py --connect HOST:PORT --ca ca.pem [--admin HOST:PORT]

Prints `ok NAME` for each check and ends with status 1 at the first that fails. What is expected comes from WIRE.md and
the .proto files alone; what matches is computed here once more, by brute force.

Nothing sleeps. That something does *not* arrive is shown by an event that comes after it: events of one lane arrive in
order, so when a later one is there, an earlier one that is not there will never be.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import math
import random
import re
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from fractions import Fraction
from functools import partial

from google.protobuf import text_format
from google.protobuf.message import Message

import zonecast_client as zc
from zonecast_client import Closed, Connection, ErrorCode, Event, Hello, Place, Refused, Session, Zone, delimited

# Longest that one check may take, in seconds.
CHECK_GUARD = 60.0

Topic = zc.TopicSubscription


class Failed(Exception):
    """A check found what it should not."""


def expect(condition: object, message: str) -> None:
    if not condition:
        raise Failed(message)


def expect_equal(found: object, wanted: object, what: str) -> None:
    expect(found == wanted, f"{what}: wanted {wanted!r}, found {found!r}")


def one_line(message: Message) -> str:
    return text_format.MessageToString(message, as_one_line=True)


def code(name: str) -> int:
    return ErrorCode.Value(f"ERROR_CODE_{name}")


async def expect_refused(awaitable: Awaitable, *names: str) -> Refused:
    """The request or publish is refused with (one of) the codes named, and a sentence for people."""
    try:
        result = await awaitable
    except Refused as refused:
        wanted = " or ".join(names)
        expect(refused.code in [code(name) for name in names], f"wanted a refusal with {wanted}: {refused}")
        expect(refused.message, f"the refusal with {wanted} says nothing to people")
        return refused
    raise Failed(f"wanted a refusal with {' or '.join(names)}, but it was taken: {result!r}")


def expect_close(close: zc.Close, name: str) -> None:
    """The broker closed with this ErrorCode, as an application, and said why."""
    expect(close.application and close.code == code(name), f"wanted a close with {name}: {close}")
    expect(close.reason, f"the close with {name} says nothing to people")


# --------------------------------------------------------------------------------------------------------------------
# The stage: who takes part in a check


class Stage:
    """Opens clients for a check, and sees them off at its end."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.host, self.port = zc.parse_address(options.connect)
        self.ca = options.ca
        self.admin = options.admin
        self.server_name = options.server_name
        # Client ids of this run alone, so that runs against one broker do not replace each other's sessions.
        self.run = f"py-{time.time_ns():x}"
        self.sessions: list[Session] = []
        self.connections: list[Connection] = []

    def client_id(self, name: str) -> str:
        return f"{self.run}-{name}"

    async def join(self, name: str, incarnation: int = 1) -> Session:
        """A client that has said hello and was welcomed."""
        session = await Session.open(
            self.host,
            self.port,
            ca=self.ca,
            server_name=self.server_name,
            client_id=self.client_id(name),
            incarnation=incarnation,
        )
        self.sessions.append(session)
        return session

    async def join_all(self, *names: str) -> list[Session]:
        return list(await asyncio.gather(*(self.join(name) for name in names)))

    async def connect(self, **options: str) -> Connection:
        """A connection on which nothing was said yet."""
        options = {"ca": self.ca, "server_name": self.server_name} | options
        connection = await Connection.open(self.host, self.port, **options)
        self.connections.append(connection)
        return connection

    async def leave(self) -> None:
        """Everyone who is still there says goodbye, and gets code 0 for it. Whatever arrived is to be accounted for."""
        sessions = [session for session in self.sessions if not session.connection.closed.done()]
        for session in sessions:
            expect(session.refusals.empty(), f"{session.client_id} was sent a refusal that no check expected")
            expect(session.zones_received.empty(), f"{session.client_id} was sent zones that no check expected")
            expect_equal(session.gaps, [], f"gaps of {session.client_id}")
        closes = await asyncio.gather(*(session.goodbye() for session in sessions))
        for close in closes:
            expect(close.application and close.code == 0, f"goodbye: wanted a close with 0: {close}")
        self.clear()

    def clear(self) -> None:
        """Drops whatever connection is left."""
        for connection in [*self.connections, *(session.connection for session in self.sessions)]:
            connection.stop_keep_alive()
            connection.close()
        self.sessions.clear()
        self.connections.clear()


CHECKS: list[Callable[[Stage], Awaitable[None]]] = []


def check(function: Callable[[Stage], Awaitable[None]]) -> Callable[[Stage], Awaitable[None]]:
    CHECKS.append(function)
    return function


# --------------------------------------------------------------------------------------------------------------------
# Fences: what has arrived when everything has

FENCE = "test.fence"
FENCE_ID = 999_999


async def listen_to_fences(*sessions: Session) -> None:
    await asyncio.gather(*(session.update_topics([Topic(id=FENCE_ID, pattern=FENCE)]) for session in sessions))


async def deliveries_until_fence(receivers: Iterable[Session], publisher: Session, *lanes: int) -> list[list[bytes]]:
    """All that the publisher's lanes brought to each receiver so far, as bytes of events, lane by lane.

    Receivers must listen to fences and hear nobody else.
    """
    receivers, lanes = list(receivers), lanes or (0,)
    for lane in lanes:
        matched = await publisher.publish(lane=lane, topic=FENCE)
        expect_equal(matched, len(receivers), "sessions that the fence was routed to")

    async def collect(session: Session) -> list[bytes]:
        by_lane: dict[int, list[bytes]] = {lane: [] for lane in lanes}
        open_lanes = set(lanes)
        while open_lanes:
            delivery = await session.receive()
            event = delivery.event
            expect_equal(event.source, publisher.source, "source of a delivery")
            expect(event.lane in open_lanes, f"an event of lane {event.lane} came after its fence")
            if event.topic == FENCE:
                open_lanes.remove(event.lane)
            else:
                by_lane[event.lane].append(delivery.data)
        return [data for lane in lanes for data in by_lane[lane]]

    return list(await asyncio.gather(*(collect(session) for session in receivers)))


async def expect_deliveries(
    wanted: dict[Session, list[Event]], publisher: Session, *lanes: int, what: str = "deliveries"
) -> None:
    """Each receiver gets exactly these events, byte for byte and in this order."""
    found = await deliveries_until_fence(wanted, publisher, *lanes)
    for (session, events), data in zip(wanted.items(), found, strict=True):
        by_lane = [event for lane in lanes or (0,) for event in events if event.lane == lane]
        if data != [event.SerializeToString() for event in by_lane]:
            numbers = [(event.lane, event.lane_seq) for event in map(Event.FromString, data)]
            expect_equal(numbers, [(event.lane, event.lane_seq) for event in by_lane], f"{what} to {session.client_id}")
            raise Failed(f"{what} to {session.client_id}: an event arrived with other bytes than it was published with")


async def send_all(publisher: Session, *events: Event) -> list[int]:
    """Publishes events without waiting in between; returns how many sessions each was routed to."""
    answers = [publisher.send_event(event) for event in events]
    return [await publisher.answer(answer) for answer in answers]


def expect_each_once(found: Iterable[bytes], sent: list[Event], what: str) -> None:
    """Every event arrived, and none twice; in which order and at whom is not looked at."""
    found, wanted = Counter(found), Counter(event.SerializeToString() for event in sent)
    for difference, wrong in ((wanted - found, "missing"), (found - wanted, "too many")):
        numbers = [(event.lane, event.lane_seq) for event in map(Event.FromString, difference)]
        expect(not numbers, f"{what}: {wrong} are (lane, lane_seq) {sorted(numbers)[:10]}, {len(numbers)} in all")


def at(world: str, x: float, y: float, radius: float = 0.0) -> Place:
    return Place(world=world, x=x, y=y, radius=radius)


def zone(zone_id: int, world: str, min_x: float, min_y: float, max_x: float, max_y: float, *kinds: str) -> Zone:
    return Zone(id=zone_id, world=world, min_x=min_x, min_y=min_y, max_x=max_x, max_y=max_y, kinds=kinds)


# --------------------------------------------------------------------------------------------------------------------
# What matches, once more


def touches(area: Zone, place: Place) -> bool:
    """WIRE.md, section 4, in double precision."""
    if area.world != place.world:
        return False
    radius = place.radius
    dx = max(area.min_x - place.x, place.x - area.max_x, 0.0)
    dy = max(area.min_y - place.y, place.y - area.max_y, 0.0)
    if dx > radius or dy > radius:
        return False
    if radius == 0:
        return True  # dx and dy are 0
    square = radius * radius
    if math.isinf(square) or square < sys.float_info.min:
        return (dx / radius) ** 2 + (dy / radius) ** 2 <= 1
    return dx * dx + dy * dy <= square


def touches_exactly(area: Zone, place: Place) -> bool:
    """The same in exact arithmetic: the distance to the nearest point is at most the radius."""
    if area.world != place.world:
        return False
    x, y, radius = Fraction(place.x), Fraction(place.y), Fraction(place.radius)
    near_x = min(max(x, Fraction(area.min_x)), Fraction(area.max_x))
    near_y = min(max(y, Fraction(area.min_y)), Fraction(area.max_y))
    return (x - near_x) ** 2 + (y - near_y) ** 2 <= radius**2


def hears(area: Zone, event: Event) -> bool:
    return (not area.kinds or event.kind in area.kinds) and touches(area, event.place)


def topic_matches(pattern: str, topic: str) -> bool:
    wanted, tokens = pattern.split("."), topic.split(".")
    if wanted[0] in ("*", ">") and topic.startswith("_"):
        return False
    for index, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > index
        if index == len(tokens) or token not in ("*", tokens[index]):
            return False
    return len(wanted) == len(tokens)


# --------------------------------------------------------------------------------------------------------------------
# The documents themselves


@check
async def wire_md_examples(stage: Stage) -> None:
    """Every hex example of WIRE.md is a frame that this client reads, and would write so."""
    text = (zc.PROTOCOL_DIR / "WIRE.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```hex (client|server)\n(.*?)```", text, re.DOTALL)
    expect(len(blocks) > 10, f"only {len(blocks)} examples in WIRE.md")
    for side, block in blocks:
        data = bytes.fromhex("".join(line.split("#")[0] for line in block.splitlines()))
        (message,) = zc.FrameReader().feed(data)
        frame = (zc.ClientFrame if side == "client" else zc.ServerFrame).FromString(message)
        expect(frame.WhichOneof("frame"), f"an example without a member:\n{block}")
        expect_equal(delimited(frame.SerializeToString()), data, f"the example\n{block}")
        if side == "client" and frame.WhichOneof("frame") == "hello":
            source = zc.compute_source(frame.hello.client_id, frame.hello.incarnation)
            expect_equal(source, 0x5AC709BC334F371D, "source of the example's client")


# --------------------------------------------------------------------------------------------------------------------
# Hello


@check
async def hello_and_source(stage: Stage) -> None:
    for incarnation in (1, 2**64 - 1):
        session = await stage.join("hello", incarnation)
        welcome = session.welcome
        expect_equal(welcome.protocol_version, 1, "protocol_version")
        expect(welcome.session_id, "session_id is 0")
        expect(not welcome.resumed, "resumed, but nothing was to be resumed")
        expect(welcome.software, "the broker does not name its software")
        expect_equal(welcome.source, zc.compute_source(session.client_id, incarnation), "source")
        await stage.leave()


@check
async def limits_are_stated(stage: Stage) -> None:
    limits = (await stage.join("limits")).welcome.limits
    for field in limits.DESCRIPTOR.fields:
        expect(getattr(limits, field.name) > 0, f"limits.{field.name} is not stated")
    expect(limits.frame_bytes_max > limits.payload_bytes_max, "the longest payload does not fit into a frame")


@check
async def admin_is_ready(stage: Stage) -> None:
    """Only with --admin; see `main`."""

    def get(path: str) -> bytes:
        with urllib.request.urlopen(f"http://{stage.admin}{path}", timeout=zc.GUARD) as response:
            expect_equal(response.status, 200, path)
            return response.read()

    for path in ("/live", "/ready", "/metrics"):
        body = await asyncio.to_thread(get, path)
        expect(body or path != "/metrics", "no metrics")


# --------------------------------------------------------------------------------------------------------------------
# Zones


@check
async def zones_put_move_remove_replace(stage: Stage) -> None:
    owner, publisher = await stage.join_all("owner", "publisher")
    await listen_to_fences(owner)
    spots = [at("earth", x, 5.0) for x in (5.0, 105.0, 205.0, 305.0)]

    async def expect_held(*wanted: bool) -> None:
        events = [publisher.event(place=spot) for spot in spots]
        expect_equal(await send_all(publisher, *events), [int(held) for held in wanted], "matched")
        heard = [event for event, held in zip(events, wanted, strict=True) if held]
        await expect_deliveries({owner: heard}, publisher)

    await expect_held(False, False, False, False)
    await owner.update_zones([zone(1, "earth", 0, 0, 10, 10), zone(2, "earth", 100, 0, 110, 10)])
    await expect_held(True, True, False, False)
    await owner.update_zones([zone(1, "earth", 200, 0, 210, 10)])  # moves zone 1
    await expect_held(False, True, True, False)
    await owner.update_zones([zone(3, "earth", 0, 0, 10, 10)], remove=[2])
    await expect_held(True, False, True, False)
    await owner.update_zones([zone(7, "earth", 300, 0, 310, 10), zone(1, "earth", 0, 0, 10, 10)], replace_all=True)
    await expect_held(True, False, False, True)
    await owner.update_zones([zone(1, "moon", 0, 0, 10, 10)])  # to another world
    await expect_held(False, False, False, True)
    await owner.update_zones(replace_all=True)
    await expect_held(False, False, False, False)


@check
async def zones_touching_and_missing(stage: Stage) -> None:
    """Edges and corners that are just touched and just missed, in numbers that doubles hold exactly."""
    owner, publisher = await stage.join_all("owner", "publisher")
    await listen_to_fences(owner)
    areas = {
        "square": zone(1, "square", 0, 0, 100, 50),
        "line": zone(1, "line", -8, 16, 8, 16),
        "point": zone(1, "point", 3, 4, 3, 4),
        "tiny": zone(1, "tiny", 0, 0, 0, 0),
        "far": zone(1, "far", -1e12, -1e12, 1e12, -1e12 + 1),
    }
    await owner.update_zones(
        Zone(id=n, world=area.world, min_x=area.min_x, min_y=area.min_y, max_x=area.max_x, max_y=area.max_y)
        for n, area in enumerate(areas.values(), start=1)
    )
    above, below = math.nextafter(100.0, 200.0), math.nextafter(0.0, -1.0)
    cases = [
        (at("square", 50, 25), True),
        (at("square", 100, 50), True),  # the corner itself, by a point
        (at("square", 0, 0), True),
        (at("square", above, 50), False),
        (at("square", below, 0), False),
        (at("square", 0, 25, 0), True),
        (at("square", 103, 54, 5), True),  # the corner, just touched
        (at("square", 103, 54, math.nextafter(5.0, 0.0)), False),
        (at("square", -3, -4, 5), True),
        (at("square", -3, 54, 5), True),
        (at("square", 103, -4, 5), True),
        (at("square", 104, 54, 5), False),  # touches the box around the circle, misses the corner
        (at("square", -5, 25, 5), True),  # the edges, just touched
        (at("square", 50, 55, 5), True),
        (at("square", math.nextafter(-5.0, -6.0), 25, 5), False),
        (at("square", 50, math.nextafter(55.0, 56.0), 5), False),
        (at("square", -99_950, 25, 100_000), True),
        (at("square", 50, 25, 1000), True),
        (at("line", 0, 16), True),
        (at("line", 0, math.nextafter(16.0, 17.0)), False),
        (at("line", 8 + 5, 16 + 12, 13), True),
        (at("line", 8 + 5, 16 + 12, 12.5), False),
        (at("point", 3, 4), True),
        (at("point", 0, 0, 5), True),
        (at("point", 0, 0, 4.5), False),
        # The square of these radii is 0, or not a normal number.
        (at("tiny", 1e-200, 0, 1e-200), True),
        (at("tiny", 1e-200, 1e-200, 1e-200), False),
        (at("tiny", 3e-160, 4e-160, 5.5e-160), True),
        (at("tiny", 3e-160, 4e-160, 4.5e-160), False),
        (at("tiny", 5e-324, 0, 5e-324), True),
        (at("tiny", 5e-324, 0, 0), False),
        (at("tiny", 0, 0, 0), True),
        (at("tiny", -0.0, -0.0, -0.0), True),
        (at("far", 1e12, -1e12 + 1), True),
        (at("far", -1e12, -1e12 + 1_000_001, 1_000_000), True),
        (at("far", -1e12, -1e12 + 1_000_002, 1_000_000), False),
        (at("nowhere", 0, 0, 1000), False),
    ]
    for place, wanted in cases:
        if place.world in areas:
            expect_equal(
                touches(areas[place.world], place), wanted, f"this client's own geometry for {one_line(place)}"
            )
            expect_equal(touches_exactly(areas[place.world], place), wanted, f"exact geometry for {one_line(place)}")
    events = [publisher.event(place=place) for place, _ in cases]
    for (place, wanted), matched in zip(cases, await send_all(publisher, *events), strict=True):
        expect_equal(matched, int(wanted), f"matched of {one_line(place)}")
    heard = [event for event, (_, wanted) in zip(events, cases, strict=True) if wanted]
    await expect_deliveries({owner: heard}, publisher)


class World:
    """What the brute force knows: who holds what. Draws random changes and events."""

    WORLDS = ("alpha", "beta")
    KINDS = ("", "quake", "storm", "chat")

    def __init__(self, owners: list[Session], seed: int) -> None:
        self.random = random.Random(seed)
        self.held: dict[Session, dict[int, Zone]] = {owner: {} for owner in owners}
        self.zones_drawn = 0

    def draw_zone(self, zone_id: int) -> Zone:
        rng = self.random
        self.zones_drawn += 1
        x, y = rng.randint(-60, 60), rng.randint(-60, 60)
        width, height = (rng.choice((0, 1, 5, 10, 20, 40)) for _ in range(2))
        kinds = rng.sample(self.KINDS[1:], rng.choice((0, 0, 1, 2)))
        return zone(zone_id, rng.choice(self.WORLDS), x, y, x + width, y + height, *kinds)

    def draw_event(self) -> dict:
        """Half of the events aim at an edge or corner of a zone, to touch it just so or to miss it by a hair."""
        rng = self.random
        kind = rng.choice(self.KINDS)
        zones = [area for held in self.held.values() for area in held.values()]
        if not zones or rng.random() < 0.5:
            place = at(rng.choice(self.WORLDS), rng.randint(-90, 90), rng.randint(-90, 90), rng.choice((0, 1, 3, 10)))
            return {"place": place, "kind": kind}
        area = rng.choice(zones)
        (a, b, c), scale = rng.choice(((3, 4, 5), (5, 12, 13), (8, 15, 17), (0, 1, 1), (1, 0, 1))), rng.randint(1, 2)
        x = area.max_x + a * scale if rng.random() < 0.5 else area.min_x - a * scale
        y = area.max_y + b * scale if rng.random() < 0.5 else area.min_y - b * scale
        radius = float(c * scale)
        miss = rng.random()
        if miss < 0.25:
            radius = math.nextafter(radius, 0.0)
        elif miss < 0.5:
            x = math.nextafter(x, math.inf if x >= area.max_x else -math.inf)
        return {"place": at(area.world, x, y, radius), "kind": kind}

    async def change(self, owner: Session) -> None:
        """A random change of one owner's zones: some put, some moved, some removed, or all replaced."""
        rng, held = self.random, self.held[owner]
        if rng.random() < 0.2:
            zones = [self.draw_zone(zone_id) for zone_id in rng.sample(range(1, 60), 8)]
            self.held[owner] = {area.id: area for area in zones}
            await owner.update_zones(zones, replace_all=True)
            return
        removed = rng.sample(sorted(held), min(len(held), rng.randint(0, 3)))
        moved = [zone_id for zone_id in held if zone_id not in removed and rng.random() < 0.3]
        fresh = [zone_id for zone_id in rng.sample(range(1, 60), 6) if zone_id not in held]
        zones = [self.draw_zone(zone_id) for zone_id in [*moved, *fresh]]
        for zone_id in removed:
            del held[zone_id]
        held.update({area.id: area for area in zones})
        await owner.update_zones(zones, remove=removed)

    def receivers(self, event: Event) -> list[Session]:
        return [owner for owner, held in self.held.items() if any(hears(area, event) for area in held.values())]


@check
async def zones_against_brute_force(stage: Stage) -> None:
    owners = await stage.join_all("owner-1", "owner-2", "owner-3", "owner-4")
    publisher = await stage.join("publisher")
    await listen_to_fences(*owners)
    world = World(owners, seed=20261123)
    lanes = (0, 1, 2)
    counts: Counter[int] = Counter()
    for _ in range(12):
        await asyncio.gather(*(world.change(owner) for owner in owners))
        events = [publisher.event(lane=world.random.choice(lanes), **world.draw_event()) for _ in range(25)]
        wanted: dict[Session, list[Event]] = {owner: [] for owner in owners}
        for event, matched in zip(events, await send_all(publisher, *events), strict=True):
            receivers = world.receivers(event)
            expect_equal(matched, len(receivers), f"matched of {one_line(event)}")
            counts[matched] += 1
            for owner in receivers:
                wanted[owner].append(event)
        await expect_deliveries(wanted, publisher, *lanes)
    expect(world.zones_drawn >= 250, f"only {world.zones_drawn} zones were drawn")
    for matched in range(len(owners)):
        expect(counts[matched], f"no event matched {matched} sessions: {counts}")


@check
async def kinds_filter(stage: Stage) -> None:
    some, every, publisher = await stage.join_all("some", "every", "publisher")
    await listen_to_fences(some, every)
    await some.update_zones([zone(1, "earth", 0, 0, 10, 10, "quake", "storm"), zone(2, "earth", 5, 5, 9, 9, "fire")])
    await every.update_zones([zone(1, "earth", 0, 0, 10, 10)])
    kinds = ("quake", "", "storm", "fire", "rain", "Quake", "quake.small")
    events = [publisher.event(place=at("earth", 1, 1), kind=kind) for kind in kinds]
    expect_equal(await send_all(publisher, *events), [2, 1, 2, 1, 1, 1, 1], "matched")
    await expect_deliveries({some: [events[0], events[2]], every: events}, publisher)


@check
async def one_delivery_per_session(stage: Stage) -> None:
    """However many zones or patterns of a session match."""
    owner, publisher = await stage.join_all("owner", "publisher")
    await listen_to_fences(owner)
    await owner.update_zones(zone(number, "earth", 0, 0, number, number) for number in range(1, 20))
    await owner.update_topics(Topic(id=n, pattern=p) for n, p in enumerate(("a.b", "a.*", "a.>", "*.b"), start=1))
    events = [publisher.event(place=at("earth", 0, 0, 5)), publisher.event(topic="a.b")]
    expect_equal(await send_all(publisher, *events), [1, 1], "matched")
    await expect_deliveries({owner: events}, publisher)


@check
async def exclude_self(stage: Stage) -> None:
    me, other = await stage.join_all("me", "other")
    await listen_to_fences(me, other)
    for session in (me, other):
        await session.update_zones([zone(1, "earth", 0, 0, 10, 10)])
        await session.listen("a.b")
    hidden = [me.event(place=at("earth", 1, 1)), me.event(topic="a.b")]
    open_ = [me.event(place=at("earth", 1, 1)), me.event(topic="a.b")]
    answers = [me.send_event(event, exclude_self=True) for event in hidden]
    expect_equal([await me.answer(answer) for answer in answers], [1, 1], "matched without the publisher")
    expect_equal(await send_all(me, *open_), [2, 2], "matched with the publisher")
    await expect_deliveries({me: open_, other: [*hidden, *open_]}, me)


@check
async def changes_that_are_refused_change_nothing(stage: Stage) -> None:
    owner, publisher = await stage.join_all("owner", "publisher")
    limits = owner.welcome.limits
    await owner.update_zones([zone(1, "earth", 0, 0, 10, 10)])
    await owner.listen("a.b")

    def good(zone_id: int = 2) -> Zone:
        return zone(zone_id, "earth", 0, 0, 10, 10)

    too_far = limits.coordinate_abs_max * 2
    many_kinds = [f"k{number}" for number in range(limits.kinds_per_zone_max + 1)]
    zones, topics, hand_over = owner.update_zones, owner.update_topics, owner.hand_over_zones
    for request, *names in [
        (partial(zones, [good(), zone(3, "earth", 11, 0, 10, 10)]), "INVALID_GEOMETRY"),  # min > max
        (partial(zones, [good(), zone(3, "earth", 0, 1, 10, 0)]), "INVALID_GEOMETRY"),
        (partial(zones, [good(), zone(3, "earth", math.nan, 0, 10, 10)]), "INVALID_GEOMETRY"),
        (partial(zones, [good(), zone(3, "earth", 0, 0, math.inf, 10)]), "INVALID_GEOMETRY"),
        (partial(zones, [good(), zone(3, "earth", 0, 0, too_far, 10)]), "GEOMETRY_OUT_OF_RANGE"),
        (partial(zones, [good(), zone(3, "", 0, 0, 10, 10)]), "INVALID_NAME"),
        (partial(zones, [good(), zone(3, "ea rth", 0, 0, 10, 10)]), "INVALID_NAME"),
        (partial(zones, [good(), zone(3, "e" * 65, 0, 0, 10, 10)]), "INVALID_NAME"),
        (partial(zones, [good(), zone(3, "earth", 0, 0, 10, 10, "")]), "INVALID_NAME"),
        (partial(zones, [good(), zone(3, "earth", 0, 0, 10, 10, "a:b")]), "INVALID_NAME"),
        (partial(zones, [good(), zone(3, "earth", 0, 0, 10, 10, *many_kinds)]), "TOO_MANY_ZONES"),
        (partial(zones, [good(), good()]), "DUPLICATE_ID"),
        (partial(zones, [good(), good(0)]), "INVALID_ARGUMENT"),
        (partial(zones, [good(), good(2**31)]), "INVALID_ARGUMENT"),
        (partial(zones, [good()], remove=[9]), "UNKNOWN_ZONE"),
        (partial(zones, [good()], remove=[1], replace_all=True), "INVALID_ARGUMENT"),
        (partial(zones, [good(number) for number in range(1, limits.zones_per_session_max + 2)]), "TOO_MANY_ZONES"),
        (partial(hand_over, [9], publisher.client_id), "UNKNOWN_ZONE"),
        (partial(hand_over, [1], stage.client_id("nobody")), "UNKNOWN_CLIENT"),
        (partial(hand_over, [1], owner.client_id), "INVALID_ARGUMENT"),
        (partial(hand_over, [], publisher.client_id), "INVALID_ARGUMENT"),
        (partial(topics, [Topic(id=2, pattern="c"), Topic(id=1, pattern="c")]), "DUPLICATE_ID"),
        (partial(topics, [Topic(id=2, pattern="c"), Topic(id=2, pattern="d")]), "DUPLICATE_ID"),
        (partial(topics, [Topic(id=2, pattern="c"), Topic(id=0, pattern="d")]), "INVALID_ARGUMENT"),
        (partial(topics, [Topic(id=2, pattern="c")], remove=[9]), "UNKNOWN_SUBSCRIPTION"),
        (partial(topics, [Topic(id=2, pattern="c"), Topic(id=3, pattern="")]), "INVALID_NAME"),
        (partial(topics, [Topic(id=2, pattern="c"), Topic(id=3, pattern="a..b")]), "INVALID_NAME"),
        (partial(topics, [Topic(id=2, pattern="c"), Topic(id=3, pattern="a.>.b")]), "INVALID_NAME"),
        (partial(topics, [Topic(id=2, pattern="c"), Topic(id=3, pattern="a*")]), "INVALID_NAME"),
        (partial(topics, [Topic(id=2, pattern="c"), Topic(id=3, pattern=".".join("a" * 17))]), "INVALID_NAME"),
        (partial(topics, [Topic(id=2, pattern="c"), Topic(id=3, pattern="a" * 256)]), "INVALID_NAME"),
        (partial(topics, [Topic(id=2, pattern="c", queue_group="g g")]), "INVALID_NAME"),
        (
            partial(topics, [Topic(id=n, pattern="c") for n in range(2, limits.topics_per_session_max + 2)]),
            "TOO_MANY_TOPICS",
        ),
    ]:
        await expect_refused(request(), *names)
    # Zone 1 and subscription 1 are all that is held. That one removes them says that they are there.
    expect_equal(await publisher.publish(place=at("earth", 5, 5)), 1, "matched")
    await owner.update_zones(remove=[1])
    expect_equal(await publisher.publish(place=at("earth", 5, 5)), 0, "matched")
    await owner.update_topics(remove=[1])
    expect_equal(await send_all(publisher, publisher.event(topic="a.b"), publisher.event(topic="c")), [0, 0], "matched")
    await expect_refused(owner.update_zones(remove=[1]), "UNKNOWN_ZONE")
    await expect_refused(owner.update_topics(remove=[1]), "UNKNOWN_SUBSCRIPTION")


# --------------------------------------------------------------------------------------------------------------------
# Hand-over


@check
async def hand_over(stage: Stage) -> None:
    """Zones go back and forth while events keep coming: each reaches exactly one of the two."""
    one, two, publisher = await stage.join_all("one", "two", "publisher")
    await listen_to_fences(one, two)
    await one.update_zones([zone(1, "earth", 0, 0, 10, 10, "quake"), zone(2, "earth", 100, 0, 110, 10)])
    events: list[Event] = []
    handed_over = asyncio.Event()

    async def keep_publishing() -> None:
        while not handed_over.is_set():
            batch = [publisher.event(place=at("earth", 5, 5, 1), kind="quake") for _ in range(10)]
            events.extend(batch)
            expect_equal(await send_all(publisher, *batch), [1] * 10, "matched during a hand-over")

    async def hand(giver: Session, taker: Session, zone_id: int) -> int:
        """Hands the first zone over; returns its new id."""
        epoch = await giver.hand_over_zones([zone_id], taker.client_id)
        received = await taker.receive_zones()
        expect_equal(received.from_client_id, giver.client_id, "from_client_id")
        expect_equal(received.epoch, epoch, "epoch of ZonesReceived, as of InterestApplied")
        (area,) = received.zones
        expect(area.id >= 2**31, f"zone id {area.id} was given by the broker, but is less than 2147483648")
        expect_equal(area, zone(area.id, "earth", 0, 0, 10, 10, "quake"), "the zone that was received")
        return area.id

    publishing = asyncio.create_task(keep_publishing())
    try:
        zone_id = 1
        for _ in range(5):
            zone_id = await hand(one, two, zone_id)
            zone_id = await hand(two, one, zone_id)
        zone_id = await hand(one, two, zone_id)
    finally:
        handed_over.set()
        await publishing
    heard = await deliveries_until_fence((one, two), publisher)
    expect_each_once([*heard[0], *heard[1]], events, "events that arrived at one of the two")

    # The giver has lost the zone and kept the other one; the taker may do with it as with its own.
    await expect_refused(one.update_zones(remove=[1]), "UNKNOWN_ZONE")
    places = {"kept": at("earth", 105, 5), "handed": at("earth", 5, 5), "moved": at("earth", 205, 5)}
    await two.update_zones([zone(zone_id, "earth", 200, 0, 210, 10)])
    events = [publisher.event(place=places[name], kind="quake") for name in ("kept", "handed", "moved")]
    expect_equal(await send_all(publisher, *events), [1, 0, 1], "matched")
    await expect_deliveries({one: [events[0]], two: [events[2]]}, publisher)
    await two.update_zones(remove=[zone_id])
    expect_equal(await publisher.publish(place=places["moved"]), 0, "matched")


# --------------------------------------------------------------------------------------------------------------------
# Topics


@check
async def topics_and_wildcards(stage: Stage) -> None:
    listeners = await stage.join_all("listener-1", "listener-2", "listener-3", "listener-4")
    publisher = await stage.join("publisher")
    await listen_to_fences(*listeners)
    rng = random.Random(4711)

    def draw(tokens: str, last: str = "") -> str:
        return ".".join([*rng.choices(tokens, k=rng.randint(0, 3)), rng.choice(tokens + last)])

    patterns: dict[Session, dict[int, str]] = {listener: {} for listener in listeners}
    fixed = (">", "*", "*.a", "a.>", "_x", "_x.>", "_x.*", "a.*.b", "*.*", "*.>", "A", "a-b._c")
    numbers = iter(range(1, 1000))
    topics = ["a", "b", "_x", "_x.a", "_x.a.b", "a._x", "A", "a-b._c", ".".join("a" * 16), "a" * 255]
    topics += [draw("abc") for _ in range(60)]
    for index, pattern in enumerate([*fixed, *(draw("abc**", ">") for _ in range(20))]):
        patterns[listeners[index % len(listeners)]][next(numbers)] = pattern

    async def expect_matches() -> None:
        wanted: dict[Session, list[Event]] = {listener: [] for listener in listeners}
        events = [publisher.event(topic=topic) for topic in topics]
        for event, matched in zip(events, await send_all(publisher, *events), strict=True):
            heard_by = [
                listener
                for listener in listeners
                if any(topic_matches(pattern, event.topic) for pattern in patterns[listener].values())
            ]
            expect_equal(matched, len(heard_by), f"matched of topic {event.topic!r}")
            for listener in heard_by:
                wanted[listener].append(event)
        found = await deliveries_of_topics(wanted, publisher)
        for listener, events_found in found.items():
            expect_equal(events_found, [event.topic for event in wanted[listener]], f"topics of {listener.client_id}")

    for listener in listeners:
        await listener.update_topics(Topic(id=n, pattern=p) for n, p in patterns[listener].items())
    await expect_matches()
    for listener in listeners:  # every second one goes
        removed = [number for number in patterns[listener] if rng.random() < 0.5]
        await listener.update_topics(remove=removed)
        for number in removed:
            del patterns[listener][number]
    await expect_matches()


async def deliveries_of_topics(wanted: dict[Session, list[Event]], publisher: Session) -> dict[Session, list[str]]:
    """The topics of what arrived. The fence may match a pattern too, and comes once all the same."""
    found = await deliveries_until_fence(wanted, publisher)
    return {
        listener: [Event.FromString(data).topic for data in events]
        for listener, events in zip(wanted, found, strict=True)
    }


@check
async def queue_groups(stage: Stage) -> None:
    """Of a group's members one gets each event; other groups, and those who are in none, get it too."""
    first, second, third, alone, publisher = await stage.join_all("first", "second", "third", "alone", "publisher")
    await listen_to_fences(first, second, third, alone)
    await first.listen("jobs.*", group="workers")
    await second.listen("jobs.*", group="workers")
    await third.listen("jobs.*", group="audit")
    await alone.listen("jobs.>")
    events = [publisher.event(topic=f"jobs.{number}") for number in range(60)]
    expect_equal(await send_all(publisher, *events), [3] * 60, "matched")
    of_first, of_second, of_third, of_alone = await deliveries_until_fence((first, second, third, alone), publisher)
    expect_each_once([*of_first, *of_second], events, "events that one of the two members got")
    expect_each_once(of_third, events, "events of the group with one member")
    expect_each_once(of_alone, events, "events of the one in no group")
    # The same group name with another pattern is another group.
    await third.update_topics([Topic(id=2, pattern="jobs.>", queue_group="workers")], remove=[1])
    expect_equal(await publisher.publish(topic="jobs.x"), 3, "matched")
    # When a member leaves, the other gets all.
    await second.update_topics(remove=[1])
    await deliveries_until_fence((first, second, third, alone), publisher)
    events = [publisher.event(topic=f"jobs.{number}") for number in range(20)]
    expect_equal(await send_all(publisher, *events), [3] * 20, "matched")
    await expect_deliveries({first: events, second: [], third: events, alone: events}, publisher)


@check
async def request_and_reply(stage: Stage) -> None:
    asker, answerer, stranger = await stage.join_all("asker", "answerer", "stranger")
    inbox = f"_inbox.{asker.source:016x}"
    await asker.listen(f"{inbox}.>")
    await answerer.listen("service.*", group="answerers")
    await stranger.listen(">", "*.*.*")  # must not hear what goes to an inbox
    await listen_to_fences(stranger)
    for number in range(5):
        reply_to = f"{inbox}.{number}"
        answer = asker.send_event(asker.event(topic="service.add", reply_to=reply_to, payload=b"%d" % number))
        expect_equal(await asker.answer(answer), 2, "matched of the request")
        request = (await answerer.receive()).event
        expect_equal(request.reply_to, reply_to, "reply_to")
        expect_equal(await answerer.publish(topic=request.reply_to, payload=request.payload * 2), 1, "matched of reply")
        reply = (await asker.receive()).event
        expect_equal((reply.topic, reply.payload), (reply_to, b"%d" % number * 2), "reply")
        expect_equal(reply.source, answerer.source, "source of the reply")
    (heard,) = await deliveries_until_fence([stranger], asker)
    expect_equal([Event.FromString(data).topic for data in heard], ["service.add"] * 5, "what a stranger heard")
    expect_equal(await asker.publish(topic="nobody.there", reply_to=f"{inbox}.x"), 1, "matched: the stranger alone")
    await stranger.goodbye()
    expect_equal(await asker.publish(topic="nobody.there", reply_to=f"{inbox}.x"), 0, "matched where nobody answers")
    expect_equal(await answerer.publish(topic=f"_inbox.{stranger.source:016x}.x"), 0, "matched of a reply too late")


@check
async def foreign_inbox_is_refused(stage: Stage) -> None:
    me, other = await stage.join_all("me", "other")
    own = f"_inbox.{me.source:016x}"
    for pattern in (
        f"_inbox.{other.source:016x}.>",
        f"_inbox.{other.source:016x}.1",
        "_inbox.>",
        "_inbox.*.>",
        "_inbox.*.1",
        "_inbox",
        own,
    ):
        await expect_refused(me.listen(pattern), "PERMISSION_DENIED")
    await me.listen(f"{own}.>", f"{own}.*", f"{own}.a.b")
    expect_equal(await other.publish(topic=f"{own}.a.b"), 1, "matched")


# --------------------------------------------------------------------------------------------------------------------
# Publishing


@check
async def classes_are_taken(stage: Stage) -> None:
    owner, publisher = await stage.join_all("owner", "publisher")
    await listen_to_fences(owner)
    await owner.update_zones([zone(1, "earth", 0, 0, 10, 10)])
    await owner.listen("a.b")
    key = "ü" * 64  # 128 bytes
    events = []
    for target in ({"place": at("earth", 1, 1)}, {"topic": "a.b"}):
        for promise in ({}, {"class": zc.RELIABLE}, {"class": zc.STATE, "key": key}, {"class": zc.TRANSIENT}):
            events.append(publisher.event(payload=str(len(events)).encode(), **target, **promise))
    for event in events:  # one after the other: what a receiver keeps up with is neither replaced nor dropped
        expect_equal(await publisher.answer(publisher.send_event(event)), 1, "matched")
        expect_equal((await owner.receive()).data, event.SerializeToString(), "the event that arrived")
    await expect_deliveries({owner: []}, publisher)


@check
async def events_pass_unchanged(stage: Stage) -> None:
    """Byte for byte, also what this version does not know, and fields in an order that no library writes."""
    owner, publisher = await stage.join_all("owner", "publisher")
    await owner.listen("a.b")
    known = publisher.event(
        topic="a.b",
        kind="quake",
        reply_to="c.d",
        published_at_us=2**64 - 1,
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        payload=bytes(range(256)),
    ).SerializeToString()
    unknown = zc.varint(1000 << 3 | 2) + delimited(b"of a later version")
    for data in (known, unknown + known + unknown):
        if data != known:  # the number of the lane comes last, so it counts
            data += Event(lane_seq=publisher.event().lane_seq).SerializeToString()
        expect_equal(await publisher.answer(publisher.send_event(data)), 1, "matched")
        expect_equal((await owner.receive()).data, data, "bytes of the event")


@check
async def unknown_fields_are_ignored(stage: Stage) -> None:
    unknown = zc.varint(1000 << 3 | 2) + delimited(b"of a later version")
    connection = await stage.connect()
    for member, wanted in (
        ({"hello": hello(stage.client_id("later"))}, "welcome"),
        ({"ping": zc.Ping(nonce=7)}, "pong"),
    ):
        frame = zc.ClientFrame(**member).SerializeToString()
        connection.send(Connection.CONTROL, delimited(unknown + frame + unknown))
        stream_id, answer = await connection.wait(connection.frames.get(), wanted)
        expect_equal((stream_id, answer.WhichOneof("frame")), (Connection.CONTROL, wanted), "the answer")


@check
async def largest_payload(stage: Stage) -> None:
    owner, publisher = await stage.join_all("owner", "publisher")
    await owner.listen("a.b")
    payload = random.Random(1).randbytes(publisher.welcome.limits.payload_bytes_max)
    expect_equal(await publisher.publish(topic="a.b", payload=payload), 1, "matched")
    expect((await owner.receive()).event.payload == payload, "the payload arrived changed")


@check
async def lanes(stage: Stage) -> None:
    """All lanes at once, in order each; one beyond the last is refused."""
    owner, publisher = await stage.join_all("owner", "publisher")
    await listen_to_fences(owner)
    await owner.listen("a.b")
    count = publisher.welcome.limits.lanes_max
    events = [publisher.event(lane=lane, topic="a.b") for _ in range(5) for lane in range(count)]
    expect_equal(await send_all(publisher, *events), [1] * len(events), "matched")
    await expect_deliveries({owner: events}, publisher, *range(count))
    beyond = Event(source=publisher.source, lane=count, lane_seq=1, topic="a.b")
    await expect_refused(publisher.answer(publisher.send_event(beyond, stream_of_lane=0)), "INVALID_ARGUMENT")


@check
async def acknowledgements(stage: Stage) -> None:
    """None where none was asked for; a refusal in any case; PROCESSED when the receiver says that it has processed."""
    owner, publisher = await stage.join_all("owner", "publisher")
    await listen_to_fences(owner)
    await owner.listen("a.b")
    silent = publisher.event(topic="a.b")
    expect(publisher.send_event(silent, ack=zc.ACK_NONE) is None, "nobody waits")
    spoken = publisher.event(topic="a.b")
    # `Session` fails when the first of the two is acknowledged, for nobody asked, or when the order is wrong.
    expect_equal(await publisher.answer(publisher.send_event(spoken)), 1, "matched")
    publisher.send_event(publisher.event(place=at("earth", math.nan, 0)), ack=zc.ACK_NONE)
    refused = await publisher.receive_refusal()
    expect_equal(zc.code_name(refused.code), "INVALID_GEOMETRY", "code of a refusal that was not asked for")
    await expect_deliveries({owner: [silent, spoken]}, publisher)
    owner.acknowledge(through_seq=2)  # read, and nothing done with it
    awaited = publisher.event(topic="a.b")
    answer = publisher.send_event(awaited, ack=zc.ACK_PROCESSED)
    delivery = await owner.receive()
    expect_equal(delivery.data, awaited.SerializeToString(), "what waits to be processed")
    await publisher.ping()
    expect(not answer.done(), "no answer before it is processed")
    owner.acknowledge(through_seq=delivery.seq, processed=[delivery.seq])
    expect_equal(await publisher.answer(answer), 1, "sessions that have processed it")


@check
async def publishes_that_are_refused_reach_nobody(stage: Stage) -> None:
    owner, publisher, other = await stage.join_all("owner", "publisher", "other")
    limits = publisher.welcome.limits
    await listen_to_fences(owner)
    await owner.update_zones([zone(1, "earth", -10, -10, 10, 10)])
    await owner.listen(">")
    too_far = limits.coordinate_abs_max * 2
    too_long = b"\0" * (limits.payload_bytes_max + 1)
    here = at("earth", 0, 0)
    for fields, *names in [
        ({"place": at("earth", math.nan, 0)}, "INVALID_GEOMETRY"),
        ({"place": at("earth", 0, math.inf)}, "INVALID_GEOMETRY"),
        ({"place": at("earth", 0, 0, math.nan)}, "INVALID_GEOMETRY"),
        ({"place": at("earth", 0, 0, -1)}, "INVALID_GEOMETRY"),
        ({"place": at("earth", 0, 0, limits.radius_max * 2)}, "GEOMETRY_OUT_OF_RANGE"),
        ({"place": at("earth", too_far, 0)}, "GEOMETRY_OUT_OF_RANGE"),
        ({"place": at("", 0, 0)}, "INVALID_NAME"),
        ({"place": at("ea/rth", 0, 0)}, "INVALID_NAME"),
        ({"place": here, "kind": "a b"}, "INVALID_NAME"),
        ({"place": here, "kind": "k" * 65}, "INVALID_NAME"),
        ({"topic": "a.*"}, "INVALID_NAME"),
        ({"topic": "a."}, "INVALID_NAME"),
        ({"topic": "a", "reply_to": "a b"}, "INVALID_NAME"),
        ({}, "INVALID_ARGUMENT"),  # neither place nor topic
        ({"place": here, "class": zc.RELIABLE, "key": "k"}, "INVALID_ARGUMENT"),
        ({"place": here, "class": zc.STATE, "key": "k" * 129}, "INVALID_NAME"),
        ({"place": here, "traceparent": "0" * 65}, "INVALID_ARGUMENT"),
        ({"place": here, "payload": too_long}, "PAYLOAD_TOO_LARGE"),
    ]:
        await expect_refused(publisher.publish(**fields), *names)
    # Whose it is.
    stolen = publisher.event(place=here)
    stolen.source = other.source
    await expect_refused(publisher.answer(publisher.send_event(stolen)), "WRONG_SOURCE")
    # Bytes that are no event have no number either.
    publisher.send_event(b"\xff\xff\xff")
    expect_equal(zc.code_name((await publisher.receive_refusal()).code), "INVALID_ARGUMENT", "code for rubbish")
    await expect_deliveries({owner: []}, publisher)


@check
async def lane_seq_must_rise(stage: Stage) -> None:
    owner, publisher = await stage.join_all("owner", "publisher")
    await listen_to_fences(owner)
    await owner.listen("a.b")

    def numbered(lane_seq: int, lane: int = 0) -> Event:
        return Event(source=publisher.source, lane=lane, lane_seq=lane_seq, topic="a.b")

    async def publish(event: Event) -> int:
        return await publisher.answer(publisher.send_event(event))

    first, second = publisher.event(topic="a.b"), publisher.event(topic="a.b")
    expect_equal(await send_all(publisher, first, second), [1, 1], "matched")
    await expect_refused(publish(numbered(2)), "OUT_OF_SEQUENCE")
    await expect_refused(publish(numbered(1)), "OUT_OF_SEQUENCE")
    # Each lane counts for itself.
    other_lane = publisher.event(lane=1, topic="a.b")
    expect_equal(await publish(other_lane), 1, "matched")
    # A refused event uses its number up.
    refused = publisher.event(place=at("earth", 0, 0, -1))
    await expect_refused(publish(refused), "INVALID_GEOMETRY")
    await expect_refused(publish(numbered(refused.lane_seq)), "OUT_OF_SEQUENCE")
    third = publisher.event(topic="a.b")
    expect_equal(await publish(third), 1, "matched")
    await expect_deliveries({owner: [first, second, other_lane, third]}, publisher, 0, 1)


# --------------------------------------------------------------------------------------------------------------------
# Ping, goodbye


@check
async def ping_and_pong(stage: Stage) -> None:
    session = await stage.join("pinging")
    for nonce in (0, 1, 2**64 - 1):
        expect_equal(await session.ping(nonce), nonce, "nonce")
    # Requests before a Ping are answered before its Pong; `Session` fails otherwise.
    answers = await asyncio.gather(
        session.update_zones([zone(1, "earth", 0, 0, 1, 1)]), session.listen("a.b"), session.ping(3)
    )
    expect(answers[0] < answers[1], f"epochs do not rise: {answers}")


@check
async def goodbye(stage: Stage) -> None:
    leaving, staying = await stage.join_all("leaving", "staying")
    await leaving.update_zones([zone(1, "earth", 0, 0, 10, 10)])
    await leaving.listen("a.b")
    events = [staying.event(place=at("earth", 1, 1)), staying.event(topic="a.b")]
    expect_equal(await send_all(staying, *events), [1, 1], "matched before the goodbye")
    close = await leaving.goodbye()
    expect(close.application and close.code == 0, f"wanted a close with 0: {close}")
    events = [staying.event(place=at("earth", 1, 1)), staying.event(topic="a.b")]
    expect_equal(await send_all(staying, *events), [0, 0], "matched after the goodbye")


# --------------------------------------------------------------------------------------------------------------------
# Ends that nobody wants


def hello(client_id: str, incarnation: int = 1, version: int = 1) -> Hello:
    return Hello(protocol_version=version, client_id=client_id, incarnation=incarnation, software="python")


async def expect_hello_refused(stage: Stage, message: Hello, name: str) -> None:
    connection = await stage.connect()
    connection.send_frame(Connection.CONTROL, hello=message)
    expect_close(await connection.wait_close(), name)
    while not connection.frames.empty():
        _, frame = connection.frames.get_nowait()
        expect(frame.WhichOneof("frame") != "welcome", f"welcomed, and then closed with {name}")


@check
async def wrong_version_is_refused(stage: Stage) -> None:
    for version in (0, 2):
        await expect_hello_refused(stage, hello(stage.client_id("version"), version=version), "UNSUPPORTED_VERSION")


@check
async def invalid_hello_is_refused(stage: Stage) -> None:
    messages = [hello(""), hello("a b"), hello("a" * 65), hello(stage.client_id("none"), incarnation=0)]
    await asyncio.gather(*(expect_hello_refused(stage, message, "INVALID_HELLO") for message in messages))


@contextlib.asynccontextmanager
async def expecting_close(stage: Stage, name: str) -> AsyncIterator[Session]:
    """A session that is to be closed for what the body does."""
    session = await stage.join("rude")
    yield session
    expect_close(await session.connection.wait_close(), name)


@check
async def hello_twice(stage: Stage) -> None:
    async with expecting_close(stage, "UNEXPECTED_FRAME") as session:
        session.connection.send_frame(Connection.CONTROL, hello=hello(session.client_id))


@check
async def frame_before_hello(stage: Stage) -> None:
    connection = await stage.connect()
    connection.send_frame(Connection.CONTROL, ping=zc.Ping(nonce=1))
    expect_close(await connection.wait_close(), "UNEXPECTED_FRAME")


@check
async def frame_on_the_wrong_stream(stage: Stage) -> None:
    async with expecting_close(stage, "UNEXPECTED_FRAME") as session:
        publish = zc.Publish(event=session.event(topic="a.b").SerializeToString())
        session.connection.send_frame(Connection.CONTROL, publish=publish)
    async with expecting_close(stage, "UNEXPECTED_FRAME") as session:
        session.connection.send_frame(session.connection.open_lane_stream(), ping=zc.Ping(nonce=1))


@check
async def malformed_frame(stage: Stage) -> None:
    rubbish = delimited(b"\xff" * 11)
    async with expecting_close(stage, "MALFORMED_FRAME") as session:
        session.connection.send(Connection.CONTROL, rubbish)
    async with expecting_close(stage, "MALFORMED_FRAME") as session:
        session.connection.send(session.connection.open_lane_stream(), rubbish)
    # A stream that ends within a frame.
    async with expecting_close(stage, "MALFORMED_FRAME") as session:
        session.connection.send(session.connection.open_lane_stream(), b"\x44\x2a", end=True)
    async with expecting_close(stage, "MALFORMED_FRAME") as session:
        session.connection.send(Connection.CONTROL, b"\x04\x3a", end=True)


@check
async def unknown_frame(stage: Stage) -> None:
    member = zc.varint(1000 << 3 | 2) + delimited(b"of a later version")
    for frame in (delimited(member), delimited(b"")):
        async with expecting_close(stage, "UNKNOWN_FRAME") as session:
            session.connection.send(Connection.CONTROL, frame)
        async with expecting_close(stage, "UNKNOWN_FRAME") as session:
            session.connection.send(session.connection.open_lane_stream(), frame)


@check
async def length_prefix_too_great(stage: Stage) -> None:
    four_gib = zc.varint(2**32 - 1)
    expect_equal(len(four_gib), 5, "bytes of the prefix")
    async with expecting_close(stage, "FRAME_TOO_LARGE") as session:
        session.connection.send(Connection.CONTROL, four_gib)
    async with expecting_close(stage, "FRAME_TOO_LARGE") as session:
        session.connection.send(session.connection.open_lane_stream(), four_gib)
    async with expecting_close(stage, "FRAME_TOO_LARGE") as session:
        session.connection.send(Connection.CONTROL, zc.varint(session.welcome.limits.frame_bytes_max + 1))
    # Before the hello too.
    connection = await stage.connect()
    connection.send(Connection.CONTROL, four_gib)
    expect_close(await connection.wait_close(), "FRAME_TOO_LARGE")


@check
async def length_prefix_too_long(stage: Stage) -> None:
    async with expecting_close(stage, "MALFORMED_FRAME") as session:
        session.connection.send(Connection.CONTROL, b"\x84\x80\x80\x80\x80\x00")


@check
async def newer_incarnation_replaces(stage: Stage) -> None:
    publisher = await stage.join("publisher")
    old = await stage.join("twice", incarnation=5)
    await old.update_zones([zone(1, "earth", 0, 0, 10, 10)])
    expect_equal(await publisher.publish(place=at("earth", 1, 1)), 1, "matched before")
    for incarnation in (6, 6):  # a greater one, then the same again
        new = await stage.join("twice", incarnation=incarnation)
        expect_equal(new.source, zc.compute_source(new.client_id, incarnation), "source")
        go_away = await old.connection.wait(asyncio.shield(old.go_away), "GoAway")
        expect_equal(zc.code_name(go_away.code), "SESSION_REPLACED", "code of GoAway")
        expect(go_away.message, "GoAway says nothing to people")
        expect_close(await old.connection.wait_close(), "SESSION_REPLACED")
        # The zones went with the old session.
        expect_equal(await publisher.publish(place=at("earth", 1, 1)), 0, "matched after")
        await new.update_zones([zone(1, "earth", 0, 0, 10, 10)])
        expect_equal(await publisher.publish(place=at("earth", 1, 1)), 1, "matched of the new session")
        old = new


@check
async def stale_incarnation_is_refused(stage: Stage) -> None:
    live = await stage.join("stale", incarnation=5)
    await expect_hello_refused(stage, hello(live.client_id, incarnation=4), "STALE_INCARNATION")
    await live.ping()
    # What counts is the live session: when it has left, the smaller one is as good as any.
    await live.goodbye()
    await stage.join("stale", incarnation=4)


@check
async def wrong_alpn_is_refused(stage: Stage) -> None:
    for alpn in ("zonecast/2", "h3"):
        try:
            await stage.connect(alpn=alpn)
        except Closed as closed:
            # Section 20.1 of RFC 9000: 0x100 and the TLS alert.
            close = closed.close
            expect(not close.application and close.code == 0x100 + 120, f"wanted TLS alert 120: {close}")
        else:
            raise Failed(f"ALPN {alpn!r} was accepted")


@check
async def untrusted_certificate_authority(stage: Stage) -> None:
    """The other way round: this client does not accept a broker whose certificate it cannot trace back."""
    import certifi

    try:
        await stage.connect(ca=certifi.where())
    except Closed as closed:
        expect(not closed.close.application, f"wanted an error of the handshake: {closed}")
        expect(0x100 <= closed.close.code < 0x200, f"wanted a TLS alert: {closed}")
    else:
        raise Failed("a certificate of nobody we trust was accepted")


@check
async def hello_timeout(stage: Stage) -> None:
    """Started with the first check, so that its seconds pass meanwhile; see `main`."""
    expect_close(await stage.silent.wait_close(), "HELLO_TIMEOUT")


# --------------------------------------------------------------------------------------------------------------------


async def main(options: argparse.Namespace) -> int:
    logging.getLogger("quic").setLevel(logging.CRITICAL)  # the errors are wanted here, and no news
    stage = Stage(options)
    try:
        # A client that never says hello.
        stage.silent = await Connection.open(stage.host, stage.port, ca=stage.ca, server_name=stage.server_name)
    except (Closed, OSError) as failure:
        print(f"FAILED to connect: {failure}", file=sys.stderr)
        return 1
    started = time.monotonic()
    done = 0
    for function in CHECKS:
        name = function.__name__
        if (options.only and not re.search(options.only, name)) or (function is admin_is_ready and not options.admin):
            continue
        try:
            async with asyncio.timeout(CHECK_GUARD):
                await function(stage)
                await stage.leave()
        except Exception as failure:  # whatever it is, it is what this program is there to tell
            text = str(failure) or "took too long"
            kind = "" if isinstance(failure, Failed) else f"{type(failure).__name__}: "
            print(f"FAILED {name}: {kind}{text}", file=sys.stderr)
            if options.traceback:
                raise
            return 1
        finally:
            stage.clear()
        print(f"ok {name}", flush=True)
        done += 1
    print(f"{done} checks in {time.monotonic() - started:.1f} s", file=sys.stderr)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Holds the whole conversation of WIRE.md with a live zonecast broker.")
    parser.add_argument("--connect", metavar="HOST:PORT", required=True, help="where the broker serves QUIC")
    parser.add_argument("--ca", metavar="FILE", required=True, help="the authority of the broker's certificate, PEM")
    parser.add_argument("--admin", metavar="HOST:PORT", help="the broker's admin server, to be looked at too")
    parser.add_argument("--server-name", metavar="NAME", help="name in the broker's certificate, when not HOST")
    parser.add_argument("--only", metavar="REGEX", help="only the checks whose names match")
    parser.add_argument("--traceback", action="store_true", help="on failure, show where it came from")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(arguments())))
