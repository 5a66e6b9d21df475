"""The most memory that this process ever had."""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_mb() -> float:
    """Resident, in mebibytes; 0 where the system does not tell.

    From Linux itself: what ``getrusage`` says begins with the memory of whoever started the process.
    """
    if not _STATUS.exists():
        return 0.0
    (line,) = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024
