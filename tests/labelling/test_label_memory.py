"""Memory stays as it is, however many pictures there are."""

from __future__ import annotations

import psutil
import pytest
from made_labelling import IMGSZ, MadeTeacher, request, write_pictures

from yolo_distill.labelling.run import label
from yolo_distill.teachers.stored import StoredAnswers, answering_classes, lay_out


class Watching(MadeTeacher):
    """Notes the most memory that the process had when it was asked, in bytes; keeps nothing itself."""

    most = 0

    def __call__(self, images):
        answer = super().__call__(images)
        self.sizes.clear()
        self.most = max(self.most, psutil.Process().memory_info().rss)
        return answer


@pytest.fixture
def links(tmp_path):
    """Return a function that makes a folder of so many links to eight pictures."""
    pictures = write_pictures(tmp_path / "pictures", 8)

    def make(folder, count):
        folder.mkdir()
        for number in range(count):
            (folder / f"{number:06d}.jpg").symlink_to(pictures[number % len(pictures)])
        return folder

    return make


@pytest.mark.slow
def test_six_times_the_pictures(links, tmp_path):
    most = []
    for place, count in enumerate((300, 500, 3000)):  # in the first, libraries take what they take once
        teacher, out = Watching(), tmp_path / f"out{place}"
        source = links(tmp_path / f"in{place}", count)
        label(request(source, out), opener=lambda asked, own=teacher: (own, IMGSZ), say=lambda line: None)
        most.append(teacher.most)
        assert len(list((out / "labels" / "train").iterdir())) == count
    assert most[2] - most[1] < 8e6  # 2,500 pictures of 64 px would be 30 MB; their paths are half a megabyte

    classes = answering_classes(out)
    (tmp_path / "laid").mkdir()
    before = psutil.Process().memory_info().rss
    lay_out(out, tmp_path / "laid")
    answers = StoredAnswers(tmp_path / "laid", len(classes))
    for picture in (out / "images" / "train").iterdir():
        numbers, boxes = answers.about(str(picture))
        assert len(numbers) == len(boxes)
    assert psutil.Process().memory_info().rss - before < 8e6
