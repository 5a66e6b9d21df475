"""Ways to be hostile by connecting: slowly, silently, for a moment only, and very often.

Each attack is a coroutine that takes a server and a number of connections, and returns what it counted. The
pair that speaks beside it, and what the server holds afterwards, are ``live.attacked``'s to compare.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.fuzz.live import BINARY, TEXT, Attacked, Rude, attacked, frame, request

Counts = Counter[str]
Attack = Callable[[Attacked, int], Awaitable[Counts]]

_DRIP_S = 0.05
_AT_ONCE = 64
PUBLISH = json.dumps(
    {
        "type": "hello",
        "version": 1,
        "role": "publish",
        "audio": {"encoding": "s16", "sample_rate_hz": 16_000, "channels": 1},
    }
).encode()


async def _together(count: int, one: Callable[[int], Awaitable[str]]) -> Counts:
    """What each of so many came to, all at the same time."""
    return Counter(await asyncio.gather(*(one(number) for number in range(count))))


async def _drip(rude: Rude, content: bytes) -> None:
    """Sends a byte now and then until the server has had enough."""
    closed = asyncio.create_task(rude.until_closed())
    for at in range(len(content)):
        await rude.send(content[at : at + 1])
        await asyncio.wait([closed], timeout=_DRIP_S)
        if closed.done():
            break
    await closed


async def silent_sockets(server: Attacked, count: int) -> Counts:
    """Opens TCP and says nothing."""

    rude = [await Rude.open(server.port) for _ in range(count)]
    newcomer = await answer_to_speaker(server, "newcomer")
    await asyncio.gather(*(one.until_closed() for one in rude))
    for one in rude:
        await one.close()
    return Counter({"cut off": count, f"and a newcomer: {newcomer}": 1})


async def answer_to_speaker(server: Attacked, name: str) -> str:
    """What somebody who wants to speak is told: ``welcome``, an error's code, or HTTP's number."""
    rude = await Rude.open(server.port)
    await rude.send(request(name) + frame(TEXT, PUBLISH))
    head = await rude.answer()
    if not head.startswith(b"HTTP/1.1 101"):
        answer = f"refused: {head[9:12].decode('latin-1') or 'closed'}"
    else:
        message = await rude.message()
        told = json.loads(message[1]) if message and message[0] == TEXT else {"type": "closed"}
        answer = str(told.get("code", told["type"]))
    rude.vanish()
    return answer


async def slow_handshakes(server: Attacked, count: int) -> Counts:
    """Sends an opening request byte by byte; every other one is a GET whose headers never end."""

    async def one(number: int) -> str:
        rude = await Rude.open(server.port)
        endless = b"GET / HTTP/1.1\r\n" + b"X-Header: 1\r\n" * 1000
        await _drip(rude, endless if number % 2 else request("slow", "Cookie: " + "x" * 5000))
        await rude.close()
        return "cut off"

    return await _together(count, one)


async def silent_after_handshake(server: Attacked, count: int) -> Counts:
    """Completes the handshake; no hello ever comes."""

    async def one(number: int) -> str:
        rude = await Rude.open(server.port)
        await rude.send(request(f"mute-{number}"))
        head = await rude.answer()
        while (message := await rude.message()) is not None:
            if message[0] == TEXT:
                head = message[1]
        await rude.close()
        told = json.loads(head) if head.startswith(b"{") else {}
        return str(told.get("code", head[:12].decode("latin-1")))

    return await _together(count, one)


async def unfinished_hellos(server: Attacked, count: int) -> Counts:
    """Sends all of a hello of a mebibyte but its last byte."""
    unfinished = frame(TEXT, b" " * (1 << 20))[:-1]

    async def one(number: int) -> str:
        rude = await Rude.open(server.port)
        await rude.send(request(f"big-{number}"))
        await rude.answer()
        await rude.send(unfinished)
        while (message := await rude.message()) is not None:
            if message[0] == TEXT:
                break
        rude.vanish()
        return str(json.loads(message[1])["code"]) if message else "cut off"

    return await _together(count, one)


async def slow_messages(server: Attacked, count: int) -> Counts:
    """Speakers whose audio message comes byte by byte, and who then are gone without a word."""

    async def one(number: int) -> str:
        rude = await Rude.open(server.port)
        await rude.send(request(f"slow-{number}") + frame(TEXT, PUBLISH))
        await rude.answer()
        message = await rude.message()
        drops = frame(BINARY, b"\1" + bytes(7 + 640))
        for at in range(20):
            await rude.send(drops[at : at + 1])
            await asyncio.sleep(_DRIP_S)
        rude.vanish()
        return json.loads(message[1])["type"] if message else "closed"

    return await _together(count, one)


async def unread_files(server: Attacked, count: int) -> Counts:
    """Asks for a file and does not read it."""

    async def one(_: int) -> str:
        rude = await Rude.open(server.port)
        rude.writer.transport.pause_reading()
        await rude.send(b"GET /avatar.glb HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.sleep(20 * _DRIP_S)
        rude.vanish()
        return "left"

    return await _together(count, one)


async def floods(server: Attacked, count: int) -> Counts:
    """Request lines and headers without end, bodies, and bytes that are no HTTP."""
    openings = (
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 10_000,
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000,
        b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + bytes(100_000),
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # TLS to a port without
        bytes(100_000),
    )

    async def one(number: int) -> str:
        rude = await Rude.open(server.port)
        await rude.send(openings[number % len(openings)])
        head = await rude.answer()
        rude.vanish()
        return head[9:12].decode("latin-1") or "closed"

    return await _together(count, one)


STAGES = ("tcp alone", "in the request", "no hello", "welcome")


async def connects(
    server: Attacked, count: int, tick: Callable[[float], None] = lambda _: None
) -> dict[str, Any]:
    """Connects and leaves so often, at one of four stages each, with a reset every other time."""
    answers: Counts = Counter()
    began = told = time.monotonic()
    numbers = iter(range(count))

    async def one(number: int, dice: random.Random) -> str:
        stage = STAGES[number % len(STAGES)]
        if stage == "welcome":
            return await answer_to_speaker(server, f"n-{number}")
        try:
            rude = await Rude.open(server.port)
        except OSError as error:
            return type(error).__name__
        opening, answer = request(f"n-{number}"), stage
        if stage == "in the request":
            await rude.send(opening[: dice.randrange(1, len(opening))])
        elif stage == "no hello":
            await rude.send(opening)
            head = await rude.answer()
            if not head.startswith(b"HTTP/1.1 101"):
                answer = f"refused: {head[9:12].decode('latin-1') or 'closed'}"
        if dice.random() < 0.5:
            rude.vanish()
        else:
            await rude.close()
        return answer

    async def worker(seed: int) -> None:
        nonlocal told
        dice = random.Random(seed)
        for number in numbers:
            answers[await one(number, dice)] += 1
            tick(time.monotonic() - told)
            told = time.monotonic()

    await asyncio.gather(*(worker(seed) for seed in range(_AT_ONCE)))
    took_s = time.monotonic() - began
    refused = sum(
        number for answer, number in answers.items() if answer.startswith(("refused", "at_capacity"))
    )
    return {
        "inputs": count,
        "connects_per_s": round(count / took_s, 1),
        "refused": refused,
        "answers": dict(answers.most_common()),
    }


ATTACKS: dict[str, Attack] = {
    "silent sockets": silent_sockets,
    "slow handshakes": slow_handshakes,
    "no hello": silent_after_handshake,
    "unfinished hellos": unfinished_hellos,
    "slow messages": slow_messages,
    "unread files": unread_files,
    "floods": floods,
}


async def attack(folder: Path, names: tuple[str, ...], count: int, **settings: Any) -> dict[str, Any]:
    """Attacks by name, one after the other, each with so many connections."""
    answers: dict[str, Any] = {}
    async with attacked(folder, **settings) as server:
        for name in names:
            counted = await ATTACKS[name](server, count)
            answers[name] = dict(counted.most_common())
    return {"inputs": count * len(names), "answers": answers, **server.figures}


async def many_connects(
    folder: Path, count: int, tick: Callable[[float], None] = lambda _: None, **settings: Any
) -> dict[str, Any]:
    """The attack of connecting alone, so often."""
    async with attacked(folder, **settings) as server:
        found = await connects(server, count, tick)
    return {**found, **server.figures}
