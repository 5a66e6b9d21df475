"""Files and folders that appear under their names only when they are whole.

What is written stands beside its place under a temporary name, ``.NAME.PID.part``, and is moved when the
block ends well. An error or Ctrl-C leaves nothing, and what stood there before stays as it was. A disk that
is full, or any other refusal of the system, becomes one sentence.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from streamer.contract.errors import FaceError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """A temporary path to write to, whose file becomes ``path`` when the block ends well.

    Raises:
        FaceError: ``bad_output``, the system refused to write or to move.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise refusal(path, error.errno, error.strerror or str(error)) from None
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary stream that becomes ``path`` when the block ends well; raises as ``whole_path`` does."""
    with whole_path(path) as part, part.open("wb") as stream:
        yield stream


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``path`` when the block ends well.

    Raises:
        FaceError: ``bad_output``, there is something at ``path`` already, or the system refused.
    """
    check_free(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.mkdir()
        yield part
        if path.exists():
            path.rmdir()  # empty, or it would not be free
        part.rename(path)
    except OSError as error:
        raise refusal(path, error.errno, error.strerror or str(error)) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_free(path: Path) -> None:
    """Refuses a place for a folder that is neither free nor an empty folder.

    Raises:
        FaceError: ``bad_output``.
    """
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        what = "is not empty" if path.is_dir() else "is a file"
        raise FaceError(
            "bad_output", f"{path} {what}, and pictures want a folder of their own.", "Name a new folder."
        )


def refusal(path: Path, number: int | None, reason: str) -> FaceError:
    """What to say when the system refuses to write ``path``, for a reason that has a number in ``errno``."""
    hint = "Make room, or write to another disk." if number in _NO_ROOM else None
    return FaceError("bad_output", f"{path} cannot be written: {reason}.", hint)
