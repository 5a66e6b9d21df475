"""The manifest: a bundle that contradicts itself is refused with a sentence that says where."""

from __future__ import annotations

import json

import msgspec
import pytest

from streamer.contract.errors import FaceError
from streamer.contract.manifest import MANIFEST_NAME, read_manifest, write_manifest
from streamer.engine.bundle import DEFAULT_BUNDLE
from tests import fakes


@pytest.fixture
def bundle(tmp_path):
    return fakes.write_bundle(tmp_path / "bundle")


def change(bundle, path, value):
    """Sets one field of the manifest on disk; ``path`` is its way from the top."""
    document = json.loads((bundle / MANIFEST_NAME).read_text())
    place = document
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    (bundle / MANIFEST_NAME).write_text(json.dumps(document))


def refusal(bundle):
    with pytest.raises(FaceError) as caught:
        read_manifest(bundle)
    assert caught.value.code == "bad_bundle"
    assert str(bundle) in caught.value.message
    return caught.value.message


def test_a_manifest_survives_being_written_and_read(bundle):
    manifest = read_manifest(bundle)
    write_manifest(manifest, bundle)
    assert read_manifest(bundle) == manifest


def test_the_bundle_that_ships_passes_its_checks_and_speaks_arkit():
    manifest = read_manifest(DEFAULT_BUNDLE)
    assert manifest.motion.channels == fakes.CHANNELS
    assert {"model.onnx", "rig.npz", "avatar.glb"} <= set(manifest.files)
    assert manifest.licence and manifest.rig.licence and manifest.training.speech


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    assert "no readable manifest.json" in refusal(tmp_path)


def test_a_manifest_that_is_not_json_is_refused(bundle):
    (bundle / MANIFEST_NAME).write_bytes(b"{")
    assert "not a valid manifest" in refusal(bundle)


def test_an_unknown_field_is_refused_by_name(bundle):
    change(bundle, ["timing", "wobble"], 1)
    assert "wobble" in refusal(bundle)


def test_a_missing_file_is_named(bundle):
    (bundle / "avatar.glb").unlink()
    assert "avatar.glb is missing" in refusal(bundle)


def test_a_changed_file_is_named(bundle):
    with (bundle / "model.onnx").open("ab") as stream:
        stream.write(b"\0")
    assert "model.onnx does not match its sha256" in refusal(bundle)


def test_a_file_name_may_not_leave_the_folder(bundle):
    files = dict(read_manifest(bundle).files)
    change(bundle, ["files"], {"../secret": "", **files})
    assert "leaves the bundle's folder" in refusal(bundle)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (["format_version"], 2, "format version is 2"),
        (["timing", "segment_frames"], 0, "positive"),
        (["timing", "window_samples"], 1000, "do not fit"),
        (["timing", "hop", "default_frames"], 99, "hop default lies outside"),
        (["timing", "hop", "min_frames"], 0, "shorter than one frame"),
        (["timing", "hop", "default_samples"], 1, "default hop is 1066 samples"),
        (["timing", "lookahead", "default_samples"], 1, "default lookahead is 1280 samples"),
        (["timing", "prefix_frames"], 90, "do not fit into a segment"),
        (["timing", "context_frames"], 1, "context_frames"),
        (["timing", "context_samples"], 1, "context_samples"),
        (["motion", "channels"], ["a", "a"], "channel names"),
        (["motion", "channels"], [], "channel names"),
        (["styles"], ["other"], "default style"),
        (["model", "file"], "else.onnx", "else.onnx is not in its list"),
    ],
)
def test_sizes_and_names_that_contradict_each_other_are_refused(bundle, path, value, says):
    change(bundle, path, value)
    assert says in refusal(bundle)


def test_writing_a_manifest_that_would_be_refused_raises(bundle):
    manifest = msgspec.structs.replace(read_manifest(bundle), format_version=9)
    with pytest.raises(FaceError, match="format version is 9"):
        write_manifest(manifest, bundle)
