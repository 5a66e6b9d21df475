"""``diffspeaker doctor``: looks at everything that a server needs, and says what to mend.

Each check is a function of its own that returns a ``Finding``; a check that raises is a bug. A *fault* is
what keeps the server from working, a *note* what will be missed sooner or later.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import platform
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from streamer.cli.config import option, parse
from streamer.contract.errors import FaceError
from streamer.engine.backend import OnnxBackend
from streamer.engine.bundle import Bundle
from streamer.engine.capacity import capacity, windows_per_s
from streamer.engine.providers import CPU, Rung, named_providers
from streamer.engine.tuning import requests_of
from streamer.server.http import find_web_root
from streamer.server.microphone import input_devices

DESCRIPTION = """Checks what a server needs on this machine: the bundle, what computes and how fast, the port,
the microphone, the page, the system's limits. Ends with 1 where something keeps it from working."""

ENOUGH_FILES = 4096
_PACKAGES = ("three", "@pixiv/three-vrm")


@dataclass(frozen=True)
class DoctorOptions:
    """The options of ``diffspeaker doctor``."""

    host: str = option("127.0.0.1", "the address that serve will listen on")
    port: int = option(8600, "the port that serve will listen on", minimum=1, maximum=65535)
    bundle: Path | None = option(None, "the model's folder; the one that ships where none is given")
    provider: str | None = option(
        None,
        "what should compute: tensorrt, cuda, coreml, directml, cpu; by default what is found",
        metavar="NAME",
    )
    json: bool = option(False, "print one JSON object")


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: what was looked at. state: ``ok``, ``note`` or ``fault``. found: one sentence.
        mend: what to do about it; empty where nothing is to be done.
    """

    check: str
    state: str
    found: str
    mend: str = ""


def run(argv: list[str]) -> int:
    """Runs the command; returns 1 where a fault was found."""
    options = parse(DoctorOptions, argv, "diffspeaker doctor", DESCRIPTION)
    findings = []
    for finding in _examine(options):
        findings.append(finding)
        if not options.json:
            print(_lines(finding), flush=True)
    faults = sum(finding.state == "fault" for finding in findings)
    if options.json:
        print(json.dumps({"faults": faults, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        print("Ready: diffspeaker serve" if not faults else f"{faults} to mend before the server works.")
    return 1 if faults else 0


def _examine(options: DoctorOptions) -> Iterator[Finding]:
    yield system()
    yield files_limit()
    try:
        bundle = Bundle.load(options.bundle)
    except FaceError as error:
        yield Finding("bundle", "fault", error.message, error.hint)
    else:
        manifest = bundle.manifest
        found = f"{manifest.name} {manifest.version}, every file's hash is right"
        yield Finding("bundle", "ok", found)
        yield from computing(bundle, options.provider)
    yield port(options.host, options.port)
    yield page(find_web_root)
    yield microphone()


def _lines(finding: Finding) -> str:
    sign = {"ok": "ok   ", "note": "note ", "fault": "FAULT"}[finding.state]
    line = f"{sign} {finding.check:<11} {finding.found}"
    return line + (f"\n      {'':<11} {finding.mend}" if finding.mend else "")


# ---- the checks ------------------------------------------------------------------------------------------


def system() -> Finding:
    """The machine and the loop."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    found = f"Python {platform.python_version()}, {machine}"
    if sys.platform != "win32" and find_spec("uvloop") is None:
        return Finding("system", "note", f"{found}; uvloop is missing", "pip install uvloop")
    return Finding("system", "ok", found)


def files_limit() -> Finding:
    """How many sockets the system lets one process have."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return Finding("open files", "ok", "no limit that matters")
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < ENOUGH_FILES:
        return Finding(
            "open files",
            "note",
            f"at most {most}: about as many watchers",
            f"ulimit -n {ENOUGH_FILES}, or LimitNOFILE={ENOUGH_FILES} in a systemd unit",
        )
    return Finding("open files", "ok", f"at most {most}")


def computing(bundle: Bundle, provider: str | None) -> Iterator[Finding]:
    """What computes, why nothing better does, and for how many speakers it is enough."""
    try:
        backend = OnnxBackend(bundle, None if provider is None else named_providers(provider))
        backend.warm_up()
        requests = requests_of(bundle, 1)
        backend.infer(requests)
        began = time.perf_counter()
        backend.infer(requests)
        window_ms = 1000 * (time.perf_counter() - began)
        rate = windows_per_s([backend], requests_of(bundle, 4), 0.3)
    except FaceError as error:
        yield Finding("computing", "fault", error.message, error.hint)
        return
    used = Rung(backend.provider, backend.variant)
    for tried in backend.tried:
        if tried.reason:
            yield Finding("computing", "note", f"{tried.rung} does not work: {tried.reason}")
    timing = bundle.manifest.timing
    hop_ms = timing.grid().hop_ms(timing.hop.default_frames)
    cores = (os.cpu_count() or 1) if backend.provider == CPU else 1
    speakers = capacity(rate * min(4, cores), hop_ms)
    found = f"{used}, {window_ms:.1f} ms for a window, about {speakers} speakers"
    if window_ms > hop_ms:
        mend = "Serve a smaller bundle, or a machine with a GPU (pip install onnxruntime-gpu)."
        yield Finding("computing", "fault", f"{found}: slower than the {hop_ms:.0f} ms between windows", mend)
    else:
        yield Finding("computing", "ok", found)


def port(host: str, number: int) -> Finding:
    """Whether the port can be opened, and who has it where it cannot."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
        if os.name == "posix":
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, number))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                who = "a DiffSpeaker server already" if _is_ours(host, number) else "another program"
                return Finding(
                    "port",
                    "fault",
                    f"{number} of {host} is taken by {who}",
                    "Stop it, or serve with --port 0.",
                )
            reason = error.strerror or str(error)
            return Finding(
                "port", "fault", f"{number} of {host} cannot be opened: {reason}", "Choose another."
            )
    return Finding("port", "ok", f"{number} of {host} is free")


def _is_ours(host: str, number: int) -> bool:
    asked = http.client.HTTPConnection(host, number, timeout=2)
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError), contextlib.closing(asked):
        asked.request("GET", "/bundle.json")
        return bool(json.loads(asked.getresponse().read()).get("format") == "diffspeaker-bundle")
    return False


def page(find: Callable[[], Path]) -> Finding:
    """Whether the page and what it is made of are there."""
    try:
        root = find()
    except FaceError as error:
        return Finding("page", "fault", error.message, error.hint)
    missing = [name for name in _PACKAGES if not (root / "node_modules" / name).is_dir()]
    if missing:
        mend = f"npm install --no-save, in {root}"
        return Finding("page", "note", f"it will not show a face: {', '.join(missing)} is missing", mend)
    return Finding("page", "ok", "everything is there")


def microphone() -> Finding:
    """Whether ``--microphone`` would find one; a server without it works all the same."""
    try:
        inputs = input_devices()
    except FaceError as error:
        return Finding("microphone", "note", f"not for --microphone: {error.message}", error.hint)
    if not inputs:
        return Finding(
            "microphone",
            "note",
            "none here; speakers over the network need none",
            "Plug one in for --microphone.",
        )
    return Finding("microphone", "ok", ", ".join(inputs[:3]) + (" …" if len(inputs) > 3 else ""))
