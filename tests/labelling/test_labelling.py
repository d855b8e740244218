"""From pictures and videos to a data set, with a teacher that answers at once."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import torch
import yaml
from made_labelling import IMGSZ, MadeTeacher, content, request, soft_answers, write_film, write_pictures

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.labelling.finalise import merge
from yolo_distill.labelling.run import label
from yolo_distill.lock import lock
from yolo_distill.shard import Shard
from yolo_distill.teachers.answer import make_set


def run(source="in", out="out", *, pictures=0, asked=None, **changes):
    """Label with a teacher, after writing so many pictures, and return what was said."""
    if pictures:
        write_pictures(Path(source), pictures)
    said: list[str] = []
    made = asked or MadeTeacher()
    label(request(source, Path(out), **changes), opener=lambda one: (made, one.imgsz or IMGSZ), say=said.append)
    return "\n".join(said)


def rows(out="out"):
    return pl.read_parquet(f"{out}/soft/*.parquet").sort("number", "frame")


def files(folder):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Return a folder of 150 pictures, of which one is damaged, and two videos, of which one is none."""
    folder = tmp_path_factory.mktemp("mixed")
    write_pictures(folder, 150)
    (folder / "0077.jpg").write_bytes((folder / "0077.jpg").read_bytes()[:300])
    write_film(folder / "film.avi", 300, change=2)
    (folder / "broken.mp4").write_bytes(b"no video" * 100)
    return folder


def test_a_data_set():
    said = run(pictures=9)
    assert "warning: without data= there are no true labels" in said
    assert "thresholds: disc 0.25 (conf=), square 0.25 (conf=)" in said
    assert "9 pictures, 1 without a box; boxes: 7 disc, 7 square" in said
    plan = yaml.safe_load(Path("out/data.yaml").read_text())
    assert plan == {"train": "images/train", "val": "images/train", "names": {0: "disc", 1: "square"}}
    assert files("out/images/train") == [f"{n:08d}-{n:04d}.jpg" for n in range(9)]
    assert files("out/labels/train") == [f"{n:08d}-{n:04d}.txt" for n in range(9)]
    link = Path("out/images/train/00000003-0003.jpg")
    assert link.readlink() == Path("in/0003.jpg").absolute()
    assert Path("out/labels/train/00000002-0002.txt").read_text() == ""
    # The square of 64 shows the picture of 64 x 48 from row 8 on; the disc is at 16 to 32, 19.2 to 44.8 in it.
    first = Path("out/labels/train/00000000-0000.txt").read_text().splitlines()[0].split()
    height, top = (44.8 - 19.2) / 48, (19.2 - 8) / 48
    assert [float(number) for number in first] == pytest.approx([1, 0.65, top + height / 2, 0.2, height], abs=1e-3)


def test_of_many_classes_those_with_most_boxes_are_told():
    said = run(pictures=2, asked=MadeTeacher({column: f"class{column}" for column in range(80)}))
    assert "; boxes: 2 class1, 1 class0, 0 class2, " in said
    assert "0 class11 and 68 more classes\n" in said


def test_soft_answers_hold_what_labels_leave_out():
    run(pictures=3, conf=0.99)
    assert Path("out/labels/train/00000000-0000.txt").read_text() == ""
    found = soft_answers(Path("out"))["00000000-0000.jpg"]
    assert found.boxes.shape == (2, 4)
    brightness = 60 / 255
    assert found.scores[0].tolist() == pytest.approx([0.01, 1 - brightness], abs=0.01)
    assert found.scores[1].tolist() == pytest.approx([brightness, 0.01], abs=0.01)
    assert rows()["width"].to_list() == [64] * 3


def test_empty_pictures_can_be_left_out():
    assert "8 pictures, 1 left out because nothing was found" in run(pictures=9, keep_empty=False)
    assert "00000002-0002.jpg" not in files("out/images/train")
    assert rows()["state"].to_list() == ["kept", "kept", "empty", *["kept"] * 6]


def test_pictures_of_one_name_and_what_the_host_cannot_read():
    write_pictures(Path("a"), 2)
    write_pictures(Path("b"), 2, first=1)
    cv2.imwrite("b/0001.ppm", cv2.imread("b/0001.jpg"))
    for out, copy in (("out", False), ("copied", True)):
        run("a,b", out, copy=copy)
        names = ["0000", "0001", "0001", "0001", "0002"]
        assert files(f"{out}/labels/train") == [f"{n:08d}-{name}.txt" for n, name in enumerate(names)]
        np.testing.assert_array_equal(cv2.imread(f"{out}/images/train/00000003-0001.png"), cv2.imread("b/0001.ppm"))
    assert not any(path.is_symlink() for path in Path("copied/images/train").iterdir())
    assert Path("copied/images/train/00000000-0000.jpg").read_bytes() == Path("a/0000.jpg").read_bytes()


