"""What several test files stand on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import fakes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose tiny model is a fake, for servers and commands."""
    return fakes.write_bundle(tmp_path_factory.mktemp("bundle"))
