"""The web app in a real browser: what it finds, how it holds up, and what it says when something is missing."""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from looking import SCHEMES, WIDTHS, cut_off
from made_detector import dense, rows, write_detector

from yolo_distill import Detections, Detector
from yolo_distill.serve.build import write_folder
from yolo_distill.serve.model import read_model

pytestmark = pytest.mark.browser
#: Threads that the page uses at least; the browser, too, counts the cores that it may use.
THREADS = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 2)
FIRST, SECOND = (32, 32, 20, 10, 0.9, 0.1, 0), (20, 40, 8, 8, 0.1, 0.2, 0.6)  # centre, size, three scores


def assert_same(found: Detections, expected: Detections, pixels: float = 0.5, score: float = 1e-3) -> None:
    assert found.labels() == expected.labels()
    np.testing.assert_allclose(found.xyxy, expected.xyxy, rtol=0, atol=pixels)
    np.testing.assert_allclose(found.confidence, expected.confidence, rtol=0, atol=score)


def detect(model: Path, picture: Path, **settings: float) -> Detections:
    return Detector(model)(cv2.imread(str(picture)), **settings)


def small(path: Path) -> Path:
    """Write a detector of a few nodes whose scores follow the picture's brightness."""
    raw = dense(FIRST, SECOND)
    return write_detector(path, raw, gain=raw / 8)


def test_dropped_pictures(served, visit, model, pictures, tmp_path):
    """The boxes are Python's, computed on several threads; the settings hold, and nobody else is asked for anything."""
    page = visit(served.url, accept_downloads=True).ready()
    assert page.text("backend").startswith("WASM")
    assert int(page.text("backend").split()[1]) >= THREADS
    assert page.text("reading-model") == "best.onnx"
    for picture in pictures:
        expected = detect(model, picture)
        assert len(expected)
        assert_same(page.look_at(picture), expected)

    page.look_at(pictures[0])
    page.page.locator("#conf").fill("0.5")
    page.page.locator("#iou").fill("0.3")
    expected = detect(model, pictures[0], conf=0.5, iou=0.3)
    page.until(f"app.view.shown.found.scores.length === {len(expected)}")
    assert_same(page.found(), expected)
    assert page.text("conf-value") == "0.50"
    page.page.locator("#filter summary").click()
    page.page.get_by_label("square").uncheck()
    page.until("app.view.shown.found.classId.every((one) => one === 0)")
    assert page.text("filter-count") == "1 of 2"
    assert page.text("status").startswith("Seen: ")

    with page.page.expect_download() as saving:
        page.page.get_by_role("button", name="Save").click()
    saving.value.save_as(tmp_path / "saved.png")
    saved, picture = cv2.imread(str(tmp_path / "saved.png")), cv2.imread(str(pictures[0]))
    assert saved.shape == picture.shape
    untouched = (saved == picture).all(-1).mean()
    assert 0.3 < untouched < 0.999  # the picture itself, with boxes on it
    assert page.strangers() == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_is_cut_off_and_nothing_lies_on_the_picture(served, visit, pictures, tmp_path, width, scheme):
    page = visit(served.url, viewport={"width": width, "height": 844}, color_scheme=scheme).ready()
    page.look_at(pictures[0])
    page.page.screenshot(path=tmp_path / "serve.png")
    assert cut_off(page.page) == []
    sides = "(({ top, bottom }) => [top, bottom])(document.getElementById('%s').getBoundingClientRect())"
    picture, readings = (page.page.evaluate(sides % name) for name in ("view", "readings"))
    assert readings[0] >= picture[1]
    assert readings[1] > readings[0]


def test_other_files(served, visit, pictures, tmp_path):
    """A model dropped onto the page takes the place of the one before, for the picture that is shown as well."""
    page = visit(served.url).ready()
    page.look_at(pictures[0])
    columns, final = dense(FIRST, SECOND), rows((5, 6, 40, 30, 0.8, 2), (1, 2, 30, 40, 0.5, 0))
    files: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "half": (columns, {"half": True}),
        "dynamic": (columns, {"dynamic": True, "batch": None}),
        "two at a time": (columns, {"batch": 2}),
        "end to end": (final, {}),
        "end to end by its shape": (final, {"end2end": None, "half": True}),
    }
    for name, (raw, notes) in files.items():
        path = write_detector(tmp_path / f"{name}.onnx", raw, gain=raw / 8, **notes)
        with page.answering():
            page.drop(path)
            page.until(f"app.model.name === '{path.name}'")
        expected = detect(path, pictures[0])
        assert len(expected)
        assert_same(page.found(), expected)
        assert page.page.locator("#iou").is_disabled() == name.startswith("end")


