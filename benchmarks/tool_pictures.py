"""``python -m benchmarks.tool_pictures``: draws what each tool receives while the sample is spoken.

A real server, the page's sample in real time, and the three bridges over UDP, each read by a decoder that is
not ours (python-osc, PyLiveLinkFace; iFacialMocap's text as its page states it); where Mono is installed, the
Unity component's weights too. For docs/voice-agents.md, a stream whose speech comes in one burst. They are
docs/images/{vmc,livelink,ifacialmocap,unity,voice-agents}.png; the faces are drawn from what arrived.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import soundfile
from diffspeaker_client import AudioFormat, Frames, connect
from diffspeaker_client.channels import ARKIT

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pylivelinkface import FaceBlendShape, PyLiveLinkFace
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_message import OscMessage

from benchmarks.load import serving
from benchmarks.provenance import ROOT
from streamer.engine.render.avatar import read_avatar
from streamer.engine.render.renderer import LOWER_FACE, Renderer

IMAGES = ROOT / "docs" / "images"
SAMPLE = ROOT / "clients" / "web" / "sample.wav"
AVATAR = ROOT / "streamer" / "bundles" / "default" / "avatar.glb"
UNITY = ROOT / "clients" / "unity"
COLOURS = ("#1f6fb4", "#d1602b", "#2f8f5b", "#8a4fa8", "#b8860b")
CURVES = ("jawOpen", "mouthClose", "mouthPucker", "mouthFunnel", "eyeBlinkLeft")
FACES = 7
LIVELINK = {shape.name[0].lower() + shape.name[1:]: shape for shape in FaceBlendShape}
SETTLE_S = 4.0  # for the bridges and Mono to be there before the voice is
CHUNK = 320  # samples: 20 ms

Named = dict[str, float]
F32 = npt.NDArray[np.float32]


@dataclass
class Seen:
    """What a tool was told: seconds of this machine's clock, and named values."""

    at_s: list[float]
    values: list[Named]

    def curve(self, name: str) -> list[float]:
        """One name's values, 0 where it was not told."""
        return [values.get(name, 0.0) for values in self.values]


# ---- receivers ----


def read_vmc(datagram: bytes) -> Named:
    """The blend shapes of a VMC bundle, 0 to 1."""
    contents = [OscBundle(datagram)] if OscBundle.dgram_is_bundle(datagram) else [OscMessage(datagram)]
    values: Named = {}
    for content in contents:
        for message in content if isinstance(content, OscBundle) else (content,):
            if isinstance(message, OscMessage) and message.address == "/VMC/Ext/Blend/Val":
                values[message.params[0]] = float(message.params[1])
    return values


def read_livelink(datagram: bytes) -> Named:
    """ARKit's values of a Live Link Face packet, 0 to 1."""
    found, face = PyLiveLinkFace.decode(datagram)
    return {name: face.get_blendshape(shape) for name, shape in LIVELINK.items()} if found else {}


def read_text(datagram: bytes) -> Named:
    """iFacialMocap's ``name&percent|``, 0 to 100, under ARKit's names."""
    shapes = [part.split("&") for part in datagram.decode("ascii").split("|") if "&" in part]
    words = {name.replace("_L", "Left").replace("_R", "Right"): float(value) for name, value in shapes}
    return words


class Receiver(asyncio.DatagramProtocol):
    """Reads datagrams as they come."""

    def __init__(self, read: Callable[[bytes], Named]) -> None:
        self.read = read
        self.seen = Seen([], [])

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Keeps what a datagram says."""
        if values := self.read(data):
            self.seen.at_s.append(time.time())
            self.seen.values.append(values)


RECEIVERS = {"vmc": read_vmc, "livelink": read_livelink, "ifacialmocap": read_text}


# ---- the scenes ----


async def client(*arguments: str) -> asyncio.subprocess.Process:
    """``diffspeaker-client`` with these words, quiet."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "diffspeaker_client", *arguments), stderr=asyncio.subprocess.DEVNULL
    )


