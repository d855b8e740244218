"""Architectures below nano, and of any size: named ones, and those made from another one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tiny_yolo import write_architecture
from ultralytics import YOLO
from ultralytics.nn.tasks import yaml_model_load

import yolo_distill
from yolo_distill.errors import RequestError
from yolo_distill.models.architecture_files import load_architecture, read_plan
from yolo_distill.models.sizes import resized, sized_student
from yolo_distill.paths import cfg_dir

FAMILIES = ("yolov8", "yolo11", "yolo26")
WIDTHS = {"p": 0.1875, "f": 0.125}  # pico, femto


def given(**sizes: object) -> dict[str, object]:
    return {f"student_{key}": sizes.get(key) for key in ("width", "depth", "act")}


@pytest.mark.parametrize("letter", WIDTHS)
@pytest.mark.parametrize("family", [*(pytest.param(one, marks=pytest.mark.slow) for one in FAMILIES[:2]), "yolo26"])
def test_a_named_one_is_ultralytics_own_at_another_width(family: str, letter: str) -> None:
    found, nano = read_plan(f"{family}{letter}.yaml"), yaml_model_load(f"{family}n.yaml")
    depth, _, most = nano["scales"]["n"]
    assert found == {
        **nano,
        "scales": {letter: [depth, WIDTHS[letter], most]},
        "scale": letter,
        "yaml_file": f"{family}{letter}.yaml",
    }
    # A plain file: the host builds the same from it by itself.
    model = YOLO(cfg_dir() / "models" / f"{family}{letter}.yaml").model
    ours = load_architecture(f"{family}{letter}.yaml")
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in ours.state_dict().items()}


def test_all_of_them_are_named_after_their_family_and_size() -> None:
    names = {file.name for file in (cfg_dir() / "models").iterdir()}
    assert names == {f"{family}{letter}.yaml" for family in FAMILIES for letter in WIDTHS}


def test_those_of_another_task_are_ultralytics_own_at_the_same_width() -> None:
    found, nano = read_plan("yolo26f-seg.yaml"), yaml_model_load("yolo26n-seg.yaml")
    scales = {"f": [0.5, 0.125, 1024]}
    assert found == {**nano, "scales": scales, "scale": "f", "yaml_file": "yolo26f-seg.yaml"}
    for lacking in ("yolo12p-seg.yaml", "yolo26f-cls.yaml"):
        with pytest.raises(RequestError, match="no architecture of that name"):
            read_plan(lacking)


def test_a_file_of_ones_own_comes_before_ours() -> None:
    write_architecture(Path("yolo26p.yaml"))
    assert read_plan("yolo26p.yaml")["width_multiple"] == 1
    with pytest.raises(RequestError, match=r"student=elsewhere/yolo26p\.yaml: no such file"):
        load_architecture("elsewhere/yolo26p.yaml", role="student")
    with pytest.raises(RequestError, match=r"did you mean 'yolo11p\.yaml'"):
        load_architecture("yol11p.yaml")


def test_a_size_of_ones_own_is_a_plain_file(tmp_path: Path) -> None:
    file = sized_student("yolo26n.yaml", given(width=0.19, depth=0.33, act="relu"), tmp_path / "runs")
    assert file == str(tmp_path / "runs" / "yolo26n-w0.19-d0.33-relu.yaml")
    assert yaml.safe_load(Path(file).read_text())["scales"] == {"n": [0.33, 0.19, 1024]}
    model = YOLO(file).model
    assert model.yaml["scale"] == "n"  # the letter says which blocks the host takes
    assert {type(module.act).__name__ for module in model.modules() if hasattr(module, "act")} == {"ReLU", "Identity"}
    assert model.model[0].conv.out_channels == 16  # 64 * 0.19, in eights
    assert sized_student("yolo26p.yaml", given(act="hardswish"), tmp_path).endswith("yolo26p-hardswish.yaml")
    assert sized_student("yolo26n.pt", given(), tmp_path) == "yolo26n.pt"


def test_an_architecture_without_scales() -> None:
    plan = resized(read_plan(write_architecture(Path("tiny.yaml"))), 0.5, None, None, said="")
    assert (plan["width_multiple"], plan["yaml_file"]) == (0.5, "tiny-w0.5.yaml")


@pytest.mark.parametrize(
    ("student", "sizes", "says"),
    [
        ("yolo26n.pt", {"width": 0.19}, "student_width=0.19: student=yolo26n.pt has a size of its own; give an arch"),
        ("yolo26n.yaml", {"width": 0.45}, "widths near by that can be built: 0.445312, 0.460938"),
        ("yolo26q.yaml", {"width": 0.2}, "student=yolo26q.yaml: no such file, and no architecture of that name"),
        ("none.yaml", {"width": 0.01}, "widths near by that can be built: 0.0703"),  # without channels in one layer
        ("data.yaml", {"act": "relu"}, "student=data.yaml: describes a data set"),
    ],
)
def test_what_is_refused(student: str, sizes: dict[str, object], says: str) -> None:
    rows = [[-1, 1, "Conv", [128, 3, 2]], [-1, 1, "C2f", [128, False, 1, 0.1]], [-1, 1, "Conv", [128, 3, 2]]]
    head = [[[1, 2], 1, "Detect", ["nc"]]]
    Path("none.yaml").write_text(yaml.safe_dump({"nc": 1, "backbone": rows, "head": head}))
    Path("data.yaml").write_text("train: images\n")
    with pytest.raises(RequestError) as error:
        sized_student(student, given(**sizes), Path("runs"))
    assert says in str(error.value)
    assert not Path("runs").exists()


def test_all_arms_of_a_comparison_have_the_student(monkeypatch: pytest.MonkeyPatch) -> None:
    from yolo_distill.comparison import compare, report

    asked = []
    monkeypatch.setattr(report, "markdown", lambda summary: "")
    monkeypatch.setattr(compare, "compare", lambda request: asked.append(request) or {"verdict": ""})
    Path("t.pt").touch()
    yolo_distill.compare("t.pt", "yolov8n.yaml", "coco8.yaml", student_act="relu6", out="out")
    assert (asked[0].student, asked[0].own) == ("out/student/yolov8n-relu6.yaml", {})
