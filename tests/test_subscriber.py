"""One client's end of a stream: what is written at once, what waits, and that the order is kept."""

from __future__ import annotations

import asyncio

from websockets.frames import Frame, Opcode

from streamer.contract import wire
from streamer.contract.errors import FaceError
from streamer.core.outbox import Outbox
from streamer.server.metrics import Metrics
from streamer.server.subscriber import Media, Subscriber, show_all

CLOCK = wire.ClockReply(1.0, 2.0)


class Socket:
    """Takes whole frames while it has room."""

    def __init__(self) -> None:
        self.has_room = True
        self.sent: list[bytes] = []

    def write(self, framed: bytes) -> bool:
        if self.has_room:
            self.sent.append(framed)
        return self.has_room


def subscriber(socket: Socket, messages: int = 8) -> Subscriber:
    return Subscriber(Outbox(messages, 1 << 20), wire.OutputFormat(), False, socket.write, Metrics())


async def at_rest(one: Subscriber) -> asyncio.Task[bytes | str | None]:
    """Its task, once it waits."""
    task = asyncio.create_task(one.next())
    await asyncio.sleep(0)
    return task


def media(number: int, frames: int = 2) -> Media:
    return Media(bytes([number]) * 4, frames)


def test_a_media_message_is_written_as_the_frame_that_websocket_demands() -> None:
    for size, head in (
        (4, b"\x82\x04"),
        (200, b"\x82\x7e\x00\xc8"),
        (70_000, b"\x82\x7f" + bytes(5) + b"\x01\x11\x70"),
    ):
        written = Media(bytes(size), 1).written
        assert written == head + bytes(size)


def test_before_its_task_waits_everything_waits_and_in_order() -> None:
    async def scenario() -> None:
        one = subscriber(socket := Socket())
        one.tell(CLOCK)
        one.show(media(1))
        assert socket.sent == []
        assert [await one.next() for _ in range(2)] == [wire.encode_message(CLOCK), bytes([1]) * 4]

    asyncio.run(scenario())


def test_who_is_at_rest_is_written_to_at_once_and_its_task_sleeps_on() -> None:
    async def scenario() -> None:
        one = subscriber(socket := Socket())
        task = await at_rest(one)
        one.show(media(1))
        one.tell(CLOCK)
        text = Frame(Opcode.TEXT, wire.encode_message(CLOCK).encode()).serialize(mask=False)
        assert socket.sent == [media(1).written, text]
        await asyncio.sleep(0)
        assert not task.done()
        one.finish()
        assert await task is None

    asyncio.run(scenario())


def test_behind_what_waits_nothing_is_written_until_the_task_has_taken_it_and_rests_again() -> None:
    async def scenario() -> None:
        one = subscriber(socket := Socket())
        task = await at_rest(one)
        socket.has_room = False
        one.show(media(1))
        socket.has_room = True
        one.show(media(2))
        one.tell(CLOCK)
        assert socket.sent == [], "it would overtake"
        assert await task == bytes([1]) * 4
        one.show(media(3))
        assert socket.sent == [], "the task is sending"
        assert [await one.next() for _ in range(3)] == [
            bytes([2]) * 4,
            wire.encode_message(CLOCK),
            bytes([3]) * 4,
        ]
        task = await at_rest(one)
        one.show(media(4))
        assert socket.sent == [media(4).written]
        task.cancel()

    asyncio.run(scenario())


def test_a_socket_without_room_costs_the_oldest_frames_which_are_counted() -> None:
    async def scenario() -> None:
        one = subscriber(socket := Socket(), messages=3)
        task = await at_rest(one)
        socket.has_room = False
        for number in range(5):
            one.show(media(number))
        assert one.dropped_frames == 4
        assert await task == bytes([2]) * 4

    asyncio.run(scenario())


def test_after_the_end_nothing_is_added_and_the_error_comes_last() -> None:
    async def scenario() -> None:
        one = subscriber(socket := Socket())
        one.show(media(1))
        one.finish(FaceError("shutting_down", "The server is stopping."))
        one.show(media(2))
        one.tell(CLOCK)
        assert await one.next() == bytes([1]) * 4
        told = wire.decode_server_message(str(await one.next()))
        assert isinstance(told, wire.ErrorMessage) and told.code == "shutting_down"
        assert await one.next() is None and socket.sent == []

    asyncio.run(scenario())


def test_a_message_for_many_reaches_those_who_were_there_and_lets_others_run() -> None:
    async def scenario() -> None:
        sockets = [Socket() for _ in range(600)]
        crowd = [subscriber(socket) for socket in sockets]
        tasks = [await at_rest(one) for one in crowd]
        others = 0

        async def other() -> None:
            nonlocal others
            while True:
                others += 1
                crowd.append(subscriber(Socket()))  # who comes meanwhile
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await show_all(media(1), crowd)
        task.cancel()
        assert all(socket.sent == [media(1).written] for socket in sockets)
        assert others == 2, "after each 256"
        for one in tasks:
            one.cancel()

    asyncio.run(scenario())