async def speak_to_all(folder: Path) -> tuple[float, dict[str, Seen]]:
    """When the voice began, and what each tool was told from then on."""
    loop = asyncio.get_running_loop()
    recorder = compile_recorder(folder)
    async with serving([], "warning") as server:
        address = server.url.rsplit("/v1/", 1)[0]
        receivers: dict[str, Receiver] = {}
        running = []
        for name, read in RECEIVERS.items():
            transport, protocol = await loop.create_datagram_endpoint(
                lambda read=read: Receiver(read), local_addr=("127.0.0.1", 0)
            )
            receivers[name] = protocol
            port = transport.get_extra_info("sockname")[1]
            to = ("--to", f"127.0.0.1:{port}", "--fps", "60")
            running.append(await client("bridge", name, "--stream", "me", "--server", address, *to))
        log = folder / "unity.txt"
        seconds = f"{SETTLE_S + soundfile.info(SAMPLE).duration + 1:.1f}"
        if recorder:
            words = ("mono", str(recorder), address, "me", seconds, ",".join(ARKIT))
            with log.open("wb") as out:
                running.append(await asyncio.create_subprocess_exec(*words, cwd=folder, stdout=out))
        began = await speak(server.url + "me")
        for process in running[:3]:
            process.terminate()
        await asyncio.gather(*(process.wait() for process in running))
        seen = {name: receiver.seen for name, receiver in receivers.items()}
        if recorder:
            rows = np.loadtxt(log, ndmin=2)
            weights = [dict(zip(ARKIT, row, strict=True)) for row in rows[:, 1:]]
            seen["unity"] = Seen(rows[:, 0].tolist(), weights)
    return began, seen


async def speak(url: str) -> float:
    """Silence until everybody is there, the sample, silence, in real time; when the sample began."""
    speech, rate = soundfile.read(SAMPLE, dtype="float32")
    before, after = int(SETTLE_S * rate), int(1.5 * rate)
    audio = np.concatenate([np.zeros(before, np.float32), speech, np.zeros(after, np.float32)])
    async with connect(url, "publish", audio=AudioFormat("f32", rate, 1)) as face:
        began = time.time()
        for start in range(0, len(audio), CHUNK):
            await face.send_audio(audio[start : start + CHUNK])
            await asyncio.sleep(max(0.0, began + (start + CHUNK) / rate - time.time()))
        await face.end()
    return began + SETTLE_S


def compile_recorder(folder: Path) -> Path | None:
    """``tests/unity/Record.exe`` with the package and the stand-ins; None without Mono's compiler."""
    library = Path("/usr/lib/cli/Newtonsoft.Json-5.0/Newtonsoft.Json.dll")
    if not (shutil.which("mcs") and library.exists()):
        print("Mono is not installed (mono-mcs, libnewtonsoft-json-cil-dev): unity.png stays as it is.")
        return None
    shutil.copy(library, folder)
    sources = [*UNITY.glob("Runtime/*/*.cs"), *ROOT.glob("tests/unity/[RU]*.cs")]
    out = folder / "Record.exe"
    command = ["mcs", "-langversion:7", "-nowarn:414,649", f"-r:{library}", f"-out:{out}", *map(str, sources)]
    subprocess.run(command, check=True)
    return out


async def burst(paced: bool) -> npt.NDArray[np.float64]:
    """Three seconds of speech at once, an interrupt after two.

    Returns:
        float64 (n, 2): when each frame came, seconds after the speech was sent; its instant of the speech.
    """
    speech, rate = soundfile.read(SAMPLE, dtype="float32", frames=48_000)
    audio = AudioFormat("f32", rate, 1)
    got: list[tuple[float, float]] = []
    async with (
        serving([], "warning") as server,
        connect(server.url + "bot", "converse", audio=audio, paced=paced) as face,
    ):
        began = time.perf_counter()
        await face.send_audio(speech)

        async def cut_in() -> None:
            await asyncio.sleep(2)
            await face.interrupt()
            await face.end()

        cutting = asyncio.create_task(cut_in())
        async for event in face:
            if isinstance(event, Frames) and event.epoch == 0:
                now_s = time.perf_counter() - began
                got += [(now_s, event.pts_s + i / 30) for i in range(len(event.values))]
        await cutting
    return np.array(got)


# ---- the pictures ----


