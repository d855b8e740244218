"""Servers of the web app: the project's own, and one that knows nothing of it."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from pathlib import Path
from typing import Any


class Served:
    """The project's own server, in a thread.

    Attributes:
        url: address of the page.
        site: what is served; `replace` puts another model into it.
    """

    def __init__(self, web: Path, ort: Path, model: Path) -> None:
        from yolo_distill.serve.model import read_model
        from yolo_distill.serve.ort_files import read_ort
        from yolo_distill.serve.security import Names
        from yolo_distill.serve.server import Server
        from yolo_distill.serve.site import Site, read_app

        self.site = Site(read_app(web), read_ort(web, ort, print), read_model(model))
        self._server = Server("127.0.0.1", 0, self.site.table, names=Names("somewhere", ["detector.test"]))
        self.url = f"http://127.0.0.1:{self._server.port}/"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._server:
            self._server.serve_forever()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(10)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    silent: threading.Event

    def do_GET(self) -> None:
        while self.silent.is_set():  # takes the question and says nothing
            time.sleep(0.1)
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Hosted:
    """The built folder on a server of files that sends no headers of ours.

    Attributes:
        url: address of the page.
        silent: set while no question is answered.
    """

    def __init__(self, folder: Path) -> None:
        self.silent = threading.Event()
        handler = functools.partial(type("Handler", (_Quiet,), {"silent": self.silent}), directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/app/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.silent.clear()
        self._server.shutdown()
        self._server.server_close()
