"""A web server for tests of downloads: it serves files, and misbehaves as it is told."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What is served, and the faults to come.

    Attributes:
        files: path -> content.
        faults: one for each request of a file, the first first: a status, ``cut`` (half of the
            body, then nothing), ``page`` (an HTML page), ``whole`` (ranges are ignored),
            ``nowhere`` (sends elsewhere), ``no-length`` (a length that is none), ``drip`` (a byte
            at a time).
        requests: path and Range header of each request.
    """

    files: dict[str, bytes]
    faults: list[int | str] = field(default_factory=list)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    """Serve on a free port of this machine; ``site.url`` says where."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, site)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    wanted = handler.headers.get("Range")
    site.requests.append((handler.path, wanted))
    content = site.files.get(handler.path)
    fault = site.faults.pop(0) if content is not None and site.faults else None
    if isinstance(fault, int) or content is None:
        handler.send_error(fault if isinstance(fault, int) else 404)
        return
    if fault == "page":
        send(handler, 200, b"<html>Please log in</html>", {"Content-Type": "text/html"})
        return
    if fault == "nowhere":
        send(handler, 302, b"", {"Location": "http://[nonsense"})
        return
    if fault == "no-length":
        send(handler, 200, content, {"Content-Length": "many"})
        return
    start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and fault != "whole" else 0
    if start >= len(content) > 0:
        send(handler, 416, b"", {"Content-Range": f"bytes */{len(content)}"})
        return
    ranges = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
    body = content[start:]
    send(
        handler,
        206 if start else 200,
        body,
        ranges,
        sent=len(body) // 2 if fault == "cut" else None,
        drips=fault == "drip",
    )


def send(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    headers: dict[str, str],
    sent: int | None = None,
    *,
    drips: bool = False,
) -> None:
    handler.send_response(status)
    for name, value in ({"Content-Type": "application/octet-stream"} | headers).items():
        handler.send_header(name, value)
    if "Content-Length" not in headers:
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if drips:
        with contextlib.suppress(OSError):  # the other side has lost patience
            for place in range(100):
                handler.wfile.write(body[place : place + 1])
                time.sleep(0.05)
        return
    handler.wfile.write(body[:sent])