def tool_figure(began_s: float, seen: Seen, names: tuple[str, ...], unit: str, faces: Seen) -> Figure:
    """A strip of faces, the voice, and the curves that a tool was told."""
    speech, rate = soundfile.read(SAMPLE, dtype="float32")
    seconds = len(speech) / rate
    figure = pyplot.figure(figsize=(9, 5.6), dpi=110, layout="constrained")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[1.35, 0.5, 1.9])
    strip = draw_faces(began_s, faces, seconds)
    for axes, (at_s, picture) in zip(top.subplots(1, FACES), strip, strict=True):
        axes.imshow(picture)
        axes.set_axis_off()
        axes.set_title(f"{at_s:.1f} s", fontsize=9, color="#444444")
    voice = middle.subplots()
    voice.fill_between(np.arange(len(speech)) / rate, -np.abs(speech), np.abs(speech), color="#999999", lw=0)
    voice.set_xlim(0, seconds + 0.5)
    voice.set_axis_off()
    voice.set_title("the voice", fontsize=9, loc="left", color="#444444")
    axes = bottom.subplots()
    x = np.array(seen.at_s) - began_s
    for colour, name in zip(COLOURS, names, strict=True):
        axes.plot(x, seen.curve(name), color=colour, lw=1.4, label=name)
    axes.set_xlim(0, seconds + 0.5)
    axes.legend(ncols=len(names), frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))
    label(axes, "seconds since the voice began", unit)
    return figure


def draw_faces(began_s: float, seen: Seen, seconds: float) -> list[tuple[float, Any]]:
    """The avatar at evenly spread instants, from ARKit values that arrived."""
    avatar = read_avatar(AVATAR)
    renderer = Renderer(avatar, (360, 360), LOWER_FACE, 2)
    at_s = np.array(seen.at_s) - began_s
    strip = []
    for wanted in np.linspace(0.6, seconds, FACES):
        values = seen.values[int(np.abs(at_s - wanted).argmin())]
        coefficients: F32 = np.array([values.get(name, 0.0) for name in avatar.channels], np.float32)
        strip.append((float(wanted), renderer.picture(coefficients)))
    return strip


def burst_figure(streams: dict[str, npt.NDArray[np.float64]]) -> Figure:
    """When the frames of a burst come, with ``paced`` and without."""
    figure = pyplot.figure(figsize=(7.5, 4.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    for colour, (name, frames) in zip(COLOURS, streams.items(), strict=False):
        axes.plot(frames[:, 0], frames[:, 1], ".", ms=4, color=colour, label=name)
    axes.axline((0, 0), slope=1, color="#777777", lw=1, ls="--")
    axes.text(1.62, 1.5, "played in real time", color="#555555", fontsize=8, rotation=30)
    axes.axvline(2, color="#aa2222", lw=1)
    axes.text(2.03, 0.1, "interrupt", color="#aa2222", fontsize=9)
    axes.set_xlim(0, 3.2)
    axes.set_ylim(0, 3.2)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    label(axes, "a frame arrives, s after 3 s of speech were sent at once", "its instant of the speech, s")
    return figure


def label(axes: Axes, x: str, y: str) -> None:
    """Names the axes and takes the box away."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eeeeee")


PLANS = {
    "vmc": (("A", "I", "U", "O", "Blink"), "weight over UDP, VMC"),
    "livelink": (CURVES, "value over UDP, Live Link Face"),
    "ifacialmocap": (CURVES, "percent over UDP, iFacialMocap"),
    "unity": (CURVES, "weight that the component set"),
}


async def draw() -> None:
    """Every picture."""
    with tempfile.TemporaryDirectory() as folder:
        began_s, seen = await speak_to_all(Path(folder))
    for name, tool in seen.items():
        if not tool.at_s:
            raise SystemExit(f"Nothing arrived at {name}: see docs/{name}.md.")
        names, unit = PLANS[name]
        faces = tool if name == "unity" else seen["livelink"]
        save(tool_figure(began_s, tool, names, unit, faces), name)
    save(burst_figure({"paced": await burst(True), "not paced": await burst(False)}), "voice-agents")


def save(figure: Figure, name: str) -> None:
    """Writes a picture and says so."""
    figure.savefig(IMAGES / f"{name}.png")
    pyplot.close(figure)
    print(f"docs/images/{name}.png")


def main(arguments: list[str] | None = None) -> int:
    """Draws; needs nothing but the development environment."""
    argparse.ArgumentParser(prog="benchmarks.tool_pictures", description=__doc__).parse_args(arguments)
    asyncio.run(draw())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
