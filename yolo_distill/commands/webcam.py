"""`yolo-distill webcam`: watch a camera with an exported file, now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_distill.commands.predict import ALSO as ALSO
from yolo_distill.commands.predict import LOOK_FIRST as LOOK_FIRST
from yolo_distill.commands.predict import MODEL, OF_DETECTOR, SOURCE, open_detector
from yolo_distill.errors import RequestError
from yolo_distill.files import new_file
from yolo_distill.settings import Setting

if TYPE_CHECKING:
    from yolo_distill.runtime.capture import Capture

SUMMARY = "watch a camera, a stream or a video with an .onnx file, live"

SETTINGS = {
    "model": Setting(str, "exported file (.onnx)", required=True, alone=MODEL),
    "source": Setting(str, "number of a camera, stream address, or a video that plays as a camera", "0", alone=SOURCE),
    **OF_DETECTOR,
    "show": Setting(bool, "open a window; q or Esc ends it", True),
    "save": Setting(str, "video file for what was shown: out.mp4"),
    "record": Setting(str, "file for one JSON line a frame: labels.jsonl"),
    "max_frames": Setting(int, "end after so many frames", low=1),
    "realtime": Setting(bool, "a video plays at its own speed and late frames are dropped; false: each frame", True),
    "loop": Setting(bool, "a video begins again at its end, until q, Ctrl-C or max_frames=", False),
    "overlay": Setting(bool, "write frames a second, latency, model and precision into the picture", True),
}

NOTES = (
    "On a machine without a screen: show=false save=out.mp4. On a stand: source=video.mp4 loop=true. For hours:\n"
    "save=out.mkv, which needs no index in memory. Ctrl-C finishes the files. A camera or stream that breaks off ends\n"
    "the run (exit code 1); what was written so far is kept. Latency is the time from the moment a frame came out of\n"
    "the source until it was shown. Files grow under a hidden name (.labels.*.part.jsonl) until they are finished;\n"
    "record= hands over each line at once."
)


def run(settings: dict[str, Any]) -> None:
    """Watch, and say how it went."""
    from yolo_distill.runtime.progress import Progress
    from yolo_distill.runtime.sources import find as find_sources
    from yolo_distill.runtime.webcam import Live
    from yolo_distill.runtime.window import why_no_screen
    from yolo_distill.runtime.writers import check_video_name

    items = find_sources(settings["source"])
    open_source = items[0].open
    if len(items) > 1 or open_source is None:
        raise RequestError(
            f"source={settings['source']}: webcam watches one camera, stream or video; for "
            "pictures: yolo-distill predict"
        )
    if settings["loop"] and items[0].live:
        raise RequestError(f"loop=true: source={settings['source']} goes on by itself; loop= is for video files")
    if settings["save"]:
        check_video_name(Path(settings["save"]), f"save={settings['save']}")
    save, record = (new_file(key, settings, read=("model", "source")) for key in ("save", "record"))
    if save and save == record:
        raise RequestError(f"record={settings['record']}: is save= as well; give two names")
    if settings["show"] and (reason := why_no_screen()):
        raise RequestError(f"show=true: {reason}; use show=false save=out.mp4")
    detector, find = open_detector(settings)
    as_given = {key: settings[key] for key in ("show", "max_frames", "realtime", "overlay")}
    opened = (lambda: _looping(open_source())) if settings["loop"] else open_source
    outcome = Live(detector, opened, find=find, save=save, record=record, progress=Progress(), **as_given).run()
    print(outcome.summary())
    if outcome.interrupted:
        raise KeyboardInterrupt


def _looping(capture: Capture) -> Capture:
    """Return the video, which from now on begins again at its end."""
    capture.loop = True
    return capture
