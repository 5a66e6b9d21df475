"""Every reader of bytes from outside answers any bytes with a result or a named error, and bugs are found."""

from __future__ import annotations

import io
import json
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import runner
from benchmarks.fuzz.__main__ import LIVE, main
from benchmarks.fuzz.files import endless_flac
from benchmarks.fuzz.mutate import json_mutator
from benchmarks.fuzz.targets import TARGETS
from streamer.contract.errors import FaceError
from streamer.engine.recording import Recording
from tests import fakes

ROOT = Path(__file__).parents[1]


def needs_the_fuzzer() -> None:
    if not runner.is_available():
        missing = "atheris is not installed (it has wheels for Linux and Python before 3.14)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)


# ---- any bytes, and what was a good input once -----------------------------------------------------------


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Callable[[bytes], None]]:
    return cache(lambda name: TARGETS[name].prepare(tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[bytes]]:
    return cache(lambda name: TARGETS[name].seeds(tmp_path_factory.mktemp(name)))


def obeys(function: Callable[[bytes], None], message: bytes) -> bool:
    """Whether it was taken; raises where the answer is neither a result nor a named error."""
    try:
        function(message)
    except FaceError as error:
        assert error.message.strip() and error.hint
        return False
    return True


@pytest.mark.parametrize("name", TARGETS)
def test_the_inputs_to_begin_from_are_good_ones(name: str, reader: Any, seeds: Any) -> None:
    assert any(obeys(reader(name), seed) for seed in seeds(name))


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_a_result_or_a_named_error(name: str, reader: Any, seeds: Any) -> None:
    edits = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 3), st.binary(max_size=4)), max_size=6)

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.sampled_from([b"", *seeds(name)]), edits)
    def changed(seed: bytes, changes: list[tuple[int, int, bytes]]) -> None:
        made = bytearray(seed)
        for place, dropped, put in changes:
            at = place % (len(made) + 1)
            made[at : at + dropped] = put
        obeys(reader(name), bytes(made))

    @settings(max_examples=30, deadline=None, database=None)
    @given(st.binary(max_size=200))
    def anything(message: bytes) -> None:
        obeys(reader(name), message)

    changed()
    anything()


def npz(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return packed.getvalue()


def npy(description: str, shape: str, payload: bytes = b"") -> bytes:
    header = f"{{'descr':{description},'fortran_order':False,'shape':{shape}}}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + payload


def wav(rate_hz: int, channels: int, payload: bytes) -> bytes:
    form = struct.pack("<HHIIHH", 1, channels, rate_hz, 0, 2 * channels, 16)
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(payload)) + payload
    return b"RIFF" + struct.pack("<I", len(body)) + body