def test_a_camera(served, visit, camera):
    """Frames flow, the newest one at a time, and the page stays free meanwhile."""
    page = visit(served.url, *camera, permissions=["camera"]).ready()
    page.page.get_by_role("button", name="Start camera").click()
    page.until("app.view.shown && app.view.shown.found.scores.length && globalThis.answers > 5")
    with page.answering(15):
        page.page.evaluate("longTasks.length = 0")
    assert page.page.evaluate("Math.max(0, ...longTasks)") < 200  # 50 on a machine that does nothing else
    page.until("document.getElementById('fps').textContent.match(/[0-9]/)")
    assert page.text("latency").endswith(" ms")
    assert page.page.evaluate("app.meter.latency") > 0
    pause = page.page.get_by_role("button", name="Pause")
    pause.click()
    page.until("!app.newest.busy")
    assert pause.get_attribute("aria-pressed") == "true"
    assert page.text("status") == "Paused"
    stopped = page.page.evaluate("globalThis.answers")
    page.page.locator("#conf").fill("0.99")
    page.until("!app.view.shown.found.scores.some((score) => score <= 0.99)")
    assert page.page.evaluate("globalThis.answers") == stopped
    page.page.locator("#conf").fill("0.25")
    with page.answering():
        pause.click()
    page.page.get_by_role("button", name="Camera").click()
    assert page.page.locator("#welcome").is_visible()
    assert page.page.evaluate("app.video.srcObject") is None


def test_a_video_file(served, visit, film):
    """Some browsers stop a video while its page is hidden; it goes on when the page is seen again."""
    page = visit(served.url).ready()
    with page.answering(3):
        page.drop(film)
    assert page.page.evaluate("app.view.shown.frame.displayWidth") == 320
    assert page.page.locator("#switch").is_hidden()
    page.page.evaluate("app.video.pause()")
    page.until("!app.newest.busy")
    with page.answering(3):
        page.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def hold_camera(page: Any) -> None:
    """Make the page's next wish for a camera wait until `allow()`, as a person's answer does."""
    page.evaluate(
        """() => {
          const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
          const answer = new Promise((resolve) => (globalThis.allow = resolve));
          navigator.mediaDevices.getUserMedia = (which) => answer.then(() => real(which));
        }"""
    )


def test_a_video_while_the_browser_asks_for_the_camera(served, visit, camera, film):
    """What was asked for last is shown, and the camera that comes too late is let go."""
    page = visit(served.url, *camera, permissions=["camera"]).ready()
    hold_camera(page.page)
    page.page.get_by_role("button", name="Start camera").click()
    with page.answering(3):
        page.drop(film)
    with page.answering(6):
        page.page.evaluate("allow()")
    assert page.page.evaluate("app.source.title") == "film.webm"
    assert page.page.evaluate("app.video.srcObject") is None
    page.drop(film)  # and the other way round: one that goes on leaves the next one's element alone
    page.page.get_by_role("button", name="Camera", exact=True).click()
    with page.answering(6):
        page.until("app.source?.track && app.view.shown")


def test_stopped_while_it_starts(served, visit, camera):
    page = visit(served.url, *camera, permissions=["camera"]).ready()
    page.page.evaluate("{ const start = app.openCamera(); app.stop(); start.then(() => (globalThis.over = true)); }")
    page.until("globalThis.over")
    assert page.page.evaluate("app.source") is None
    page.page.evaluate("app.openCamera().then(() => (globalThis.begun = true)); 0")
    page.until("app.source")
    page.page.evaluate("app.stop()")
    page.until("globalThis.begun")
    assert page.page.evaluate("app.source ?? app.video.srcObject") is None
    assert page.text("seen") == "Nothing yet"
    page.page.evaluate("{ app.openCamera(); }")
    page.until("app.source")
    page.page.evaluate("app.pause()")
    page.page.evaluate("app.pause()")
    page.until("app.view.shown")
    assert page.notice() == ""


def test_another_model_while_paused(served, visit, film, tmp_path):
    page = visit(served.url).ready()
    with page.answering(3):
        page.drop(film)
    page.page.get_by_role("button", name="Pause").click()
    page.until("!app.newest.busy")
    with page.answering():
        page.drop(small(tmp_path / "other.onnx"))
    page.page.locator("#conf").fill("1")
    page.until("app.view.shown.found.scores.length === 0")  # the settings still count


def test_offline_and_threads_on_a_static_host(hosted, visit, model, pictures):
    """Such a host sends no headers: the service worker adds them from the second visit on, and needs no network."""
    page = visit(hosted.url).ready()
    assert page.text("backend") == "WASM, 1 thread"
    assert "from the next visit on there are more" in page.text("about")
    page.until_kept()
    hosted.close()
    page.page.goto(hosted.url)
    page.ready()
    assert page.page.evaluate("crossOriginIsolated")
    assert int(page.text("backend").split()[1]) >= THREADS
    assert_same(page.look_at(pictures[1]), detect(model, pictures[1]))
    assert page.strangers() == []


