"""Puts the page into the wheel, as ``streamer/web``: ``clients/web`` and the files of three.js that it loads.

An editable install needs none of it (the server finds ``clients/web`` beside itself); a wheel without it
would serve no page, so a build without ``npm install`` is refused with a sentence that says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PAGE = ("index.html", "style.css", "icon.svg", "sample.wav", "src", "examples")
THREE = (
    "LICENSE",
    "build/three.core.js",
    "build/three.module.js",
    "examples/jsm/controls/OrbitControls.js",
    "examples/jsm/environments/RoomEnvironment.js",
    "examples/jsm/libs/draco/gltf/draco_decoder.wasm",
    "examples/jsm/libs/draco/gltf/draco_wasm_wrapper.js",
    "examples/jsm/libs/meshopt_decoder.module.js",
    "examples/jsm/loaders/DRACOLoader.js",
    "examples/jsm/loaders/GLTFLoader.js",
    "examples/jsm/utils/BufferGeometryUtils.js",
    "examples/jsm/utils/SkeletonUtils.js",
)
THREE_VRM = ("LICENSE", "lib/three-vrm.module.min.js")


class PageHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the page to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds."""
        if version == "editable":
            return
        web = Path(self.root) / "clients" / "web"
        names = [*PAGE, *(f"node_modules/three/{name}" for name in THREE)]
        names += [f"node_modules/@pixiv/three-vrm/{name}" for name in THREE_VRM]
        missing = [name for name in names if not (web / name).exists()]
        if missing:
            raise FileNotFoundError(f"{missing[0]} is missing in clients/web: run `npm install` there first")
        build_data["force_include"] |= {str(web / name): f"streamer/web/{name}" for name in names}
