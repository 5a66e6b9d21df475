"""A random walk over the protocol: up to a dozen connections at one time do anything in any order.

Each step picks a connection and something that it might do: every message of the protocol, right and wrong,
frames that WebSocket allows and such that it does not, and every way to leave or to go silent. Half of the
connections are careful, and do only what is allowed, in any order, so that the walk comes far. What the
server answers is read (unless the connection has stopped reading) and counted; ``internal`` is a bug.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.fuzz.live import BINARY, CLOSE, PING, PONG, TEXT, Attacked, Rude, attacked, frame, request

_MOST_PEERS = 12
_NAMES = ("a", "b", "c", "healthy", "x" * 64, "x" * 65, "no/name", "%41", "")
_NUMBERS = (0, -1, 1, 2, 15, 33.3, 66.7, 80, 100, 300, 1e4, 1e9, 1e308, 2**63, 2**64, None, "1", True)


Message = dict[str, Any]
Lost = tuple[str, Message]  # a stream's name, and the hello that resumes it


class _Peer:
    """One connection, with a task that reads it; what it may say to resume is added to ``lost``."""

    def __init__(self, rude: Rude, careful: Message | None, answers: Counter[str], lost: list[Lost]) -> None:
        self.rude = rude
        self.careful = careful
        self._lost = lost
        self.is_reading = asyncio.Event()
        self.is_reading.set()
        self.task = asyncio.create_task(self._read(answers))

    async def _read(self, answers: Counter[str]) -> None:
        try:
            await self._listen(answers)
        finally:
            self.rude.vanish()

    async def _listen(self, answers: Counter[str]) -> None:
        head = await self.rude.answer()
        answers[f"HTTP {head.split()[1].decode()}" if head.startswith(b"HTTP") else "closed"] += 1
        while (message := await self.rude.message()) is not None:
            opcode, payload = message
            if opcode == TEXT:
                told = json.loads(payload)
                answers[told["code"] if told["type"] == "error" else told["type"]] += 1
                if told["type"] == "welcome" and self.careful is not None:
                    answers["resumed"] += self.careful.get("resume") == told["session"]
                    self._lost.append((told["stream"], self.careful | {"resume": told["session"]}))
            await self.is_reading.wait()


class Walk:
    """One walk; the same seed takes the same steps.

    Attributes:
        steps: how many of each kind were taken. answers: how often the server said what.
    """

    def __init__(self, port: int, seed: int) -> None:
        self.steps: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self._port = port
        self._dice = random.Random(seed)
        self._peers: list[_Peer] = []
        self._lost: list[Lost] = []

    async def step(self) -> None:
        """Does one thing on one connection."""
        dice = self._dice
        self._peers = [peer for peer in self._peers if not peer.task.done()]
        if not self._peers or (len(self._peers) < _MOST_PEERS and dice.random() < 0.25):
            await self._open()
            return
        peer = dice.choice(self._peers)
        name, kinds = dice.choice(_CAREFUL if peer.careful and dice.random() < 0.97 else _STEPS)
        self.steps[name] += 1
        if name == "stall":
            (peer.is_reading.clear if dice.random() < 0.7 else peer.is_reading.set)()
        elif name == "vanish":
            peer.rude.vanish()
        elif name == "close":
            await peer.rude.close()
        elif name == "half-close":
            peer.rude.half_close()
        else:
            await self._send(peer, kinds(dice))
        if dice.random() < 0.1:
            await asyncio.sleep(dice.random() / 100)

    async def end(self) -> None:
        """All leave."""
        for peer in self._peers:
            peer.is_reading.set()
            peer.rude.vanish()
            peer.task.cancel()
        await asyncio.gather(*(peer.task for peer in self._peers), return_exceptions=True)

    async def _open(self) -> None:
        dice = self._dice
        self.steps["open"] += 1
        name, careful = dice.choice("abc"), careful_hello(dice) if dice.random() < 0.5 else None
        if careful and self._lost and dice.random() < 0.5:
            name, careful = dice.choice(self._lost[-4:])
        peer = _Peer(await Rude.open(self._port), careful, self.answers, self._lost)
        self._peers.append(peer)
        if careful:
            await self._send(peer, request(name) + _text(careful))
            return
        opening = request(
            dice.choice(_NAMES) if dice.random() < 0.3 else dice.choice("abc"),
            *dice.choice(_HEADERS),
            protocol=dice.choice(("diffspeaker.v1", "diffspeaker.v1", None, "diffspeaker.v9", "")),
        )
        match dice.randrange(12):
            case 0:
                opening = opening[: dice.randrange(len(opening))]
            case 1:
                opening = dice.randbytes(dice.randrange(1, 300))
            case 2:
                opening = opening.replace(b"GET", dice.choice((b"POST", b"GET ", b"get", b"\0")))
            case 3:
                opening += hello(dice)  # at once, before the answer
        await self._send(peer, opening)
        if dice.random() < 0.8:
            await self._send(peer, hello(dice))

    async def _send(self, peer: _Peer, content: bytes) -> None:
        # Who is not read any more by the server is left alone with what it wants to say.
        try:
            await asyncio.wait_for(peer.rude.send(content), 0.5)
        except TimeoutError:
            peer.rude.vanish()


# ---- what may be sent ------------------------------------------------------------------------------------

_HEADERS: tuple[tuple[str, ...], ...] = (
    (),
    (),
    ("Sec-WebSocket-Extensions: permessage-deflate",),
    ("Origin: http://[",),
    ("Origin: https://evil.example", "Origin: null"),
    ("Upgrade: websocket",),
    ("Sec-WebSocket-Version: 99",),
    ("Content-Length: 10",),
    ("Transfer-Encoding: chunked",),
    ("Cookie: " + "x" * 9000,),
    tuple(f"X-{number}: 1" for number in range(200)),
)


def _text(message: Any) -> bytes:
    return frame(TEXT, json.dumps(message).encode())


def hello(dice: random.Random) -> bytes:
    """A hello, right for the most part."""
    message: dict[str, Any] = {"type": "hello", "version": 1}
    message["role"] = dice.choice(("publish", "watch", "converse"))
    message["audio"] = {"encoding": dice.choice(("s16", "f32")), "sample_rate_hz": 16_000, "channels": 1}
    message["audio"]["channels"] = dice.choice((1, 2))
    if dice.random() < 0.5:
        message["audio"]["sample_rate_hz"] = dice.choice((7999, 8000, 44_100, 48_000, 192_000, 192_001))
    choices: dict[str, Any] = {
        "output": {"kind": dice.choice(("coefficients", "vertices")), "dtype": dice.choice(("f16", "i16"))},
        "paced": True,
        "audio_passthrough": True,
        "resume": dice.choice(("", "0" * 16)),
        "style": {"cheerful": 1, "tense": 0.5},
        "token": "x",
    }
    for name, value in choices.items():
        if dice.random() < 0.3:
            message[name] = value
    for name in ("lookahead_ms", "hop_ms", "seed", "version", "style", "audio", "role", "colour"):
        if dice.random() < 0.05:
            message[name] = dice.choice(_NUMBERS)
    return _text(message)


def careful_hello(dice: random.Random) -> Message:
    """A right hello, of any kind."""
    message: dict[str, Any] = {
        "type": "hello",
        "version": 1,
        "role": dice.choice(("publish", "watch", "converse")),
    }
    audio = {"encoding": dice.choice(("s16", "f32")), "sample_rate_hz": dice.choice((8000, 16_000, 48_000))}
    message["audio"] = audio | {"channels": dice.choice((1, 2))}
    if dice.random() < 0.5:
        message["output"] = {"kind": dice.choice(("coefficients", "vertices"))}
        message |= {"paced": dice.random() < 0.5, "audio_passthrough": dice.random() < 0.5}
        message |= {"hop_ms": dice.choice((33.3, 66.7, 100)), "lookahead_ms": 80, "style": {"tense": 1}}
    return message


def _whole_audio(dice: random.Random) -> bytes:
    """Whole samples of every format."""
    return frame(BINARY, b"\1" + bytes(7) + bytes(8 * dice.choice((0, 1, 80, 400, 4000, 20_000))))


def _audio(dice: random.Random) -> bytes:
    size = dice.choice((0, 1, 2, 4, 7, 8, 640, 3200, 32_000, 64_000)) + dice.choice((0, 0, 0, 0, 1, 3))
    payload = bytes(size) if dice.random() < 0.9 else dice.randbytes(size)
    return frame(BINARY, b"\1" + bytes(7) + payload)


def _wrong_binary(dice: random.Random) -> bytes:
    return frame(BINARY, dice.choice((b"", b"\1", b"\2" + bytes(39), dice.randbytes(20), bytes(1 << 20))))


def _style(dice: random.Random) -> bytes:
    return _text({"type": "style", "style": {dice.choice(("tense", "neutral", "x")): dice.choice(_NUMBERS)}})


def _garbage(dice: random.Random) -> bytes:
    texts = (b"", b"{", b"[]", b'{"type":1}', b"\xff\xfe", b"null", b"[" * 5000, b'{"type":"welcome"}')
    return frame(TEXT, dice.choice(texts))


def _control(dice: random.Random) -> bytes:
    return frame(dice.choice((PING, PONG)), dice.randbytes(dice.choice((0, 4, 125, 126, 300))))


def _closing(dice: random.Random) -> bytes:
    code = dice.choice((1000, 1001, 1002, 1005, 1006, 1015, 3000, 4999, 5000, 0, 65_535))
    return frame(CLOSE, dice.choice((b"", b"\3", code.to_bytes(2, "big"), code.to_bytes(2, "big") + b"\xff")))


def _fragments(dice: random.Random) -> bytes:
    text = json.dumps({"type": "clock", "client_time_s": 1}).encode()
    parts = [
        frame(TEXT, text[:9], is_last=False),
        frame(dice.choice((0, 0, 0, PING, TEXT)), text[9:20], is_last=dice.random() < 0.2),
        frame(0, text[20:]),
    ]
    return b"".join(parts[dice.choice((0, 0, 0, 1, 2)) :])


def _broken_frame(dice: random.Random) -> bytes:
    return dice.choice(
        (
            frame(TEXT, b"{}", is_masked=False),
            frame(TEXT, b"{}", reserved=dice.randrange(1, 8)),
            frame(dice.choice((3, 7, 11, 15)), b"x"),
            frame(
                BINARY,
                bytes(100),
                claims=dice.choice((1 << 20, (1 << 20) + 1, 1 << 31, (1 << 63) - 1, 1 << 63)),
            ),
            frame(PING, b"x", is_last=False),
            frame(BINARY, bytes(64), claims=90)[: dice.randrange(1, 60)],
            dice.randbytes(dice.randrange(1, 50)),
        )
    )


_STEPS: tuple[tuple[str, Callable[[random.Random], bytes]], ...] = (
    ("hello", hello),
    *[("audio", _audio)] * 6,
    ("wrong binary", _wrong_binary),
    ("style", _style),
    ("interrupt", lambda _: _text({"type": "interrupt"})),
    ("end", lambda _: _text({"type": "end"})),
    ("clock", lambda dice: _text({"type": "clock", "client_time_s": dice.choice(_NUMBERS)})),
    ("garbage", _garbage),
    ("control frame", _control),
    ("close frame", _closing),
    ("fragments", _fragments),
    ("broken frame", _broken_frame),
    *((name, lambda _: b"") for name in ("stall", "vanish", "close", "half-close")),
)

_CAREFUL: tuple[tuple[str, Callable[[random.Random], bytes]], ...] = (
    *[("audio", _whole_audio)] * 12,
    ("style", lambda dice: _text({"type": "style", "style": {dice.choice(("tense", "neutral")): 1}})),
    *[("interrupt", lambda _: _text({"type": "interrupt"}))] * 2,
    ("end", lambda _: _text({"type": "end"})),
    ("clock", lambda _: _text({"type": "clock", "client_time_s": 1})),
    ("control frame", lambda dice: frame(dice.choice((PING, PONG)), b"x")),
    ("stall", lambda _: b""),
    ("vanish", lambda _: b""),
)


async def walk(
    folder: Path,
    *,
    seed: int,
    seconds: float = 0.0,
    steps: int = 0,
    settles_s: float = 40.0,
    plants: tuple[str, ...] = (),
    tick: Callable[[float], None] = lambda _: None,
) -> dict[str, Any]:
    """Walks for so long, or so many steps, with a server of its own; raises ``AssertionError`` for a bug."""
    async with attacked(folder, plants=plants, settles_s=settles_s, max_sessions=6, resume_s=1.0) as server:
        found = await _walk(server, seed, seconds, steps, tick)
    return {**found, **server.figures}


async def _walk(
    server: Attacked, seed: int, seconds: float, steps: int, tick: Callable[[float], None]
) -> dict[str, Any]:
    found = Walk(server.port, seed)
    until, told = time.monotonic() + seconds, time.monotonic()
    try:
        while time.monotonic() < until or found.steps.total() < steps:
            await found.step()
            now = time.monotonic()
            if now - told > 0.2:
                tick(now - told)
                told = now
    finally:
        await found.end()
    assert not found.answers["internal"], f"the server said internal: {found.answers}"
    return {
        "seed": seed,
        "inputs": found.steps.total(),
        "steps": dict(found.steps.most_common()),
        "answers": dict(found.answers.most_common()),
    }
