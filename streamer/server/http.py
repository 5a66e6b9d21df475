"""The HTTP half of the port: the page and its files, the bundle's face, health and metrics.

It answers GET and HEAD of a fixed set of places and nothing else; there is no listing and no upload. Rules:

1. A path is split into plain names first: what is empty, begins with a dot, or holds a separator, a colon or
   a control character is not found. The file must then lie inside its root once links are followed.
2. Every file carries an ETag and must be revalidated, so that a new version shows at the next reload.
3. The page may run its own scripts, its inline import map (allowed by hash) and nothing from elsewhere.
4. Files are read off the event loop.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote, urlsplit

from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from streamer.contract.manifest import MANIFEST_NAME, Manifest
from streamer.server.metrics import CONTENT_TYPE, Metrics

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".flac": "audio/flac",
    ".glb": "model/gltf-binary",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".mp3": "audio/mpeg",
    ".npz": "application/octet-stream",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".vrm": "model/gltf-binary",
    ".wasm": "application/wasm",
    ".wav": "audio/wav",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
# Of the installed packages, what a page may load.
_THREE = (
    ["node_modules", "three", "build"],
    ["node_modules", "three", "examples", "jsm"],
    ["node_modules", "@pixiv", "three-vrm", "lib"],
)
# A person's own avatars, for ?avatar=NAME: this folder of the folder that the server was started in.
_AVATARS, _AVATAR_TYPES = Path("avatars"), (".glb", ".vrm")
_PLAIN_NAME = re.compile(r"[^./\\:\x00-\x1f\x7f][^/\\:\x00-\x1f\x7f]*")
_INLINE_SCRIPT = re.compile(rb"<script(?![^>]*\ssrc\s*=)[^>]*>(.*?)</script>", re.DOTALL | re.IGNORECASE)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def find_web_root() -> Path:
    """The page's folder: ``streamer/web`` of an installed wheel, else ``clients/web`` of a checkout."""
    streamer = Path(__file__).parents[1]
    installed = streamer / "web"
    return installed if installed.is_dir() else streamer.parent / "clients" / "web"


class Site:
    """Answers HTTP requests.

    Args:
        web_root: the page's folder. bundle: the bundle's folder. manifest: its manifest.
        metrics: what ``/metrics`` shows. is_ready: what ``/readyz`` says.
    """

    def __init__(
        self, web_root: Path, bundle: Path, manifest: Manifest, metrics: Metrics, is_ready: Callable[[], bool]
    ) -> None:
        self._root = web_root
        self._metrics = metrics
        self._is_ready = is_ready
        self._places = {
            "rig.npz": bundle / manifest.rig.file,
            "bundle.json": bundle / MANIFEST_NAME,
        }
        if manifest.rig.avatar is not None:
            self._places["avatar.glb"] = bundle / manifest.rig.avatar

    async def respond(self, request: Request) -> Response:
        """The answer to a request that is not a WebSocket's."""
        if request.method not in ("GET", "HEAD"):
            response = _text(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are answered.\n")
            response.headers["Allow"] = "GET, HEAD"
        else:
            response = await self._get(request)
        if request.method == "HEAD":
            response.body = b""
        return response

    async def _get(self, request: Request) -> Response:
        try:
            path = urlsplit(request.path).path
        except ValueError:  # no address at all, such as //[
            return _text(HTTPStatus.BAD_REQUEST, "This is no address.\n")
        match path:
            case "/healthz":
                return _text(HTTPStatus.OK, "ok\n")
            case "/readyz":
                ready = self._is_ready()
                status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
                return _text(status, "ready\n" if ready else "not ready\n")
            case "/metrics":
                return answer(HTTPStatus.OK, self._metrics.text(), CONTENT_TYPE)
        if path.startswith("/v1/streams/"):
            response = _text(HTTPStatus.UPGRADE_REQUIRED, "This address is for WebSockets.\n")
            response.headers["Upgrade"] = "websocket"
            return response
        file = await asyncio.to_thread(self.find, path)
        if file is None:
            return _text(HTTPStatus.NOT_FOUND, "There is nothing here.\n")
        return await asyncio.to_thread(_file, file, ", ".join(request.headers.get_all("If-None-Match")))

    def find(self, path: str) -> Path | None:
        """The file that a path names, None where it names none (rule 1)."""
        names = unquote(path).removeprefix("/").split("/")
        if names == [""]:
            names = ["index.html"]
        if not all(_PLAIN_NAME.fullmatch(name) for name in names):
            return None
        if len(names) == 1 and names[0] in self._places:
            return self._places[names[0]]
        if names[0] == "node_modules" and not any(names[: len(part)] == part for part in _THREE):
            return None
        if names[0] == "avatars" and names[-1].lower().endswith(_AVATAR_TYPES):
            return _inside(_AVATARS, names[1:])
        return _inside(self._root, names)


def _inside(root: Path, names: list[str]) -> Path | None:
    try:
        file = root.joinpath(*names).resolve()
        is_served = file.is_relative_to(root.resolve()) and file.is_file()
    except (OSError, ValueError):  # a name that the file system refuses
        return None
    return file if is_served and file.suffix.lower() in _TYPES else None


def _file(path: Path, known: str) -> Response:
    try:
        stat = path.stat()
        tag = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
        if tag in (one.strip().removeprefix("W/") for one in known.split(",")):
            response = answer(HTTPStatus.NOT_MODIFIED, b"", None)
        else:
            response = answer(HTTPStatus.OK, path.read_bytes(), _TYPES[path.suffix.lower()])
    except OSError:
        return _text(HTTPStatus.NOT_FOUND, "This file cannot be read.\n")
    response.headers["ETag"] = tag
    if path.suffix.lower() == ".html" and response.body:
        response.headers["Content-Security-Policy"] = _policy(bytes(response.body))
    return response


def _policy(page: bytes) -> str:
    hashes = (hashlib.sha256(script).digest() for script in _INLINE_SCRIPT.findall(page))
    inline = "".join(f" 'sha256-{base64.b64encode(digest).decode()}'" for digest in hashes)
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' 'wasm-unsafe-eval'{inline}",
            "worker-src 'self' blob:",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "media-src 'self' data: blob:",
            "connect-src 'self' ws: wss: data: blob:",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'self'",
        )
    )


def _text(status: HTTPStatus, text: str) -> Response:
    return answer(status, text.encode(), "text/plain; charset=utf-8")


def answer(status: HTTPStatus, body: bytes, content_type: str | None) -> Response:
    """A whole answer, with the headers that each has."""
    headers = Headers(_HEADERS)
    headers["Date"] = formatdate(usegmt=True)
    headers["Connection"] = "close"
    headers["Cache-Control"] = "no-cache"
    if content_type is not None:
        headers["Content-Type"] = content_type
        headers["Content-Length"] = str(len(body))
    return Response(status.value, status.phrase, headers, body)