def test_boxes_that_are_one_once_they_are_cut_off():
    """Two that reach beyond the picture by different lengths, and another class's box at the same place."""

    class Close(MadeTeacher):
        def __call__(self, images):
            boxes = torch.tensor([[-60.0, -60, 70, 70], [-5, -5, 200, 200], [-9, -9, 80, 80], [8, 16, 24, 32]])
            scores = torch.tensor([[0.6, 0.1], [0.8, 0.1], [0.1, 0.7], [0.5, 0.1]])
            return make_set([boxes] * len(images), [scores] * len(images), 2)

    run(pictures=1, asked=Close())
    lines = Path("out/labels/train/00000000-0000.txt").read_text().splitlines()
    assert [line[:13] for line in lines] == ["0 0.5 0.5 1 1", "1 0.5 0.5 1 1", "0 0.25 0.3333"]
    assert soft_answers(Path("out"))["00000000-0000.jpg"].scores.max(1).tolist() == pytest.approx([0.8, 0.7, 0.5])


def test_pictures_that_ultralytics_would_refuse_are_left_out(capsys):
    Path("in").mkdir()
    for name, size in {"a": (9, 64, 3), "b": (10, 64, 3)}.items():
        cv2.imwrite(f"in/{name}.png", np.zeros(size, np.uint8))
    run("in")
    assert files("out/images/train") == ["00000001-b.png"]
    assert "a.png: is smaller than 10 pixels" in capsys.readouterr().err


def test_everything_that_was_looked_at_has_one_row(mixed, capsys):
    teacher = MadeTeacher()
    run(mixed, asked=teacher, every=3)
    found = rows()
    assert found.filter(pl.col("frame").is_null())["number"].to_list() == list(range(151))  # broken.mp4 is the last
    assert found.filter(pl.col("frame").is_not_null())["frame"].to_list() == list(range(1, 300, 3))
    unread = found.filter(pl.col("state") == "unread")["source"].to_list()
    assert unread == [str(mixed / "0077.jpg"), str(mixed / "broken.mp4")]
    assert found["state"].to_list().count("similar") == 0
    assert sorted(found["file"].drop_nulls()) == files("out/images/train")
    assert "00000151_0000004-film.jpg" in files("out/images/train")
    assert max(teacher.sizes) == 16
    told = capsys.readouterr().err
    assert f"{mixed / '0077.jpg'}: cannot be decoded as a picture of at most 179 million pixels; skipped" in told
    assert "broken.mp4: cannot be opened as a video; is it one, and is it whole?; skipped" in told


def test_frames_that_look_alike_and_more_kept_frames_than_a_chunk(mixed):
    write_film(Path("film.avi"), 60, change=6)
    said = run("film.avi", "alike", every=2)
    assert "10 pictures (10 of them frames of videos), 20 frames left out that look like earlier ones" in said
    assert cv2.imread("alike/images/train/00000000_0000007-film.jpg").shape == (48, 64, 3)
    run(mixed / "film.avi", every=2)
    run(mixed / "film.avi", "off", every=2, similar=0)
    assert files("out/soft") == [
        f"part-00000000_{first:07d}{end}.parquet" for first, end in ((1, ""), (129, ""), (257, "-end"))
    ]
    assert content(Path("out")) == content(Path("off"))  # every second frame is new anyway


@pytest.mark.parametrize("lost", ["00000000_0000129", "00000000_0000257-end"])
def test_a_video_goes_on_from_its_middle(mixed, lost):
    run(mixed / "film.avi", every=2)
    before, whole = content(Path("out")), rows()
    Path(f"out/soft/part-{lost}.parquet").unlink()
    Path("out/data.yaml").unlink()
    teacher = MadeTeacher()
    run(mixed / "film.avi", every=2, asked=teacher)
    assert sum(teacher.sizes) == (64 if "end" not in lost else 22)
    assert content(Path("out")) == before
    assert rows().equals(whole)


def test_shards_and_merge_are_the_whole(mixed):
    run(mixed, "whole", every=3)
    order = [2, 3, 1]
    for index in order:
        assert f"shard {index}/3 is done" in run(mixed, every=3, shard=Shard(index, 3))
        assert not Path("out/data.yaml").exists()
        if index != order[-1]:
            left = ", ".join(f"{n}/3" for n in (1, 3) if n not in order[: order.index(index) + 1])
            with pytest.raises(DistillError, match=f"not done yet: shard {left}; label them, then merge again"):
                merge(Path("out"))
    assert merge(Path("out")).unread == 2
    assert content(Path("out")) == content(Path("whole"))
    assert rows().equals(rows("whole"))
    assert Path("out/data.yaml").read_text() == Path("whole/data.yaml").read_text()
    assert Path("out/contact-sheet.html").read_text() == Path("whole/contact-sheet.html").read_text()