def test_a_network_that_does_not_answer(hosted, visit):
    """A phone that left the server's network: the page opens with what it has."""
    page = visit(hosted.url).ready()
    page.until_kept()
    hosted.silent.set()
    page.page.goto(hosted.url)
    page.ready()
    assert page.text("reading-model") == "best.onnx"


def test_another_program_at_the_same_address(hosted, visit, tmp_path):
    """On localhost the next program gets the port: what the app kept there does not stand in its way."""
    page = visit(hosted.url).ready()
    page.until_kept()
    shutil.rmtree(tmp_path / "host" / "app")
    (tmp_path / "host" / "app").mkdir()
    (tmp_path / "host" / "app" / "index.html").write_text("<title>Another program</title>")
    page.page.goto(hosted.url)
    assert page.page.title() == "Another program"
    page.page.reload()
    assert not page.page.evaluate("crossOriginIsolated")
    assert page.page.evaluate("navigator.serviceWorker.getRegistrations().then((found) => found.length)") == 0
    assert page.page.evaluate("caches.keys()") == []
    assert all("404" in error for error in page.errors)  # of files.json, which the worker asked for
    page.errors.clear()


def test_a_version_that_needs_other_files(served, hosted, visit, tmp_path):
    """A file of onnxruntime-web that is there no more keeps no visitor at the version before."""
    page = visit(hosted.url).ready()
    page.until_kept()
    before = page.page.evaluate("caches.keys()")
    page.page.evaluate(
        "caches.keys().then(async ([name]) => (await caches.open(name)).put('ort/gone.mjs', new Response('')))"
    )
    served.site.replace(read_model(write_detector(tmp_path / "newer.onnx", dense(FIRST))))
    write_folder(served.site.table(), tmp_path / "host" / "app")
    page.page.goto(hosted.url)
    page.ready()
    page.until(f"!(await caches.keys()).includes({before[0]!r})")
    page.until("await caches.match('ort/ort-wasm-simd-threaded.wasm')")
    assert page.page.evaluate("caches.match('ort/gone.mjs').then(Boolean)") is False


def test_a_shared_picture(served, visit, model, pictures):
    """Another app hands a picture over: the service worker takes it, and the page opens with it."""
    page = visit(served.url).ready()
    page.until("navigator.serviceWorker.controller")
    page.page.evaluate(
        """async ([data]) => {
          const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
          const form = new FormData();
          form.append("file", new File([bytes], "from afar ü.png", { type: "image/png" }));
          await fetch("./share", { method: "POST", body: form });
        }""",
        [base64.b64encode(pictures[0].read_bytes()).decode()],
    )
    page.page.goto(f"{served.url}?shared")
    page.ready()
    page.until("app.view.shown")
    assert_same(page.found(), detect(model, pictures[0]))
    assert page.page.evaluate("app.source.title") == "from afar ü.png"
    assert page.page.url == served.url
    page.page.reload()
    assert page.ready().page.evaluate("app.source") is None  # once


def test_a_model_that_was_replaced(served, visit, tmp_path):
    """The next visit gets the new model, though the service worker holds the one before."""
    page = visit(served.url).ready()
    page.until("navigator.serviceWorker.controller")
    served.site.replace(read_model(write_detector(tmp_path / "newer.onnx", dense(FIRST))))
    page.page.goto(served.url)
    page.ready()
    assert page.text("reading-model") == "newer.onnx"
    page.until("(await caches.keys()).length === 1 && (await caches.match('files.json')).ok")
    page.until("(await (await caches.match('files.json')).json()).model.name === 'newer.onnx'")


def test_a_version_that_was_replaced_comes_to_nothing(served, visit):
    """What is still asked of the worker before, when the next one has deleted its cache, does not make it again."""
    page = visit(served.url).ready()
    page.until_kept()
    left = page.page.evaluate(
        """async () => {
          for (const name of await caches.keys()) await caches.delete(name);
          navigator.serviceWorker.controller.postMessage({ keep: ["app.css"] });
          for (let i = 0; i < 3; i++) if (!(await fetch("app.css")).ok) return "no answer";
          return caches.keys();
        }"""
    )
    assert left == []