# What fuzzing and reading found: each of these was an exception without a name, or memory without a bound.
FOUND: dict[str, tuple[str, bytes]] = {
    "an Origin that is no address": ("doors", b"Ohttp://["),
    "a token whose end is beyond all numbers": ("doors", b'C{"role":"any","exp":1' + b"0" * 400 + b"}"),
    "a token that ends never": ("doors", b'C{"role":"any","exp":Infinity}'),
    "a token that ends at no time": ("doors", b'C{"role":"any","exp":NaN}'),
    "tokens nested too deeply": ("tokens", b"a=" + b"[" * 5000),
    "tokens with a number too long": ("tokens", b"a=" + b"9" * 5000),
    "options nested too deeply": ("config", b"a=" + b"[" * 5000),
    "options with a number too long": ("config", b"[serve]\nport=" + b"9" * 5000),
    "options with a number beyond all numbers": ("config", b"[serve]\nhop_ms=1" + b"0" * 400),
    "options with a path that no system has": ("config", b'[serve]\nbundle="a\\u0000b"'),
    "a request for no address": ("http", b"GET //[ HTTP/1.1\r\n\r\n"),
    "a rig that is no zip": ("bundle", b"RPK\3\4" + bytes(100)),
    "a rig that is one array": ("bundle", b"R" + npy("'<f4'", "(3,)", bytes(12))),
    "a rig whose header does not end": ("bundle", b"A\x93NUMPY\x01\0\5\0((((("),
    "a rig of a terabyte": ("bundle", b"A" + npy("'<f4'", "(100000000000,3)")),
    "a rig of more than all numbers": ("bundle", b"A" + npy("'<f4'", "(" + "9" * 40 + ",3)")),
    "a rig whose names are 2 GB": ("bundle", b"A" + npy("'<U10000000'", f"({len(fakes.CHANNELS)},)")),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found_is_a_named_error_now(what: str, reader: Any) -> None:
    name, message = FOUND[what]
    if name in ("doors", "http"):  # their readers look at the refusal themselves
        reader(name)(message)
    else:
        with pytest.raises(FaceError):
            reader(name)(message)


def bundle_with(folder: Path, change: Callable[[dict[str, Any], Path], None]) -> Path:
    bundle = fakes.write_bundle(folder / "bundle")
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest, bundle)
    if not (bundle / "manifest.json").is_symlink():
        (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


def long_name(manifest: dict[str, Any], bundle: Path) -> None:
    manifest["files"]["x" * 300] = ""


def huge_window(manifest: dict[str, Any], bundle: Path) -> None:
    timing = manifest["timing"]
    timing["context_samples"] += (1 << 40) - timing["window_samples"]
    timing["window_samples"] = 1 << 40


def huge_rig(manifest: dict[str, Any], bundle: Path) -> None:
    manifest["rig"]["vertices"] = 10**30


def endless_manifest(manifest: dict[str, Any], bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    (bundle / "manifest.json").symlink_to("/dev/zero")


def long_manifest(manifest: dict[str, Any], bundle: Path) -> None:
    manifest["name"] = "x" * (2 << 20)


def fast_frames(manifest: dict[str, Any], bundle: Path) -> None:
    manifest["timing"] |= {"frame_rate_hz": 10**400, "sample_rate_hz": 533 * 10**400}


def outside(manifest: dict[str, Any], bundle: Path) -> None:
    manifest["files"][".."] = ""


@pytest.mark.parametrize(
    "change", [long_name, huge_window, huge_rig, endless_manifest, long_manifest, fast_frames, outside]
)
def test_a_bundle_of_a_stranger_is_refused_before_it_costs_anything(
    tmp_path: Path, change: Callable[[dict[str, Any], Path], None]
) -> None:
    from streamer.engine.bundle import Bundle

    if change is endless_manifest and not Path("/dev/zero").exists():
        pytest.skip("this system has no /dev/zero")
    bundle = bundle_with(tmp_path, change)
    tracemalloc.start()
    try:
        with pytest.raises(FaceError, match="bundle|manifest") as refused:
            Bundle.load(bundle)
        assert refused.value.code == "bad_bundle"
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def rigs() -> dict[str, Callable[[dict[str, Any]], None]]:
    def holey(arrays: dict[str, Any]) -> None:
        arrays["template"][0, 0] = np.nan

    def faceless(arrays: dict[str, Any]) -> None:
        arrays["faces"] = np.array([[0, 1, fakes.VERTICES]], np.int32)

    def negative(arrays: dict[str, Any]) -> None:
        arrays["faces"] = np.array([[0, 1, -1]], np.int32)

    def crowded(arrays: dict[str, Any]) -> None:
        arrays["faces"] = np.zeros((1 << 16, 3), np.int32)

    return {"no number": holey, "too high a face": faceless, "a negative face": negative, "faces": crowded}


@pytest.mark.parametrize("wrong", rigs())
def test_a_rig_that_a_renderer_would_fall_over_is_refused(tmp_path: Path, wrong: str) -> None:
    from streamer.contract.manifest import sha256
    from streamer.engine.bundle import Bundle

    def change(manifest: dict[str, Any], bundle: Path) -> None:
        with np.load(bundle / "rig.npz") as good:
            arrays = dict(good)
        rigs()[wrong](arrays)
        np.savez(bundle / "rig.npz", **arrays)
        manifest["files"]["rig.npz"] = sha256(bundle / "rig.npz")

    bundle = Bundle.load(bundle_with(tmp_path, change))
    with pytest.raises(FaceError, match="rig.npz is not a rig"):
        _ = bundle.rig


# ---- sound ----


def long_silence(form: str, kind: str, minutes: int) -> bytes:
    """Silence, in a file that is as small as the format makes it."""
    packed = io.BytesIO()
    with soundfile.SoundFile(packed, "w", 8_000, 1, format=form, subtype=kind) as sound:
        for _ in range(minutes):
            sound.write(np.zeros(60 * 8_000, np.int16))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("form", "kind", "minutes"), [("FLAC", "PCM_16", 60), ("OGG", "OPUS", 5), ("MP3", "MPEG_LAYER_III", 5)]
)
def test_a_small_file_that_lasts_long_is_read_in_the_memory_of_a_second(
    tmp_path: Path, form: str, kind: str, minutes: int
) -> None:
    bomb = long_silence(form, kind, minutes)
    (tmp_path / "bomb").write_bytes(bomb)
    tracemalloc.start()
    try:
        heard = sum(len(chunk) for chunk in Recording.open(tmp_path / "bomb").chunks())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert heard >= minutes * 60 * 8_000
    assert peak < 4 << 20
    if form == "FLAC":
        assert len(bomb) < heard / 100


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.flac", endless_flac()),
        ("a.raw", bytes(1000)),
        ("a.wav", wav(16_000, 0, bytes(1000))),
        ("a.wav", wav(0, 1, bytes(1000))),
    ],
)
def test_a_sound_file_that_promises_what_it_does_not_hold_is_refused(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FaceError) as refused:
        list(Recording.open(tmp_path / name).chunks())
    assert refused.value.code == "bad_audio_file"