def test_shards_of_different_requests_are_not_merged():
    """Thresholds that differ by rounding are the same: each machine finds its own."""
    run(pictures=70, shard=Shard(1, 3))
    run(shard=Shard(2, 3))  # the third has nothing to do
    file = Path("out/shards/2-of-3.json")
    shard = json.loads(file.read_text())
    shard["thresholds"][1]["at"] += 1e-6
    file.write_text(json.dumps(shard))
    assert merge(Path("out")).unread == 0
    Path("out/data.yaml").unlink()
    other = {**shard, "thresholds": [{**one, "at": one["at"] + 0.1} for one in shard["thresholds"]]}
    for changed, said in (
        (other, r"\(thresholds"),
        ({**shard, "settings": {**shard["settings"], "conf": 0.4}}, r"\(conf: 0.25 there, 0.4 here"),
    ):
        file.write_text(json.dumps(changed))
        with pytest.raises(DistillError, match=r"shard 2/3 was made with another request " + said):
            merge(Path("out"))


def test_a_finished_data_set_stays_as_a_person_left_it():
    run(pictures=3)
    mine = Path("out/labels/train/00000000-0000.txt")
    mine.write_text("0 0.5 0.5 0.9 0.9\n")
    assert "is finished already" in run("in")
    assert mine.read_text() == "0 0.5 0.5 0.9 0.9\n"


def test_what_a_power_cut_emptied_is_done_again():
    run(pictures=130)
    before = content(Path("out"))
    Path("out/data.yaml").unlink()
    Path("out/labels/train/00000070-0070.txt").write_bytes(b"")
    Path("out/soft/part-00000128.parquet").write_bytes(b"")
    teacher = MadeTeacher()
    run(asked=teacher)
    assert sum(teacher.sizes) == 64 + 2
    assert content(Path("out")) == before


def test_what_a_kill_left_of_a_file_is_gone():
    """Readers of soft/*.parquet would count its pictures twice."""
    run(pictures=3)
    Path("out/data.yaml").unlink()
    Path("out/soft/.part-00000000.99.part.parquet").write_bytes(Path("out/soft/part-00000000.parquet").read_bytes())
    Path("out/.contact-sheet.99.part.html").touch()
    run("in")
    assert rows()["number"].to_list() == [0, 1, 2]
    assert not list(Path("out").rglob(".*.part.*"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"similar": 0, "copy": True}, "copy: false there, true here; similar: 4 there, 0 here"),
        ({"imgsz": 96}, "imgsz: 64 there, 96 here"),
        ({"teacher": "other"}, "teacher: made there, other here"),
        ({"shard": Shard(1, 2)}, "shards: 1 there, 2 here"),
        ({"pictures": 3}, "the files of source= are not the same; pictures: 2 there, 3 here"),
    ],
)
def test_another_request_is_refused(change, said):
    run(pictures=2)
    before = content(Path("out"))
    says = f"out=out: was made with another request .{said}.; give the same one, or another out="
    with pytest.raises(RequestError, match=says):
        run(**change)
    assert content(Path("out")) == before


def test_a_manifest_that_cannot_be_read():
    run(pictures=1)
    file = Path("out/label.json")
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "thresholds": [{"at": "high"}]}))
    with pytest.raises(RequestError, match=r"not the manifest of a data set \(thresholds.0.at: .*, received 'high'\)"):
        run("in")
    file.write_text("{")
    with pytest.raises(RequestError, match=r"label.json: is not the manifest of a data set"):
        run("in")


def test_two_processes_on_one_shard():
    run(pictures=1)
    Path("out/data.yaml").unlink()
    busy = "another process is at work on shard 1/1"
    with lock(Path("out/shards/1-of-1.lock"), "taken"), pytest.raises(RequestError, match=busy):
        run("in")


@pytest.fixture
def disk(monkeypatch):
    """Return a function that lets so many files be written and then no more; None: as many as you like."""
    left: list[int | None] = [None]
    written = {name: getattr(Path, name) for name in ("write_text", "write_bytes")}

    def limited(name):
        def write(path, *content, **settings):
            if left[0] is not None:
                left[0] -= 1
                if left[0] < 0:
                    written[name](path, content[0][:1])
                    raise OSError(errno.ENOSPC, "No space left on device")
            return written[name](path, *content, **settings)

        return write

    for name in written:
        monkeypatch.setattr(Path, name, limited(name))
    return lambda count: left.__setitem__(0, count)


