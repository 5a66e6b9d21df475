"""The face in pictures: what a rasteriser must get right, what a face must show, and films that play."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from streamer.contract.errors import FaceError
from streamer.engine.bundle import DEFAULT_BUNDLE, Bundle
from streamer.engine.render import light, raster, visibility
from streamer.engine.render.avatar import Avatar, read_avatar
from streamer.engine.render.film import record
from streamer.engine.render.renderer import HEAD, LOWER_FACE, MOUTH, Renderer

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
SIZE = (8, 10)


# ---- triangles ---------------------------------------------------------------------------------------------


def drawn(points: list[list[float]], triangles: list[list[int]], size: tuple[int, int] = SIZE) -> npt.NDArray:
    """The picture of triangle numbers, from 1."""
    buffer = raster.empty_buffer(size)
    numbers = np.arange(1, len(triangles) + 1)
    raster.draw(np.array(points, float), np.array(triangles, np.int32), numbers, buffer, size)
    return raster.seen(buffer).reshape(size)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_the_nearer_triangle_wins_whichever_is_drawn_first(order: list[int]) -> None:
    near = [[0.0, 0.0, 2.0], [10.0, 0.0, 2.0], [0.0, 8.0, 2.0]]
    far = [[0.0, 0.0, 1.0], [10.0, 0.0, 1.0], [10.0, 8.0, 1.0]]
    triangles = [[0, 1, 2], [3, 4, 5]]
    picture = drawn(near + far, [triangles[k] for k in order])
    assert picture[0, 5] == order.index(0) + 1
    assert picture[6, 9] == order.index(1) + 1


def test_triangles_that_cut_through_each_other_are_seen_on_their_nearer_sides() -> None:
    leaning = [[0.0, 0.0, 1.0], [10.0, 0.0, 3.0], [0.0, 16.0, 1.0], [10.0, 16.0, 3.0]]
    level = [[0.0, 0.0, 2.0], [10.0, 0.0, 2.0], [0.0, 16.0, 2.0], [10.0, 16.0, 2.0]]
    picture = drawn(leaning + level, [[0, 1, 2], [1, 3, 2], [4, 5, 6], [5, 7, 6]])
    assert set(picture[:, :5].ravel()) <= {3, 4}
    assert set(picture[:, 5:].ravel()) <= {1, 2}


@pytest.mark.parametrize("seed", range(5))
def test_neighbours_share_an_edge_without_a_hole_or_a_double(seed: int) -> None:
    random = np.random.default_rng(seed)
    # A fan around a point, its rim outside of the picture: every sample belongs to exactly one triangle.
    angles = np.sort(random.uniform(0, 2 * np.pi, 40))
    rim = np.stack([20 + 60 * np.cos(angles), 16 + 60 * np.sin(angles)], 1)
    centre = random.uniform(8, 24, 2)
    points = np.column_stack([np.vstack([centre, rim]), np.ones(41)])
    fan = np.array([[0, k, k % 40 + 1] for k in range(1, 41)], np.int32)
    count = np.zeros(32 * 40, int)
    for number, triangle in enumerate(fan, 1):
        buffer = raster.empty_buffer((32, 40))
        raster.draw(points, triangle[None], np.array([number]), buffer, (32, 40))
        count += buffer > 0
    assert (count == 1).all()


def test_a_triangle_without_area_or_outside_of_the_picture_leaves_no_trace() -> None:
    points = [[1.0, 1.0, 1.0], [5.0, 5.0, 1.0], [9.0, 9.0, 1.0], [-9.0, 0.0, 1.0], [-1.0, 4.0, 1.0]]
    assert not drawn(points, [[0, 1, 2], [0, 0, 1], [3, 4, 3]]).any()
    assert not drawn([[20.0, 0.0, 1.0], [30.0, 0.0, 1.0], [20.0, 9.0, 1.0]], [[0, 1, 2]]).any()


def test_weights_reproduce_what_is_linear_over_a_triangle() -> None:
    points = np.array([[1.0, 0.5, 1.0], [38.0, 3.0, 1.0], [9.0, 30.0, 1.0]])
    triangles = np.array([[0, 1, 2]], np.int32)
    buffer = raster.empty_buffer((32, 40))
    raster.draw(points, triangles, np.array([1]), buffer, (32, 40))
    at = np.flatnonzero(buffer)
    weights = raster.weights(points, triangles, at, np.zeros(len(at), np.int64), 40)
    assert len(at) > 300
    assert np.allclose(points[:, 0] @ weights, at % 40 + 0.5, atol=1e-3)
    assert np.allclose(points[:, 1] @ weights, at // 40 + 0.5, atol=1e-3)
    assert weights.min() >= 0


# ---- light -------------------------------------------------------------------------------------------------


def test_developing_keeps_black_black_and_more_light_never_darker() -> None:
    ramp = np.linspace(0, 20, 500, dtype=np.float32)[None, None].repeat(3, 0)
    picture = light.develop(ramp).astype(int)
    assert picture[0, 0].max() == 0
    assert picture[0, -1].min() == 255
    assert (np.diff(picture, axis=1) >= 0).all()


def test_a_chin_shades_the_neck_and_nothing_shades_the_forehead(avatar: Avatar) -> None:
    ambient, lit = visibility.bake(avatar, light.KEY)
    skin = avatar.mesh == [m.name for m in avatar.materials].index("skin")
    corners = np.unique(avatar.triangles[skin])
    x, y, z = avatar.positions[corners].T
    forehead = corners[(np.abs(x) < 0.02) & (y > 0.03) & (y < 0.05) & (z > 0.06)]
    neck = corners[(np.abs(x) < 0.02) & (y < -0.135) & (z > 0.0)]
    assert len(forehead) > 3
    assert len(neck) > 3
    assert ambient[forehead].mean() > 0.9
    assert lit[forehead].mean() > 0.9
    assert ambient[neck].mean() < 0.8
    assert lit[neck].mean() < 0.5


# ---- the face ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return read_avatar(DEFAULT_BUNDLE / "avatar.glb")


@pytest.fixture(scope="module")
def renderer(avatar: Avatar) -> Renderer:
    return Renderer(avatar, (128, 128), LOWER_FACE)


def face(avatar: Avatar, **channels: float) -> F32:
    """Coefficients (52,); a name without its side means both."""
    coefficients = np.zeros(len(avatar.channels), np.float32)
    for name, value in channels.items():
        found = [k for k, c in enumerate(avatar.channels) if c in (name, name + "Left", name + "Right")]
        assert found, name
        coefficients[found] = value
    return coefficients


def changed_rows(one: U8, other: U8, at_least: int = 40) -> npt.NDArray[np.intp]:
    """The rows of two pictures in which some pixel differs clearly."""
    return np.flatnonzero((np.abs(one.astype(int) - other).max(2) > at_least).any(1))


def test_the_avatar_moves_as_the_rig_does(avatar: Avatar) -> None:
    bundle = Bundle.load()
    assert list(avatar.channels) == bundle.manifest.motion.channels
    assert np.allclose(np.abs(avatar.moves).max((1, 2)), np.abs(bundle.rig.basis).max((1, 2)), atol=1e-6)
    rest, _ = avatar.pose(face(avatar))
    assert np.array_equal(rest, avatar.positions)
    opened, _ = avatar.pose(face(avatar, jawOpen=0.5))
    assert np.isclose(np.abs(opened - rest).max(), 0.5 * np.abs(bundle.rig.basis)[17].max(), atol=1e-6)


def test_a_blink_hides_the_pupils_and_leaves_the_mouth_alone(renderer: Renderer, avatar: Avatar) -> None:
    rest, shut = renderer.draw(np.stack([face(avatar), face(avatar, eyeBlink=1.0)]))
    rows = changed_rows(rest, shut)
    assert len(rows)
    assert rows.max() < 45
    assert np.array_equal(rest[60:], shut[60:])
    assert (rest[:45].max(2) < 40).sum() > (shut[:45].max(2) < 40).sum()  # pupils are black


def test_an_opening_jaw_moves_the_lower_lip_down_and_not_the_brow(renderer: Renderer, avatar: Avatar) -> None:
    rest, half, wide = renderer.draw(np.stack([face(avatar, jawOpen=v) for v in (0.0, 0.25, 0.5)]))
    assert not len(changed_rows(rest[:20], wide[:20], at_least=4))  # down to the lids
    assert changed_rows(rest, wide).min() > 45  # from the nostrils down
    # Lips are redder than any skin; the lower lip is the lower end of the red.
    redness = [picture[:105, 60:68].astype(int) @ [2, -1, -1] for picture in (rest, half, wide)]
    lowest = [int(np.flatnonzero((red > 175).any(1)).max()) for red in redness]
    assert lowest[0] + 3 < lowest[1]
    assert lowest[1] + 3 < lowest[2]


def test_teeth_show_between_parted_lips_and_never_through_closed_ones(avatar: Avatar) -> None:
    renderer = Renderer(avatar, (128, 128), LOWER_FACE)
    smile = {"mouthUpperUp": 0.4, "mouthSmile": 0.4}
    shut, pursed, parted = renderer.draw(
        np.stack(
            [
                face(avatar),
                face(avatar, mouthPucker=0.8),
                face(avatar, jawOpen=0.15, **smile),
            ]
        )
    )
    assert [whites(picture[60:95]) for picture in (shut, pursed)] == [0, 0]
    assert whites(parted[60:95]) > 30


def whites(picture: U8) -> int:
    """How many pixels are bright and have no colour: teeth do, skin and lips have."""
    return int(((picture.min(2) > 150) & (np.ptp(picture.astype(int), axis=2) < 40)).sum())


@pytest.mark.parametrize("turn_degrees", [0.0, 45.0, 70.0])
def test_no_shape_of_closed_lips_shows_teeth_from_any_side(avatar: Avatar, turn_degrees: float) -> None:
    renderer = Renderer(avatar, (128, 128), replace(LOWER_FACE, turn_degrees=turn_degrees))
    rolled = {"mouthRollLower": 1.0, "mouthRollUpper": 1.0}
    shapes: list[dict[str, float]] = [{}, rolled, {"mouthPress": 0.4, "mouthRollLower": 0.24}]
    shapes += [{f"mouth{name}": 1.0} for name in ("Press", "RollLower", "RollUpper", "Pucker", "Stretch")]
    shapes += [{f"mouth{name}": 1.0} for name in ("Left", "Right", "Frown", "Dimple", "Smile")]
    for shape in shapes:
        assert whites(renderer.picture(face(avatar, **shape))[58:98]) == 0, shape


def test_from_the_side_teeth_stand_behind_the_lips_and_not_far_in_an_empty_mouth(avatar: Avatar) -> None:
    renderer = Renderer(avatar, (128, 128), replace(MOUTH, turn_degrees=60.0))
    for shape in (
        {"jawOpen": 0.3, "mouthSmile": 0.4},
        {"jawOpen": 0.2, "mouthUpperUp": 0.4, "mouthLowerDown": 0.4},
    ):
        mouth = renderer.picture(face(avatar, **shape))[30:100].astype(int)
        empty = (mouth.max(2) < 90) & (mouth[..., 0] > mouth[..., 2] + 3)  # dark red
        assert whites(mouth.astype(np.uint8)) > empty.sum()


def test_the_same_coefficients_give_the_same_bytes_whatever_was_drawn_before(
    renderer: Renderer, avatar: Avatar
) -> None:
    speaking = face(avatar, jawOpen=0.3, mouthFunnel=0.3, eyeBlink=0.4)
    first = renderer.picture(speaking)
    renderer.picture(face(avatar, jawOpen=0.9))
    assert np.array_equal(renderer.picture(speaking), first)
    assert np.array_equal(Renderer(avatar, (128, 128), LOWER_FACE).picture(speaking), first)


def test_pictures_have_the_size_that_was_asked_for_and_the_head_within(avatar: Avatar) -> None:
    (picture,) = Renderer(avatar, (120, 90), HEAD).draw(face(avatar))
    assert picture.shape == (120, 90, 3)
    assert picture.dtype == np.uint8
    wall = picture[:8].astype(int)
    assert np.ptp(wall, axis=2).max() < 40  # nothing but the grey wall above the hair


def test_what_is_no_avatar_is_refused_in_a_sentence(tmp_path: Path) -> None:
    whole = (DEFAULT_BUNDLE / "avatar.glb").read_bytes()
    for name, content in {"cut.glb": whole[:20_000], "text.glb": b"hello", "empty.glb": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FaceError, match="is not an avatar that can be drawn"):
            read_avatar(tmp_path / name)
    with pytest.raises(FaceError, match=r"nowhere\.glb"):
        read_avatar(tmp_path / "nowhere.glb")


# ---- films -------------------------------------------------------------------------------------------------


def test_a_film_plays_with_its_pictures_its_colours_and_its_sound(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    colours = np.array([[200, 60, 40], [40, 160, 70], [50, 60, 190]], np.uint8)
    tone = (0.4 * np.sin(2 * np.pi * 440 * np.arange(24_000) / 16_000)).astype(np.float32)
    with record(path, (64, 96), 30, 16_000) as film:
        for frame in range(45):
            film.show(np.broadcast_to(colours[frame // 15], (64, 96, 3)))
            film.play(tone[frame * 16_000 // 30 : (frame + 1) * 16_000 // 30])
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert video.codec_context.pix_fmt == "yuv420p"
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        container.seek(0)
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(pictures) == 45
    for third, colour in enumerate(colours):
        assert np.abs(pictures[15 * third + 7].mean((0, 1)) - colour).max() < 6
    assert abs(len(heard) - len(tone)) < 2_100  # AAC comes in frames of 1,024
    loudest = np.abs(np.fft.rfft(heard[4_000:20_000])).argmax()
    assert loudest == 440


def test_an_interrupted_film_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), record(tmp_path / "film.mp4", (64, 64), 30, 16_000) as film:
        film.show(np.zeros((64, 64, 3), np.uint8))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_film_that_cannot_be_made_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FaceError, match="even sizes"), record(tmp_path / "a.mp4", (63, 64), 30, 16_000):
        pass
    with (
        pytest.raises(FaceError, match="cannot be written"),
        record(tmp_path / "x/a.mp4", (64, 64), 30, 16_000),
    ):
        pass
