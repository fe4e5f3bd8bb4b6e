"""A server with the paths of a Kubeflow Pipelines endpoint, which notes down what it is asked."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def kubeflow_endpoint(port: int = 0) -> Iterator[tuple[str, list[Any], type]]:
    """Gives its URL, what it was asked (path, body, authorization), and its handler, whose `refuses` may be set."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        refuses = False

        def do_GET(self):
            self._answer({})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append((self.path, body, self.headers.get("authorization")))
            self._answer({"experiment_id": "e1", "run_id": "r1", "recurring_run_id": "j1"})

        def _answer(self, told):
            self.send_response(403 if Handler.refuses else 200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"error": "not for you"} if Handler.refuses else told).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("localhost", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}", asked, Handler
    finally:
        server.shutdown()
        server.server_close()
