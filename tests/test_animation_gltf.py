"""Files of glTF: the moving avatar and VRM animations, read back, and held to Khronos's validator."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest

from streamer.contract.errors import FaceError
from streamer.engine.animation import glb
from streamer.engine.animation.baked import write_glb
from streamer.engine.animation.expressions import PRESETS, VOWELS, gaze, presets
from streamer.engine.animation.vrma import write_vrma
from streamer.engine.bundle import DEFAULT_BUNDLE, Bundle
from tests import fakes
from tests.animations import F32, WEB, Gltf, blocks_of, khronos_report, motion_of, write_bundle

ABOUT = {"input": "/home/me/secret.wav", "output": "face.glb", "seed": 3}
BODY = {
    *("hips", "spine", "head"),
    *(f"{side}{arm}" for side in ("left", "right") for arm in ("UpperArm", "LowerArm", "Hand")),
    *(f"{side}{leg}" for side in ("left", "right") for leg in ("UpperLeg", "LowerLeg", "Foot")),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(write_bundle(tmp_path_factory.mktemp("gltf") / "bundle"))


def reordered(bundle: Bundle, channels: list[str], **motion: float) -> Bundle:
    """The bundle with other channels, or another range of them."""
    changed = msgspec.structs.replace(bundle.manifest.motion, channels=channels, **motion)
    return Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, motion=changed))


def weights_of(gltf: Gltf) -> F32:
    """The animation's weights, (frames, targets)."""
    (animation,) = gltf.json["animations"]
    (sampler,) = animation["samplers"]
    return gltf.rows(sampler["output"]).reshape(len(gltf.rows(sampler["input"])), -1)


# ---- the avatar, moving ------------------------------------------------------------------------------------


def test_every_mesh_that_moves_is_moved_by_the_frames(bundle: Bundle, tmp_path: Path) -> None:
    motion = motion_of(35)
    assert write_glb(tmp_path / "face.glb", blocks_of(motion), bundle, ABOUT) == 35
    gltf = Gltf(tmp_path / "face.glb")
    np.testing.assert_allclose(weights_of(gltf), motion, atol=1 / 65_535)
    (animation,) = gltf.json["animations"]
    np.testing.assert_allclose(
        gltf.rows(animation["samplers"][0]["input"])[:, 0], np.arange(35) / 30, atol=1e-6
    )
    moved = {gltf.json["nodes"][channel["target"]["node"]]["name"] for channel in animation["channels"]}
    assert {"skin", "upperTeeth", "lowerTeeth", "tongue", "leftEye", "rightEye", "lashes"} <= moved
    assert "hair" not in moved
    for node in gltf.json["nodes"]:
        mesh = gltf.json["meshes"][node["mesh"]]
        if node["name"] in moved:
            assert mesh["extras"]["targetNames"] == fakes.CHANNELS
            assert len(mesh["primitives"][0]["targets"]) == len(fakes.CHANNELS)


def test_the_animation_is_named_and_tells_what_made_it_but_no_paths(bundle: Bundle, tmp_path: Path) -> None:
    write_glb(tmp_path / "hello.glb", blocks_of(motion_of(3)), bundle, ABOUT)
    (animation,) = Gltf(tmp_path / "hello.glb").json["animations"]
    assert animation["name"] == "hello"
    assert animation["extras"] == {"seed": 3}


def test_khronos_finds_neither_error_nor_warning_in_the_avatar(bundle: Bundle, tmp_path: Path) -> None:
    write_glb(tmp_path / "face.glb", blocks_of(motion_of(95)), bundle, ABOUT)
    report = khronos_report(tmp_path / "face.glb")
    assert (report["issues"]["numErrors"], report["issues"]["numWarnings"]) == (0, 0), report["issues"]
    assert report["info"]["animationCount"] == 1
    assert report["info"]["hasMorphTargets"] is True