def test_what_cannot_be_run_is_said(served, visit, pictures, tmp_path):
    onnx = pytest.importorskip("onnx")
    page = visit(served.url).ready()

    def refusal(path: Path) -> str:
        page.page.evaluate("document.getElementById('notice').hidden = true")
        page.drop(path)
        page.until("!document.getElementById('notice').hidden")
        return page.notice()

    made = write_detector(tmp_path / "odd.onnx", dense(FIRST))
    whole, model = made.read_bytes(), onnx.load(str(made))
    made.write_bytes(whole[: len(whole) // 2])
    assert "odd.onnx: is an ONNX model that is damaged or cut off" in refusal(made)
    model.graph.node[2].op_type = "Unheard"
    onnx.save(model, str(made))
    assert "operator Unheard" in refusal(made)
    assert "the model takes (1, 1, 64, 64)" in refusal(write_detector(made, dense(FIRST), channels=1))
    assert "the model's task is 'classify'" in refusal(write_detector(made, dense(FIRST), task="classify"))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    assert "broken.png: this browser cannot read it as a picture" in refusal(broken)
    assert page.page.evaluate("app.model.name") == "best.onnx"
    page.page.evaluate("document.getElementById('notice').hidden = true")
    assert len(page.look_at(pictures[0]))
    page.page.get_by_role("button", name="Camera").click()
    page.until("!document.getElementById('notice').hidden")
    assert "No camera was found" in page.notice() or "The camera was refused" in page.notice()
    assert page.page.locator("#welcome").is_visible()
    page.page.evaluate("document.getElementById('notice').hidden = true")
    assert len(page.look_at(pictures[0]))  # nothing died


def test_no_gpu(served, visit, model, pictures):
    """Where WebGPU fails, though it was there, WASM takes over and says so."""
    page = visit(f"{served.url}?backend=webgpu").ready()
    assert page.text("backend").startswith("WASM")
    assert "WebGPU failed" in page.text("about")
    assert_same(page.look_at(pictures[0]), detect(model, pictures[0]))


def test_webgpu(serving, visit, pictures, tmp_path):
    """A processor that plays the GPU is too slow for a real network; all of the way is the same."""
    path = small(tmp_path / "small.onnx")
    with serving(path) as server:
        switches = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]
        page = visit(f"{server.url}?backend=webgpu", *switches)
        if not page.page.evaluate("navigator.gpu?.requestAdapter().then(Boolean, () => false)"):
            pytest.skip("this Chromium has no WebGPU, not even a simulated one")
        page.ready()
        assert page.text("backend") == "WebGPU"
        assert_same(page.look_at(pictures[0]), detect(path, pictures[0]))


def test_plain_http_from_another_machine(served, visit, model, pictures):
    """No camera, no threads, no service worker there; pictures work, and the page says why the rest does not."""
    url = served.url.replace("127.0.0.1", "demo.example.org")
    page = visit(url, "--host-resolver-rules=MAP demo.example.org 127.0.0.1").ready()
    assert page.text("backend") == "WASM, 1 thread"
    assert "over https or on localhost alone" in page.text("about")
    page.page.get_by_role("button", name="Start camera").click()
    page.until("!document.getElementById('notice').hidden")
    assert "https" in page.notice()
    page.page.get_by_role("button", name="Close this message").click()
    assert_same(page.look_at(pictures[0]), detect(model, pictures[0]))
    (said,) = page.errors
    assert "the URL's origin was untrustworthy" in said  # the browser on the header that would give threads
    page.errors.clear()


def test_how_it_looks(served, visit, pictures, tmp_path):
    """Nothing is cut off, all has a name and is reached by keyboard; the screenshots are for who wants to look."""
    page = visit(served.url).ready()
    sizes = ((1280, 800), (360, 740), (844, 390))
    shots = [(scheme, size) for scheme in ("light", "dark") for size in sizes]
    for state in ("welcome", "picture"):
        if state == "picture":
            page.look_at(pictures[0])
        for scheme, (width, height) in shots:
            page.page.emulate_media(color_scheme=scheme)
            page.page.set_viewport_size({"width": width, "height": height})
            page.page.screenshot(path=str(tmp_path / f"{state}-{scheme}-{width}.png"))
            assert page.page.evaluate("document.documentElement.scrollWidth") <= width
            for name in ("Camera", "Open", "Pause", "Save"):
                box = page.page.get_by_role("button", name=name, exact=True).bounding_box()
                assert box
                assert box["height"] >= 44
                assert 0 <= box["x"] <= box["x"] + box["width"] <= width
                assert 0 <= box["y"] <= box["y"] + box["height"] <= height
                middle = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
                hit = page.page.evaluate(
                    "([x, y]) => document.elementFromPoint(x, y).closest('button')?.innerText", middle
                )
                assert hit == name  # nothing lies over it
    unnamed = page.page.evaluate(
        "[...document.querySelectorAll('button, input')].filter((one) => one.checkVisibility() && "
        "!one.textContent.trim() && !one.labels?.length && !one.ariaLabel).map((one) => one.id)"
    )
    assert unnamed == []
    reached = set()
    for _ in range(12):
        page.page.keyboard.press("Tab")
        reached.add(page.page.evaluate("document.activeElement.id"))
    assert {"camera", "open", "snapshot", "conf", "iou"} <= reached
