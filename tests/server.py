"""A server on this machine that answers as it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answers:
    """What a server answers.

    Attributes:
        address: Of the server, without a slash at its end.
        bodies: Contents by path.
        missing_bytes: How many bytes of each body are left out at its end, unannounced.
        asked: The paths that were asked for.
        redirects: Addresses that paths are redirected to.
        pause: Seconds between two bytes; 0 sends all at once.
    """

    address: str
    bodies: dict[str, bytes] = field(default_factory=dict)
    missing_bytes: int = 0
    asked: list[str] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0


@contextmanager
def serving() -> Iterator[Answers]:
    """Serve on a free port of the loopback while in this context."""
    answers = Answers("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers.asked.append(self.path)
            if (elsewhere := answers.redirects.get(self.path)) is not None:
                self.send_response(302)
                self.send_header("Location", elsewhere)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = answers.bodies.get(self.path.partition("?")[0])
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            whole = body[: len(body) - answers.missing_bytes]
            if not answers.pause:
                self.wfile.write(whole)
                return
            with suppress(OSError):  # the reader has given up
                for byte in whole:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(answers.pause)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answers.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
