"""A web app that is served, and a browser that looks at it; skipped where one of them cannot be had."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from made_site import running
from visiting import Visit

from yolo_distill.paths import export_dir
from yolo_distill.serve.build import write_folder
from yolo_distill.serve.folders import cache_folder
from yolo_distill.serve.model import read_model
from yolo_distill.serve.ort_files import read_ort
from yolo_distill.serve.site import Site, read_app

_SIDE = 160
# As few processes and services as the tests need, and none that would call home.
_SWITCHES = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--no-first-run"]  # fmt: skip


@pytest.fixture(scope="module")
def web() -> Path:
    """Return the folder of the app."""
    return export_dir() / "web"


@pytest.fixture(scope="module")
def ort(web: Path, chromium: Any) -> Path:
    """Return the folder of onnxruntime-web's files; tests fetch nothing.

    It asks for the browser, so that nothing is exported where there is none.
    """
    names = json.loads((web / "ort.json").read_text("utf-8"))
    given = os.environ.get("YOLO_DISTILL_ORT")
    # In the checkout: the app itself may be that of an installed package, which brings no node_modules.
    beside = Path(__file__).resolve().parents[2] / "export" / "web" / "node_modules" / "onnxruntime-web" / "dist"
    for folder in [Path(given)] if given else [beside, *cache_folder().glob("onnxruntime-web-*")]:
        if all((folder / name).is_file() for name in names):
            return folder
    pytest.skip("no files of onnxruntime-web (npm ci in export/web, or YOLO_DISTILL_ORT says where they are)")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return PNG pictures of several shapes."""
    from live_detector import draw

    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    for number, picture in enumerate(
        [*draw(2, 240, 320, seed=7), *draw(1, 160, 160, seed=8), *draw(1, 301, 97, seed=9)]
    ):
        paths.append(folder / f"{number}.png")
        cv2.imwrite(str(paths[-1]), picture)
    return paths


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a detector exported for browsers."""
    pytest.importorskip("ultralytics")
    from live_detector import draw, live_detector, save

    from yolo_distill.exporting.export import export

    folder = tmp_path_factory.mktemp("model")
    (folder / "images").mkdir()
    for number, picture in enumerate(draw(2, 64, 150)):
        cv2.imwrite(str(folder / "images" / f"{number}.png"), picture)
    (folder / "data.yaml").write_text("train: images\nval: images\nnames: [round, square]\n")
    checkpoint = save(live_detector("yolo26n.yaml"), folder / "best.pt", _SIDE)
    export(checkpoint, imgsz=_SIDE, target="browser", data=folder / "data.yaml", out=folder / "best.onnx")
    return folder / "best.onnx"


@pytest.fixture(scope="module")
def serving(web: Path, ort: Path) -> Any:
    """Return what serves a detector: `with serving(model) as server`; it has a `url`, and a `site` to replace it."""

    @contextmanager
    def serve(model: Path) -> Iterator[SimpleNamespace]:
        site = Site(read_app(web), read_ort(web, ort, print), read_model(model))
        with running(site) as server:
            yield SimpleNamespace(url=f"http://127.0.0.1:{server.port}/", site=site)

    return serve


@pytest.fixture
def served(serving: Any, model: Path) -> Iterator[SimpleNamespace]:
    with serving(model) as server:
        yield server


class _Files(http.server.SimpleHTTPRequestHandler):
    """A server of files that sends no headers of ours; says nothing at all while `silent` is set."""

    silent = threading.Event()

    def do_GET(self) -> None:
        while self.silent.is_set():
            time.sleep(0.1)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hosted(served: SimpleNamespace, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """Return the app in a folder of a static host: its `url`, `silent`, and what can `close` it."""
    (tmp_path / "host").mkdir()
    write_folder(served.site.table(), tmp_path / "host" / "app")
    handler = functools.partial(_Files, directory=str(tmp_path / "host"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def close() -> None:
        _Files.silent.clear()
        server.shutdown()
        server.server_close()

    url = f"http://127.0.0.1:{server.server_address[1]}/app/"
    yield SimpleNamespace(url=url, silent=_Files.silent, close=close)
    close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Return what starts a browser: `chromium(*switches)`; all are closed at the end.

    At the end of a file, not of all tests: playwright's event loop would be in the way of tests with one of their own.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser is steered by playwright")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as running:
        started: dict[tuple[str, ...], Any] = {}

        def start(*switches: str) -> Any:
            if switches not in started:
                gpu = [] if any("webgpu" in one for one in switches) else ["--disable-gpu"]
                # Tests of Ctrl-C send it to their whole group; the browser is none of their business.
                started[switches] = running.chromium.launch(
                    executable_path=found, args=[*_SWITCHES, *gpu, *switches], handle_sigint=False
                )
            return started[switches]

        yield start
        for browser in started.values():
            browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Any]:
    """Return what opens a page: `visit(url, *switches, **settings of the context)`; it has to stay without errors."""
    visits: list[Visit] = []

    def open_page(url: str, *switches: str, **settings: Any) -> Visit:
        visits.append(Visit(chromium(*switches).new_context(**settings), url))
        return visits[-1]

    yield open_page
    errors = [error for one in visits for error in one.errors]
    for one in visits:
        one.close()
    assert errors == []


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video that every Chromium plays, whatever codecs it was built with."""
    from live_detector import draw

    path = tmp_path_factory.mktemp("film") / "film.webm"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), 10, (320, 240))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no WebM")
    for picture in draw(10, 240, 320, seed=5):
        writer.write(picture)
    writer.release()
    return path


@pytest.fixture(scope="module")
def camera(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the switches that give Chromium a camera that shows a real clip."""
    clip = cv2.VideoCapture(str(shared_data / "video" / "person-bicycle-car-preview.mp4"))
    path = tmp_path_factory.mktemp("camera") / "clip.y4m"
    with path.open("wb") as file:
        while (frame := clip.read()[1]) is not None:
            if not file.tell():
                file.write(f"YUV4MPEG2 W{frame.shape[1]} H{frame.shape[0]} F30:1 Ip A1:1 C420jpeg\n".encode())
            file.write(b"FRAME\n" + np.ascontiguousarray(cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420)).tobytes())
    return [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={path}",
    ]


if sys.platform == "win32":  # Chromium is found under other names there, which nobody has tried
    collect_ignore = ["test_app.py"]
