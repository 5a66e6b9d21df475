"""How many machines, how much bandwidth and money: arithmetic, on what one gateway or replica holds.

Three ways to denoise are sized: servers that do it themselves on processors, a pool of processors, and a
pool of GPUs. Nobody has measured a GPU yet: unless a result of ``benchmarks.gpu`` is given, a card holds
what that benchmark aims at, and what follows from it is called assumed. Prices are assumptions, too.

Bandwidth is that of the payloads as the wire and the pool pack them, and of their headers (``HEADERS``). No
retransmissions, acknowledgements or TLS records.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.load import CHUNK_S
from benchmarks.service_times import HOP_FRAMES, HOP_S
from streamer.contract import wire

HEADERS = 60  # bytes of WebSocket, TCP and IPv4 for a message of some hundreds
MONTH_H = 730
WAYS = ("servers", "pool of processors", "pool of GPUs")
Row = dict[str, Any]


@dataclass(frozen=True)
class Prices:
    """What an hour of a virtual processor, an hour of a GPU, and a gigabyte cost.

    ``egress_gb`` is for what leaves to the public, ``inner_gb`` for what passes between gateways and pool:
    nothing inside one zone of a provider.
    """

    vcpu_hour: float = 0.04
    gpu_hour: float = 1.0
    egress_gb: float = 0.05
    inner_gb: float = 0.0


@dataclass(frozen=True)
class Holds:
    """What one of each holds while its frames are in time.

    Attributes:
        server, gateway, replica, gpu_replica: streams of a server with ``server_cores`` cores, of a gateway,
            of a replica that computes on a processor, of one that has a share of a GPU.
        gpu: streams of a card. server_cores: of a server.
        gateway_cores, replica_cores, gpu_replica_cores: that one of them takes when it is full.
        watcher_cores: that a watcher takes of whoever serves it. relay: watchers of a relay.
    """

    server: int
    gateway: int
    replica: int
    gpu_replica: int
    gpu: int
    server_cores: float
    gateway_cores: float
    replica_cores: float
    gpu_replica_cores: float
    watcher_cores: float
    relay: int


@dataclass(frozen=True)
class Traffic:
    """Bits a second of one stream: its audio, its frames to one who sees them, its way to the pool.

    ``there`` are its windows, ``back`` is their motion.
    """

    audio: float
    frames: float
    there: float
    back: float


def traffic(window_bytes: int, motion_bytes: int, width: int = 52, rate_hz: int = 16000) -> Traffic:
    """What one stream sends: float32 coefficients of a width, 16-bit mono audio of a rate."""
    frames = wire.Frames(
        values=np.zeros((HOP_FRAMES, width), np.float32),
        kind="coefficients",
        dtype="f32",
        flags=0,
        epoch=0,
        seq=0,
        first_frame=0,
        pts_s=0.0,
        emit_time_s=0.0,
    )
    chunk = wire.encode_audio(np.zeros(round(CHUNK_S * rate_hz), np.int16), "s16")
    return Traffic(
        audio=8 * (len(chunk) + HEADERS) / CHUNK_S,
        frames=8 * (len(wire.encode_frames(frames)) + HEADERS) / HOP_S,
        there=8 * window_bytes / HOP_S,
        back=8 * motion_bytes / HOP_S,
    )


def sized(
    way: str, streams: int, watchers: int, holds: Holds, wires: Traffic, prices: Prices, fill: float
) -> Row:
    """What so many live streams need, each of them seen by its speaker and so many watchers.

    Args:
        way: one of ``WAYS``. fill: the share of what a machine holds that is planned to be taken.

    Returns:
        Counts of servers, gateways, replicas and GPUs, vCPUs, bandwidth in Gbit/s (``inner`` is between
        gateways and pool, both ways), dollars a month by their cause.
    """
    watched_cores = streams * watchers * holds.watcher_cores
    counts = {"servers": 0, "gateways": 0, "replicas": 0, "gpus": 0}
    if way == "servers":
        cores = streams * holds.server_cores / holds.server + watched_cores
        counts["servers"] = math.ceil(cores / holds.server_cores / fill)
        vcpus = counts["servers"] * holds.server_cores
        inner = 0.0
    else:
        has_gpus = way == "pool of GPUs"
        holds_each = holds.gpu_replica if has_gpus else holds.replica
        each_cores = holds.gpu_replica_cores if has_gpus else holds.replica_cores
        cores = streams * holds.gateway_cores / holds.gateway + watched_cores
        counts["gateways"] = math.ceil(cores / holds.gateway_cores / fill)
        counts["replicas"] = math.ceil(streams / holds_each / fill)
        counts["gpus"] = math.ceil(streams / holds.gpu / fill) if has_gpus else 0
        vcpus = counts["gateways"] + math.ceil(counts["replicas"] * each_cores)
        inner = streams * (wires.there + wires.back) / 1e9
    egress = streams * (1 + watchers) * wires.frames / 1e9
    money = {
        "vcpu": vcpus * prices.vcpu_hour * MONTH_H,
        "gpu": counts["gpus"] * prices.gpu_hour * MONTH_H,
        "egress": gigabytes(egress) * prices.egress_gb,
        "inner": gigabytes(inner) * prices.inner_gb,
    }
    return {
        "way": way,
        "streams": streams,
        "watchers": watchers,
        **counts,
        "vcpus": math.ceil(vcpus),
        "audio_gbit": round(streams * wires.audio / 1e9, 3),
        "egress_gbit": round(egress, 3),
        "inner_gbit": round(inner, 3),
        **{f"{cause}_month": round(dollars) for cause, dollars in money.items()},
        "month": round(sum(money.values())),
    }


def broadcast(watchers: int, holds: Holds, wires: Traffic, prices: Prices, fill: float) -> Row:
    """What one stream before so many watchers needs: relays, and relays for the relays."""
    layers, below = [], watchers
    while below > holds.relay * fill:
        below = math.ceil(below / (holds.relay * fill))
        layers.append(below)
    cores = holds.watcher_cores * (watchers + sum(layers))
    egress = watchers * wires.frames / 1e9
    vcpus = max(1, math.ceil(cores / fill))
    month = vcpus * prices.vcpu_hour * MONTH_H + gigabytes(egress) * prices.egress_gb
    return {
        "watchers": watchers,
        "relays": sum(layers),
        "layers": len(layers),
        "vcpus": vcpus,
        "egress_gbit": round(egress, 3),
        "month": round(month),
    }


def gigabytes(gbit: float) -> float:
    """What so many Gbit/s are in a month."""
    return gbit / 8 * 3600 * MONTH_H


def network_limits(wires: Traffic, watchers: int, nic_gbit: float, holds: Holds) -> Row:
    """Where a network card is full: how many streams it has room for.

    A gateway's card sends windows and frames and hears motion and audio, the card before a GPU hears windows;
    both directions are free of each other.
    """
    sends = wires.there + (1 + watchers) * wires.frames
    hears = wires.back + wires.audio
    return {
        "nic_gbit": nic_gbit,
        "gateway_streams": int(nic_gbit * 1e9 / max(sends, hears)),
        "gateway_gbit": round(holds.gateway * max(sends, hears) / 1e9, 3),
        "gpu_streams": int(nic_gbit * 1e9 / max(wires.there, wires.back)),
        "gpu_gbit": round(holds.gpu * wires.there / 1e9, 1),
    }