def test_a_disk_that_is_full(disk):
    run("in", "whole", pictures=200)
    # The first label, one among others, the Parquet file of the first chunk, the first label behind it.
    for files_left, stopped_at in ((0, "0000.jpg"), (10, "0010.jpg"), (64, "part-00000000.parquet"), (65, "0064.jpg")):
        disk(files_left)
        says = rf"{stopped_at}: cannot be written \(No space left on device"
        with pytest.raises(DistillError, match=says) as found:
            run("in")
        assert str(found.value).endswith("; what is done is kept, and the same command goes on")
        assert found.value.exit_code == 1
        assert not Path("out/data.yaml").exists()
        assert not list(Path("out/soft").glob(".*"))
        assert not list(Path("out").rglob(f"*{Path(stopped_at).stem}.txt"))
    assert files("out/soft") == ["part-00000000.parquet"]
    disk(None)
    run("in")
    assert content(Path("out")) == content(Path("whole"))
    assert rows().equals(rows("whole"))


def test_nothing_that_can_be_read():
    Path("in").mkdir()
    Path("in/a.jpg").write_bytes(b"")
    Path("in/b.jpg").symlink_to("nowhere")
    with pytest.raises(DistillError, match=r"out=out: no picture to train on \(0 pictures, 2 unread\)"):
        run("in")
    assert not Path("out/data.yaml").exists()


def test_thresholds_are_where_the_teacher_begins_to_be_right(capsys):
    """There is a disc where a picture is brighter than 150; squares are too few to choose by."""
    for folder in ("data/images/val", "data/images/train", "data/labels/val"):
        Path(folder).mkdir(parents=True)
    for number, level in enumerate(range(60, 240, 6)):
        cv2.imwrite(f"data/images/val/{number:02d}.png", np.full((64, 64, 3), level, np.uint8))
        lines = ["0 0.375 0.5 0.25 0.4"] * (level > 150) + ["1 0.65 0.5 0.2 0.4"] * (number < 9)
        Path(f"data/labels/val/{number:02d}.txt").write_text("\n".join(lines))
    Path("data/images/val/broken.png").write_bytes(b"")
    cv2.imwrite("data/images/val/words.png", np.full((64, 64, 3), 200, np.uint8))
    Path("data/labels/val/words.txt").write_text("disc 0.375 0.5 0.25 0.4")
    Path("data/data.yaml").write_text("train: images/val\nval: images/val\nnames: [disc, square]\n")
    said = run(pictures=2, data="data/data.yaml")
    assert "warning" not in said
    left_out = capsys.readouterr().err
    assert left_out.startswith("1 pictures of val left out, as a training does: ")
    assert "words.txt: is no label file (could not convert string to float: 'disc')" in left_out
    assert yaml.safe_load(Path("out/data.yaml").read_text())["val"] == str(Path("data/images/val").absolute())
    assert "thresholds: disc 0.6 (F1 1.00 on val), square 0.25 (conf=)" in said
    disc, square = json.loads(Path("out/label.json").read_text())["thresholds"]
    assert 150 / 255 < disc["at"] < 156 / 255
    assert (disc["boxes"], square["boxes"], square["f1"]) == (14, 9, None)
    assert "best F1 on val, 1.00 over 14 boxes" in Path("out/contact-sheet.html").read_text()


def test_labels_that_are_none():
    Path("data/images").mkdir(parents=True)
    Path("data/labels").mkdir()
    write_pictures(Path("data/images"), 1)
    Path("data/labels/0000.txt").write_text("one two three four five\n")
    Path("data/data.yaml").write_text("train: images\nval: images\nnames: [disc, square]\n")
    with pytest.raises(RequestError, match=r"0000.txt: is no label file"):
        run("data/images", data="data/data.yaml")
    assert not Path("out").exists()


def test_thresholds_are_chosen_once(tiny_data):
    """A second shard, or a run that goes on, takes those that are written down."""
    run(pictures=2, data=str(tiny_data), shard=Shard(1, 2))
    plan = json.loads(Path("out/label.json").read_text())
    plan["thresholds"][0] = {"at": 0.5, "boxes": 20, "f1": 0.75}
    Path("out/label.json").write_text(json.dumps(plan))
    teacher = MadeTeacher()
    said = run(data=str(tiny_data), shard=Shard(2, 2), asked=teacher)
    assert "disc 0.5 (F1 0.75 on val)" in said
    assert teacher.sizes == []


def test_names_that_are_odd():
    Path("in").mkdir()
    picture = write_pictures(Path("one"), 1)[0].read_bytes()
    for name in ("a b.jpg", "größe-日本-🐟.jpg", "100%.jpg", "a\\b:c.jpg", "x" * 240 + ".jpg", "é" * 120 + ".JPG"):
        Path("in", name).write_bytes(picture)
    assert "6 pictures" in run("in")
    assert len(files("out/labels/train")) == 6
    assert all(Path("out/images/train", name).exists() for name in files("out/images/train"))
