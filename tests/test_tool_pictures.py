"""The pictures of the tools' pages: what was sent is what is drawn, and a tool that got nothing is said."""

from __future__ import annotations

import numpy as np
import pytest
from diffspeaker_client.bridge.encoder import Instant
from diffspeaker_client.bridge.ifacialmocap import IFacialMocap
from diffspeaker_client.bridge.livelink import LiveLink
from diffspeaker_client.bridge.vmc import Vmc
from diffspeaker_client.channels import ARKIT

pytest.importorskip("pylivelinkface", reason="PyLiveLinkFace is in the extra `dev`")
from benchmarks import tool_pictures

ALL = np.ones(len(ARKIT), bool)
NOON = Instant(elapsed_s=12.5, day_s=43_200.5, fps=30)


def test_each_receiver_reads_what_its_bridge_sends() -> None:
    face = np.linspace(0, 1, len(ARKIT)).astype(np.float32)
    named = dict(zip(ARKIT, face.tolist(), strict=True))
    exact = tool_pictures.read_livelink(LiveLink("anna").encode(face, ALL, NOON))
    assert {name: exact[name] for name in ARKIT} == named
    percent = tool_pictures.read_text(IFacialMocap().encode(face, ALL, NOON))
    for name in tool_pictures.CURVES:
        assert percent[name] == pytest.approx(100 * named[name], abs=0.51)
    wide = np.zeros(len(ARKIT), np.float32)
    wide[ARKIT.index("jawOpen")] = 1
    shapes = tool_pictures.read_vmc(Vmc().encode(wide, ALL, NOON))
    assert shapes["A"] > 0.5 and shapes["Blink"] == 0


def test_a_name_that_was_not_told_is_drawn_at_rest() -> None:
    seen = tool_pictures.Seen([0.0, 1.0], [{"jawOpen": 0.5}, {}])
    assert seen.curve("jawOpen") == [0.5, 0.0]