def test_channels_are_matched_by_name_and_the_rest_rests(bundle: Bundle, tmp_path: Path) -> None:
    odd = reordered(bundle, ["mouthPucker", "somethingElse", "jawOpen"])
    write_glb(tmp_path / "face.glb", blocks_of(np.array([[0.25, 0.5, 0.75]], np.float32)), odd, {})
    (weights,) = weights_of(Gltf(tmp_path / "face.glb"))
    assert weights[fakes.CHANNELS.index("mouthPucker")] == pytest.approx(0.25, abs=1e-5)
    assert weights[fakes.CHANNELS.index("jawOpen")] == pytest.approx(0.75, abs=1e-5)
    assert weights.sum() == pytest.approx(1.0, abs=1e-4)


def test_coefficients_beyond_1_are_kept_as_floats(bundle: Bundle, tmp_path: Path) -> None:
    wide = reordered(bundle, fakes.CHANNELS, minimum=-1.0, maximum=2.0)
    motion = 3 * motion_of(5) - 1
    write_glb(tmp_path / "face.glb", blocks_of(motion), wide, {})
    np.testing.assert_array_equal(weights_of(Gltf(tmp_path / "face.glb")), motion)
    report = khronos_report(tmp_path / "face.glb")
    assert (report["issues"]["numErrors"], report["issues"]["numWarnings"]) == (0, 0), report["issues"]


def avatar_without(part: str) -> bytes:
    """The avatar that ships, spoilt."""
    document, binary = glb.parse((DEFAULT_BUNDLE / "avatar.glb").read_bytes())
    for mesh in document["meshes"]:
        if part == "targets":
            mesh["primitives"][0].pop("targets", None)
        elif part == "names":
            mesh.pop("extras", None)
        elif part == "agreement" and mesh["name"] == "tongue":
            mesh["extras"]["targetNames"] = ["other"]
    text = glb.encode(document)
    text += b" " * (-len(text) % 4)
    chunks = len(text).to_bytes(4, "little") + b"JSON" + text + len(binary).to_bytes(4, "little") + b"BIN\0"
    return b"glTF" + (2).to_bytes(4, "little") + (20 + len(chunks)).to_bytes(4, "little") + chunks + binary


@pytest.mark.parametrize(
    ("avatar", "says"),
    [
        (b"glTF", "is not an avatar that can be animated"),
        (b"hello, I am text, not a face at all", "is not an avatar that can be animated"),
        (avatar_without("targets"), "has no morph targets"),
        (avatar_without("names"), "do not name the same targets"),
        (avatar_without("agreement"), "do not name the same targets"),
    ],
    ids=["cut", "text", "targets", "names", "agreement"],
)
def test_an_avatar_that_cannot_move_is_refused_in_a_sentence(
    tmp_path: Path, avatar: bytes, says: str
) -> None:
    bundle = Bundle.load(write_bundle(tmp_path / "bundle", avatar=avatar))
    with pytest.raises(FaceError, match=says):
        write_glb(tmp_path / "face.glb", blocks_of(motion_of(3)), bundle, {})
    assert not (tmp_path / "face.glb").exists()


def test_an_animation_without_a_frame_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    for write in (lambda p, b: write_glb(p, b, bundle, {}), lambda p, b: write_vrma(p, b, bundle)):
        with pytest.raises(FaceError, match="too short"):
            write(tmp_path / "face.glb", iter(()))
    assert not list(tmp_path.iterdir())


