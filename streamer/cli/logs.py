"""What the server logs, on stderr: one event per line, for people or for machines.

An event is a short name and fields (``extra=`` of Python's logging): which stream, which session, who, why.
The fields of a session's events are the same everywhere, so that one search finds its whole life. No event
holds audio or a token.

``text``: ``2026-01-31T12:00:00.000Z INFO stream opened  stream=anna session=5f2c…``. ``json``: an object per
line with ``time``, ``level``, ``event``, ``logger`` and the fields; a ``traceback`` is one of them.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

FORMATS = ("text", "json")
_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


class EventFormatter(logging.Formatter):
    """Formats events; ``as_json`` chooses for whom."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """One line, and in text a traceback where there is one."""
        moment = datetime.fromtimestamp(record.created, UTC)
        time = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = {name: value for name, value in vars(record).items() if name not in _OWN}
        traceback = self.formatException(record.exc_info) if record.exc_info else None
        if self._as_json:
            event = {"time": time, "level": record.levelname.lower(), "event": record.getMessage()}
            event |= {"logger": record.name, **fields}
            if traceback:
                event["traceback"] = traceback
            return json.dumps(event, default=str)
        named = "".join(f" {name}={_shown(value)}" for name, value in fields.items())
        line = f"{time} {record.levelname} {record.getMessage()}{' ' if named else ''}{named}"
        return f"{line}\n{traceback}" if traceback else line


def configure(level: str, form: str) -> None:
    """Sends the events from ``level`` on to stderr, in one of ``FORMATS``."""
    handler = logging.StreamHandler()
    handler.setFormatter(EventFormatter(form == "json"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # Our events, one per line: at debug, the socket library would log every message of every client.
    logging.getLogger("websockets").setLevel(logging.INFO)


def _shown(value: Any) -> str:
    text = str(value)
    is_plain = text.isprintable() and text.isascii() and not any(mark in text for mark in " \"'=\\") and text
    return text if is_plain else json.dumps(text)
