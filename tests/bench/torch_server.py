"""A server that answers `POST /query` by the torch model, as upstream's does on its GPU."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.reference import TorchSubject
from edge_runtime.image_files import decode_as_stored
from edge_runtime.records import U8, RelativeDepth, View


@contextmanager
def torch_server(checkpoint: Path) -> Iterator[str]:
    """Serve a checkpoint on a free port of this machine; gives the address."""
    subject = TorchSubject.open(checkpoint)
    one_at_a_time = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            pictures = [_picture(data) for data in (*asked["image_url"], *asked["depth_url"])]
            view = View(pictures[0], RelativeDepth(pictures[1]) if asked["enable_depth"] else None)
            with one_at_a_time:
                (written,) = subject.answer(view, [asked["text"]])
            body = json.dumps({"result": 1, "answer": written.text.strip()}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


def _picture(data: str) -> U8:
    return decode_as_stored(base64.b64decode(data), name="picture")