# ---- VRM animation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("perfect_sync", [False, True])
def test_each_expression_is_a_nodes_way_along_x(bundle: Bundle, tmp_path: Path, perfect_sync: bool) -> None:
    motion = motion_of(35)
    assert write_vrma(tmp_path / "a.vrma", blocks_of(motion), bundle, perfect_sync) == 35
    gltf = Gltf(tmp_path / "a.vrma")
    extension = gltf.json["extensions"]["VRMC_vrm_animation"]
    assert gltf.json["extensionsUsed"] == ["VRMC_vrm_animation"] and extension["specVersion"] == "1.0"
    (animation,) = gltf.json["animations"]
    tracks = {channel["target"]["node"]: channel for channel in animation["channels"]}
    expressions = extension["expressions"]["custom" if perfect_sync else "preset"]
    assert list(expressions) == (fakes.CHANNELS if perfect_sync else list(PRESETS))
    expected = motion if perfect_sync else presets(motion, fakes.CHANNELS)
    for place, (name, entry) in enumerate(expressions.items()):
        channel = tracks.pop(entry["node"])
        assert gltf.json["nodes"][entry["node"]]["name"] == name
        assert channel["target"]["path"] == "translation"
        sampler = animation["samplers"][channel["sampler"]]
        np.testing.assert_allclose(gltf.rows(sampler["input"])[:, 0], np.arange(35) / 30, atol=1e-6)
        ways = gltf.rows(sampler["output"])
        np.testing.assert_allclose(ways[:, 0], expected[:, place], atol=1e-6)
        assert not ways[:, 1:].any()
    assert ("lookAt" in extension) is not perfect_sync
    if not perfect_sync:
        channel = tracks.pop(extension["lookAt"]["node"])
        assert channel["target"]["path"] == "rotation"
        turns = gltf.rows(animation["samplers"][channel["sampler"]]["output"])
        np.testing.assert_array_equal(turns, gaze(motion, fakes.CHANNELS))
    assert not tracks  # nothing else moves: not the body


@pytest.mark.parametrize("perfect_sync", [False, True])
def test_khronos_finds_neither_error_nor_warning_in_a_vrm_animation(
    bundle: Bundle, tmp_path: Path, perfect_sync: bool
) -> None:
    write_vrma(tmp_path / "a.vrma", blocks_of(motion_of(95)), bundle, perfect_sync)
    report = khronos_report(tmp_path / "a.vrma")
    assert (report["issues"]["numErrors"], report["issues"]["numWarnings"]) == (0, 0), report["issues"]


def test_a_body_stands_in_it_in_a_t_pose_before_all_expressions(bundle: Bundle, tmp_path: Path) -> None:
    write_vrma(tmp_path / "a.vrma", blocks_of(motion_of(3)), bundle)
    document = Gltf(tmp_path / "a.vrma").json
    extension = document["extensions"]["VRMC_vrm_animation"]
    bones = {name: entry["node"] for name, entry in extension["humanoid"]["humanBones"].items()}
    assert set(bones) == BODY
    places: dict[int, np.ndarray] = {}

    def stand(node: int, origin: np.ndarray) -> None:
        places[node] = origin + document["nodes"][node].get("translation", [0, 0, 0])
        for child in document["nodes"][node].get("children", []):
            stand(child, places[node])

    stand(document["scenes"][0]["nodes"][0], np.zeros(3))
    at = {name: places[node] for name, node in bones.items()}
    assert at["head"][1] > at["spine"][1] > at["hips"][1] > at["leftLowerLeg"][1] > at["leftFoot"][1] > 0
    assert at["leftHand"][0] > at["leftUpperArm"][0] > 0 > at["rightUpperArm"][0] > at["rightHand"][0]
    assert at["leftHand"][1] == at["leftUpperArm"][1]
    assert extension["lookAt"]["node"] in places  # it hangs on the head
    expressions = [entry["node"] for entry in extension["expressions"]["preset"].values()]
    assert min(expressions) > max(places)
    assert document["scenes"][0]["nodes"] == [bones["hips"], *expressions]


# ---- expressions -------------------------------------------------------------------------------------------


def face(**channels: float) -> F32:
    """One frame (1, 52); a name without its side means both."""
    frame = np.zeros((1, len(fakes.CHANNELS)), np.float32)
    for name, value in channels.items():
        found = [k for k, c in enumerate(fakes.CHANNELS) if c in (name, name + "Left", name + "Right")]
        assert found, name
        frame[0, found] = value
    return frame


