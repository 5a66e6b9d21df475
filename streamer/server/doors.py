"""Who gets in: what a hello's token opens, and which web pages may knock.

Three kinds of token, any of which may be there:

- *one for everything*: ``--token``, and all who know it may do all.
- *listed*: a file of secrets (``--tokens``), each for a role and for streams by a pattern. ``publish`` also
  allows ``converse``, which is speaking and watching; ``watch`` allows watching.
- *signed*: a short-lived JSON Web Token (HS256) that somebody who knows ``--signing-key`` made, with
  ``diffspeaker token`` or any library: claims ``exp``, ``role`` and ``streams``. For browsers, which cannot
  keep a secret.

Rules: secrets are compared in constant time, all of them every time; none is ever in a message or a log; a
token that is right but not for this role or stream is refused with the same words as a wrong one. Where no
token is asked for, pages from elsewhere are kept out by their Origin, because a browser connects to anything
on its own machine.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import urlsplit

import jwt

from streamer.contract import wire
from streamer.contract.errors import FaceError
from streamer.server.limits import Guest

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1", re.IGNORECASE)
_ROLES = ("publish", "watch", "any")
_SHORTEST = 16  # characters of a listed secret
SHORTEST_KEY = 32  # bytes of a signing key, as many as HS256's digest has


@dataclass(frozen=True)
class Pass:
    """What a secret opens: ``role`` is ``publish``, ``watch`` or ``any``, ``streams`` a pattern.

    ``max_connections`` is how many may be open with it at one time; None is no limit.
    """

    secret: bytes
    role: str = "any"
    streams: str = "*"
    max_connections: int | None = None

    def opens(self, role: wire.Role, stream: str) -> bool:
        """Whether it is for this role and stream."""
        return _allows(self.role, role) and fnmatchcase(stream, self.streams)


@dataclass(frozen=True)
class Doors:
    """The doors of one server.

    Attributes:
        passes: listed secrets. signing_key: of signed tokens, None where there are none.
        allowed_origins: pages that may connect without a token; ``*`` is any.
        clock: seconds since 1970.
    """

    passes: tuple[Pass, ...] = ()
    signing_key: bytes | None = None
    allowed_origins: tuple[str, ...] = ()
    clock: Callable[[], float] = time.time

    @property
    def asks(self) -> bool:
        """Whether a token is needed."""
        return bool(self.passes) or self.signing_key is not None

    def admit(self, token: str | None, role: wire.Role, stream: str, origin: str | None) -> Guest:
        """Lets a client in, or raises ``unauthorized``."""
        if not self.asks:
            self._check_origin(origin)
            return Guest("anybody")
        if token is None:
            raise FaceError("unauthorized", "The token is missing.")
        given = token.encode()
        opened: Guest | None = None
        for number, listed in enumerate(self.passes):
            same = hmac.compare_digest(given, listed.secret)
            if same and listed.opens(role, stream):
                opened = Guest(f"token {number + 1}", listed.max_connections)
        if opened is None and self.signing_key is not None:
            opened = self._signed(token, role, stream)
        if opened is None:
            raise FaceError("unauthorized", "The token is wrong, or not for this role and stream.")
        return opened

    def _signed(self, token: str, role: wire.Role, stream: str) -> Guest | None:
        assert self.signing_key is not None
        try:
            claims = jwt.decode(
                token,
                self.signing_key,
                algorithms=["HS256"],
                options={"require": ["exp", "role"], "verify_exp": False},
            )
            expires = float(claims["exp"])
        except (jwt.PyJWTError, TypeError, ValueError, OverflowError, RecursionError):
            return None
        if not math.isfinite(expires):  # it would never end
            return None
        if expires <= self.clock():
            raise FaceError("unauthorized", "The token has expired.", "Get a new one and connect again.")
        pattern = claims.get("streams", "*")
        if not isinstance(pattern, str) or not _allows(str(claims["role"]), role):
            return None
        most = claims.get("max_connections")
        if not (most is None or (type(most) is int and most > 0)) or not fnmatchcase(stream, pattern):
            return None
        # Who has no name of its own is told apart by the token itself: a digest, which opens nothing.
        name = str(claims.get("sub") or hashlib.sha256(token.encode()).hexdigest()[:12])[:64]
        return Guest(f"signed {name}", most)

    def _check_origin(self, origin: str | None) -> None:
        if origin is None or origin in self.allowed_origins or "*" in self.allowed_origins:
            return
        try:
            host = urlsplit(origin).hostname or ""
        except ValueError:  # no address at all, such as http://[
            host = ""
        if not _LOOPBACK.fullmatch(host):
            raise FaceError(
                "unauthorized",
                f"Web pages from {origin[:80]} may not connect here.",
                "Start the server with --token, or with --allow-origin and the page's address.",
            )


def _allows(allowed: str, role: wire.Role) -> bool:
    if allowed == "any":
        return True
    return role == "watch" if allowed == "watch" else allowed == "publish" and role in ("publish", "converse")


def sign(key: bytes, role: str, streams: str, seconds: float, now: float, subject: str = "") -> str:
    """A signed token that opens ``streams`` for ``role`` until ``now + seconds``."""
    claims = {"role": role, "streams": streams, "exp": int(now + seconds), "sub": subject}
    return jwt.encode(claims, key, algorithm="HS256")


def read_tokens(path: Path) -> tuple[Pass, ...]:
    """The secrets of a TOML file::

        [[token]]
        secret = "correct horse battery staple"
        role = "publish"      # publish, watch or any
        streams = "bot-*"     # * where left out
        max_connections = 4   # at one time; any number where left out

    Raises:
        FaceError: ``bad_config``, with the place and never the secret.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FaceError("bad_config", f"The tokens in {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):  # also of a number or a nesting that is too long for Python
        # The parser's own words may quote the line.
        raise FaceError(
            "bad_config", f"The tokens in {path} are not TOML.", "See the example in SECURITY.md."
        ) from None
    entries = document.get("token")
    if set(document) != {"token"} or not isinstance(entries, list) or not entries:
        raise FaceError("bad_config", f"{path} holds no [[token]].", "See the example in SECURITY.md.")
    return tuple(_pass(entry, f"token {number} of {path}") for number, entry in enumerate(entries, start=1))


def _pass(entry: object, place: str) -> Pass:
    def refuse(what: str) -> FaceError:
        return FaceError("bad_config", f"The {place} {what}.", "See the example in SECURITY.md.")

    texts = {"secret", "role", "streams"}
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key, ""), str) for key in texts):
        raise refuse("is not a table of texts")
    unknown = set(entry) - texts - {"max_connections"}
    if unknown:
        raise refuse(f"has an unknown key {min(unknown)}")
    if len(entry.get("secret", "")) < _SHORTEST:
        raise refuse(f"needs a secret of at least {_SHORTEST} characters")
    if entry.get("role", "any") not in _ROLES:
        raise refuse(f"has a role that is none of {', '.join(_ROLES)}")
    most = entry.get("max_connections")
    if most is not None and (type(most) is not int or most < 1):
        raise refuse("has a max_connections that is no whole number from 1 on")
    return Pass(entry["secret"].encode(), entry.get("role", "any"), entry.get("streams", "*"), most)


def read_key(path: Path) -> bytes:
    """A signing key from a file, without the white space around it; raises ``bad_config``."""
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise FaceError("bad_config", f"The key in {path} cannot be read: {error.strerror}.") from None
    if len(key) < SHORTEST_KEY:
        raise FaceError(
            "bad_config",
            f"The key in {path} is shorter than {SHORTEST_KEY} bytes.",
            "Make one: openssl rand -base64 48",
        )
    return key


def doors(
    token: str | None,
    tokens: Path | None,
    signing_key: Path | None,
    allowed_origins: Sequence[str],
) -> Doors:
    """The doors that a server's options describe; raises ``bad_config``."""
    passes = (Pass(token.encode()),) if token else ()
    return Doors(
        passes=passes + (read_tokens(tokens) if tokens else ()),
        signing_key=read_key(signing_key) if signing_key else None,
        allowed_origins=tuple(allowed_origins),
    )