def test_a_thousand_channels_at_a_billion_samples_a_second_are_read_in_small_blocks(tmp_path: Path) -> None:
    (tmp_path / "wide.wav").write_bytes(wav(2_000_000_000, 1000, bytes(2000 * 3000)))
    chunks = list(Recording.open(tmp_path / "wide.wav").chunks())
    assert sum(map(len, chunks)) == 3000
    assert max(map(len, chunks)) <= (1 << 20) // 1000


# ---- the fuzzer itself -----------------------------------------------------------------------------------


def test_json_is_mutated_as_json_and_stays_within_the_length() -> None:
    text = b'C{"role":"any","exp":1,"nested":{"list":[1,2,{"a":null}]}}'
    mutate = json_mutator(lambda given, longest: b"bytes")
    made = [mutate(text, 300, seed) for seed in range(400)]
    assert {b"bytes"} < set(made) and max(map(len, made)) <= 300
    documents = [json.loads(one[1:]) for one in made if one != b"bytes"]
    assert len(documents) > 200 and any("exp" not in one for one in documents)
    assert mutate(b"no object", 300, 1) == mutate(b"{broken", 300, 1) == b"bytes"


@pytest.mark.parametrize(
    ("planted", "kind", "says"),
    [
        ("EXCEPTION", "exception", "KeyError at planted_bugs.py"),
        ("OTHER", "exception", "Other at planted_bugs.py"),
        ("CRASH", "crash", "deadly signal"),
        ("HANG", "crash", "timeout"),
        ("MEMORY", "memory", "more than 700 MB"),
    ],
)
def test_a_planted_bug_is_found(tmp_path: Path, planted: str, kind: str, says: str) -> None:
    needs_the_fuzzer()
    hangs_s = 1 if planted == "HANG" else 20
    counts = runner.fuzz(
        f"tests.planted_bugs:{planted}", 60, tmp_path / "run", seed=7, hangs_s=hangs_s, until_found=True
    )
    assert [one["kind"] for place, one in counts["findings"].items() if says in place] == [kind], counts
    assert counts["inputs"] > 0
    assert list((tmp_path / "run").glob("found-*")) or list((tmp_path / "run").glob("crashed-*"))


@pytest.mark.slow
def test_the_command_fuzzes_every_reader_and_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_the_fuzzer()
    words = [word for name in TARGETS for word in ("--target", name)]
    code = main(
        ["--seconds", "0.5", "--json", str(tmp_path / "counts.json"), "--folder", str(tmp_path / "f"), *words]
    )
    printed = capsys.readouterr().out
    assert code == 0, printed
    result = json.loads((tmp_path / "counts.json").read_text())
    assert result["findings"] == 0 and result["machine"]["cores"] >= 1
    assert set(result["targets"]) == set(TARGETS)
    for name, counts in result["targets"].items():
        assert counts["inputs"] >= 5, name
        assert counts["coverage"] > 0, name
        assert not counts["crashes"] and counts["peak_mb"] < 1000, name


def test_the_committed_counts_are_of_every_target_and_nothing_was_found() -> None:
    results = list((ROOT / "benchmarks" / "results").glob("fuzz-*.json"))
    assert results
    for path in results:
        result = json.loads(path.read_text())
        assert result["findings"] == 0
        assert set(result["targets"]) == {*TARGETS, *LIVE}
