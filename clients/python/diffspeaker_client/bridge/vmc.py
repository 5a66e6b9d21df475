"""VMC, the Virtual Motion Capture protocol: OSC over UDP, for VSeeFace, VNyan, Warudo and their like. Pure.

Specification: protocol.vmc.info (3.1), "Marionette" and "Performer". Each face is one OSC bundle, to be taken
at once:

- ``/VMC/Ext/OK`` 1: what follows is good;
- ``/VMC/Ext/T`` seconds since the bridge began, by which a receiver sees that somebody sends;
- ``/VMC/Ext/Blend/Val`` name, weight, for each shape;
- ``/VMC/Ext/Blend/Apply``.

Rules:

1. Names are case-sensitive. VRM 0.x's come first, because the specification asks every sender for them;
   ARKit's as they are are for avatars with "perfect sync" shapes. Both at once move a mouth that has both
   twice, so that has to be asked for.
2. A shape that the stream does not drive is not named: the receiver then keeps what others say of it.
3. No bones are sent: the rest of the body belongs to whoever tracks it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder

from diffspeaker_client.bridge.encoder import Instant
from diffspeaker_client.bridge.expressions import expressions
from diffspeaker_client.channels import ARKIT

F32 = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

PORT = 39539
"""Where VSeeFace, VNyan and Warudo listen: the Marionette's. A Performer in between listens on 39540."""

NAMES = ("vrm0", "arkit", "both")


class Vmc:
    """Faces as bundles.

    Args:
        names: which shapes are named, one of ``NAMES``.
        gains: factors for VRM 0.x's names; weights stay within 0 and 1.
    """

    title = "VMC"

    def __init__(self, names: str = "vrm0", gains: Mapping[str, float] | None = None) -> None:
        self._vrm0, self._arkit = names in ("vrm0", "both"), names in ("arkit", "both")
        self._gains = dict(gains or {})

    def encode(self, coefficients: F32, driven: Flags, instant: Instant) -> bytes:
        """One bundle; see ``Encoder``."""
        bundle = OscBundleBuilder(IMMEDIATELY)
        _add(bundle, "/VMC/Ext/OK", ("i", 1))
        _add(bundle, "/VMC/Ext/T", ("f", instant.elapsed_s))
        for name, weight in self._weights(coefficients, driven).items():
            _add(bundle, "/VMC/Ext/Blend/Val", ("s", name), ("f", weight))
        _add(bundle, "/VMC/Ext/Blend/Apply")
        return bytes(bundle.build().dgram)

    def _weights(self, coefficients: F32, driven: Flags) -> dict[str, float]:
        weights: dict[str, float] = {}
        if self._vrm0:
            for name, weight in expressions(coefficients, driven).items():
                weights[name] = min(1.0, weight * self._gains.get(name, 1.0))
        if self._arkit:
            weights |= {ARKIT[place]: float(coefficients[place]) for place in np.flatnonzero(driven)}
        return weights


def _add(bundle: OscBundleBuilder, address: str, *arguments: tuple[str, str | int | float]) -> None:
    message = OscMessageBuilder(address)
    for kind, value in arguments:
        message.add_arg(value, kind)
    bundle.add_content(message.build())
