"""A server that answers as Google Cloud Storage does to whoever lists and reads a bucket."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

BUCKET = "shop"


@contextmanager
def bucket_server(objects: Mapping[str, bytes]) -> Iterator[str]:
    """Gives the server's URL, for `STORAGE_EMULATOR_HOST`; `objects` are name -> content and may change meanwhile."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            url = urlsplit(self.path)
            asked = dict(parse_qsl(url.query))
            # /storage/v1/b/BUCKET/o/NAME, and below /download for what is in it
            _, bucket, *object_ = map(unquote, url.path.removeprefix("/download").split("/")[3:])
            if bucket != BUCKET:
                self._answer(404, {"error": {"code": 404, "message": "no such bucket"}})
            elif len(object_) < 2:
                self._answer(200, {"items": [told(n) for n in sorted(objects) if n.startswith(asked["prefix"])]})
            elif object_[1] not in objects:
                self._answer(404, {"error": {"code": 404, "message": "no such object"}})
            elif asked.get("alt") == "media":
                self._send(objects[object_[1]])
            else:
                self._answer(200, told(object_[1]))

        def _send(self, content: bytes) -> None:
            first, _, last = self.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
            part = content[int(first) : int(last) + 1 if last else None]
            self.send_response(206)
            self.send_header("content-range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
            self.send_header("content-length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

        def _answer(self, code: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    def told(name: str) -> dict[str, str]:
        known = {"name": name, "bucket": BUCKET, "size": str(len(objects[name])), "generation": "1"}
        return {**known, "updated": "2025-02-01T00:00:00Z"}

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
