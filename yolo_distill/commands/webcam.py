"""`yolo-distill webcam`: watch a camera with an exported file, now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolo_distill.errors import RequestError
from yolo_distill.settings import Setting

SUMMARY = "watch a camera, a stream or a video with an .onnx file, live"

SETTINGS = {
    "model": Setting(str, "exported file (.onnx)", required=True),
    "source": Setting(str, "number of a camera, stream address, or a video that plays as a camera", "0"),
    "conf": Setting(float, "scores have to be above", 0.25, low=0, high=1),
    "iou": Setting(float, "overlap above which the worse of two boxes goes", 0.7, low=0, high=1),
    "max_det": Setting(int, "most detections of a frame", 300, low=1, high=100_000),
    "classes": Setting(str, "classes to look for, by number or name: 0,2 or cat,dog; not set: all"),
    "imgsz": Setting(str, "input size in pixels, or height,width, for a file with a dynamic input"),
    "show": Setting(bool, "open a window; q or Esc ends it", True),
    "save": Setting(str, "video file for what was shown: out.mp4"),
    "max_frames": Setting(int, "end after so many frames", low=1),
    "realtime": Setting(bool, "a video plays at its own speed and late frames are dropped; false: each frame", True),
    "overlay": Setting(bool, "write frames a second and latency into the picture", True),
    "providers": Setting(str, "onnxruntime's execution providers: cpu or cuda,cpu; not set: cuda where it is there"),
    "threads": Setting(int, "threads for one operator; not set: onnxruntime decides", low=1, high=1024),
}

NOTES = "On a machine without a screen: show=false save=out.mp4. Ctrl-C finishes the video."


def run(settings: dict[str, Any]) -> None:
    """Watch, and say how it went.

    Raises:
        RequestError: the model, the source or a setting has to change, or there is no screen.
        DistillError: the camera broke off, the network failed, or the disk cannot be written.
    """
    from yolo_distill.commands.predict import read_classes, read_imgsz
    from yolo_distill.files import check_writable
    from yolo_distill.runtime.detector import Detector
    from yolo_distill.runtime.live import Live
    from yolo_distill.runtime.progress import Progress
    from yolo_distill.runtime.screen import why_no_screen
    from yolo_distill.runtime.sources import find
    from yolo_distill.runtime.writers import check_video_name

    items = find(settings["source"])
    capture = items[0].open
    if len(items) > 1 or capture is None:
        raise RequestError(
            f"source={settings['source']}: webcam watches one camera, stream or video; for "
            "pictures: yolo-distill predict"
        )
    save = Path(settings["save"]).expanduser() if settings["save"] else None
    if save:
        check_video_name(save, f"save={settings['save']}")
        check_writable(save, f"save={settings['save']}")
    if settings["show"] and (reason := why_no_screen()):
        raise RequestError(f"show=true: {reason}; use show=false save=out.mp4")
    detector = Detector(
        settings["model"],
        imgsz=read_imgsz(settings["imgsz"]),
        providers=settings["providers"],
        threads=settings["threads"],
    )
    classes = read_classes(settings["classes"])
    outcome = Live(
        detector,
        capture,
        find={
            "conf": settings["conf"],
            "iou": settings["iou"],
            "max_det": settings["max_det"],
            "classes": None if classes is None else detector.class_ids(classes),
        },
        show=settings["show"],
        save=save,
        max_frames=settings["max_frames"],
        realtime=settings["realtime"],
        overlay=settings["overlay"],
        progress=Progress(),
    ).run()
    print(outcome.summary())
    if outcome.interrupted:
        raise KeyboardInterrupt