@pytest.mark.parametrize(
    ("vowel", "shapes"),
    [
        ("aa", {"jawOpen": 0.65, "mouthLowerDown": 0.37, "mouthUpperUp": 0.17}),
        ("ih", {"jawOpen": 0.16, "mouthStretch": 0.3, "mouthDimple": 0.14, "mouthLowerDown": 0.35}),
        ("ou", {"jawOpen": 0.12, "mouthPucker": 0.81, "mouthFunnel": 0.1}),
        ("ee", {"jawOpen": 0.45, "mouthStretch": 0.15, "mouthDimple": 0.07, "mouthLowerDown": 0.38}),
        ("oh", {"jawOpen": 0.45, "mouthPucker": 0.5, "mouthFunnel": 0.2, "mouthLowerDown": 0.19}),
    ],
)
def test_a_vowels_own_mouth_is_mostly_that_vowel(vowel: str, shapes: dict[str, float]) -> None:
    weights = dict(zip(VOWELS, presets(face(**shapes), fakes.CHANNELS)[0], strict=False))
    assert weights[vowel] > 0.4
    assert all(weights[other] < weights[vowel] for other in VOWELS if other != vowel)


def test_the_page_reads_the_same_vowels() -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    motion = motion_of(300) * motion_of(300, seed=1) ** 2  # more small values than great ones
    motion[:5] = [
        face()[0],
        *(face(**{name: 1.0})[0] for name in ("mouthPucker", "mouthStretch", "jawOpen", "mouthPress")),
    ]
    script = """
        import { readMouth } from './src/avatar/visemes.js';
        const rows = JSON.parse(await new Response(process.stdin).text());
        const [visemes, vowels] = [new Float32Array(15), new Float32Array(5)];
        console.log(JSON.stringify(rows.map((c) => (readMouth(c, visemes, vowels), [...vowels]))));
    """
    run = subprocess.run(
        ["node", "--input-type=module", "-e", script],
        cwd=WEB,
        input=json.dumps(motion.tolist()),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    np.testing.assert_allclose(presets(motion, fakes.CHANNELS)[:, :5], json.loads(run.stdout), atol=1e-5)


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"mouthPress": 0.4, "mouthRollLower": 0.24, "mouthRollUpper": 0.14},
        {"mouthSmile": 0.8, "mouthDimple": 0.3},
        {"jawOpen": 0.3, "mouthClose": 0.3},
    ],
    ids=["rest", "pressed", "smiling", "closed over an open jaw"],
)
def test_closed_lips_are_no_vowel(shapes: dict[str, float]) -> None:
    assert presets(face(**shapes), fakes.CHANNELS)[0, :5].max() < 0.05


def test_weights_stay_within_0_and_1_and_vowels_share_one_mouth() -> None:
    weights = presets(2 * motion_of(500) - 0.5, fakes.CHANNELS)
    assert weights.min() >= 0 and weights.max() <= 1
    assert weights[:, :5].sum(1).max() <= 1 + 1e-6


def test_each_eye_blinks_as_far_as_it_does() -> None:
    _, _, _, _, _, both, left, right = presets(
        face(eyeBlinkLeft=0.9) + face(eyeBlinkRight=0.4), fakes.CHANNELS
    )[0]
    assert (both, left, right) == pytest.approx((0.4, 0.5, 0.0))


@pytest.mark.parametrize(
    ("shapes", "way"),
    [
        ({}, (0, 0, 1)),
        ({"eyeLookOutLeft": 1, "eyeLookInRight": 1}, (np.sin(np.radians(30)), 0, np.cos(np.radians(30)))),
        ({"eyeLookInLeft": 1, "eyeLookOutRight": 1}, (-np.sin(np.radians(30)), 0, np.cos(np.radians(30)))),
        ({"eyeLookDown": 1}, (0, -np.sin(np.radians(25)), np.cos(np.radians(25)))),
        ({"eyeLookUp": 1}, (0, np.sin(np.radians(25)), np.cos(np.radians(25)))),
    ],
    ids=["ahead", "left", "right", "down", "up"],
)
def test_the_gaze_turns_where_the_eyes_look(shapes: dict[str, float], way: tuple[float, ...]) -> None:
    (turn,) = gaze(face(**shapes), fakes.CHANNELS)
    assert np.linalg.norm(turn) == pytest.approx(1)
    axis, w, ahead = turn[:3], turn[3], np.array([0.0, 0.0, 1.0])
    seen = ahead + 2 * np.cross(axis, np.cross(axis, ahead) + w * ahead)
    np.testing.assert_allclose(seen, way, atol=1e-6)
