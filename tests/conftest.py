"""What several test files stand on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import fakes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose tiny model is a fake, for servers and commands."""
    return fakes.write_bundle(tmp_path_factory.mktemp("bundle"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a CUDA device is skipped where ONNX Runtime has none."""
    if any(item.get_closest_marker("gpu") for item in items):
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            return
        skip = pytest.mark.skip(reason="needs a CUDA device and onnxruntime-gpu")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)
