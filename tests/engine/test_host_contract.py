"""What of the host's inside this package leans on, one by one: an upgrade that breaks it breaks here first."""

from __future__ import annotations

import inspect
from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from ultralytics.cfg import DEFAULT_CFG_DICT, get_cfg
from ultralytics.data import YOLODataset
from ultralytics.data.augment import BaseMixTransform, CutMix, MixUp, Mosaic
from ultralytics.data.base import BaseDataset
from ultralytics.data.build import build_dataloader
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.distill_model import DistillationModel
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import dist
from ultralytics.utils.checks import check_amp
from ultralytics.utils.loss import E2ELoss, v8DetectionLoss
from ultralytics.utils.tal import TaskAlignedAssigner
from ultralytics.utils.torch_utils import autocast

from yolo_distill.distillation.criterion import branch_weights
from yolo_distill.initialization.least_squares import run_in_steps
from yolo_distill.teachers.yolo import YoloTeacher, fold

IMAGES = torch.rand(2, 3, 64, 64)


@pytest.fixture(scope="module", params=["yolo26n", "yolo11n", "yolov8n", "yolov10n", "yolo12n"])
def model(request):
    torch.manual_seed(0)
    return DetectionModel(f"{request.param}.yaml", nc=3, verbose=False)


def branches(output):
    return [output[k] for k in ("one2many", "one2one")] if "one2many" in output else [output]


def test_a_head_in_training_gives_boxes_scores_and_maps_of_its_first_convolutions(model):
    head, output = model.model[-1], model.train()(IMAGES)
    widths = [layers[0].conv.in_channels for layers in head.cv2]
    for branch in branches(output):
        anchors = sum((64 // int(s)) ** 2 for s in head.stride)
        assert branch["boxes"].shape == (2, 4 * head.reg_max, anchors)
        assert branch["scores"].shape == (2, head.nc, anchors)
        assert [m.shape[1:3] for m in branch["feats"]] == [
            (w, 64 // int(s)) for w, s in zip(widths, head.stride, strict=True)
        ]
    if "one2one" in output:  # which is cut off from the neck
        assert all(m.requires_grad for m in output["one2many"]["feats"])
        assert not any(m.requires_grad for m in output["one2one"]["feats"])


@torch.no_grad()
def test_layers_one_by_one_are_the_forward_pass(model):
    model.eval().model[-1].training = True
    *_, last = run_in_steps(model, IMAGES)
    for found, wanted in zip(branches(last), branches(model(IMAGES)), strict=True):
        assert torch.equal(found["boxes"], wanted["boxes"])
        assert torch.equal(found["scores"], wanted["scores"])


def test_every_batch_norm_keeps_statistics(model):
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(norm.running_mean is not None and norm.running_var is not None for norm in norms)


def test_a_folded_teacher_keeps_both_branches_and_its_answers(model):
    teacher = YoloTeacher(model)
    reference = model.eval()(IMAGES)[1]
    answer = teacher(IMAGES)
    many = reference.get("one2many", reference)
    torch.testing.assert_close(answer.one2many.logits, many["scores"].permute(0, 2, 1), rtol=1e-3, atol=1e-3)
    assert (answer.one2one is not None) == ("one2one" in reference)
    if answer.one2one is not None:
        expected = reference["one2one"]["scores"].permute(0, 2, 1)
        torch.testing.assert_close(answer.one2one.logits, expected, rtol=1e-3, atol=1e-3)
    assert not answer.one2many.logits.requires_grad


def test_folding_leaves_no_norm_and_no_trace_on_the_class(model):
    head_class = type(model.model[-1])
    fuse = head_class.fuse
    folded = fold(deepcopy(model))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert head_class.fuse is fuse
    assert "fuse" not in vars(folded.model[-1])


def test_the_loss_is_a_vector_times_the_batch_size_and_a_dict_of_parts(model):
    model.train()
    model.args = get_cfg(overrides={"epochs": 10})
    criterion = model.init_criterion()
    batch = {
        "img": IMAGES,
        "batch_idx": torch.tensor([0.0, 1.0]),
        "cls": torch.tensor([[0.0], [1.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.4, 0.4, 0.3, 0.5]]),
    }
    loss, items = criterion(model(IMAGES), batch)
    assert loss.ndim == 1
    assert isinstance(items, dict)
    assert all(isinstance(v, torch.Tensor) and v.ndim == 0 for v in items.values())
    if isinstance(criterion, v8DetectionLoss):
        torch.testing.assert_close(loss.detach(), torch.stack(list(items.values())) * len(IMAGES))


def test_the_end_to_end_loss_moves_weight_between_its_branches():
    model = DetectionModel("yolo26n.yaml", nc=3, verbose=False)
    model.args = get_cfg(overrides={"epochs": 10})
    criterion = model.init_criterion()
    assert isinstance(criterion, E2ELoss)
    many, single = branch_weights(criterion)
    assert many + single == pytest.approx(1)
    criterion.update()
    assert branch_weights(criterion)[0] < many
    assert branch_weights(object()) == (1.0, 1.0)


def test_a_model_calls_the_criterion_it_has(model):
    model.args = get_cfg()
    try:
        model.criterion = lambda preds, batch: ("called", {})
        assert model.train()({"img": IMAGES})[0] == "called"
        assert "criterion" not in model.state_dict()
    finally:
        model.criterion = None


@pytest.mark.parametrize(
    "name",
    ["get_model", "set_model_attributes", "build_optimizer", "_setup_train", "optimizer_step", "save_model",
     "save_metrics", "final_eval", "check_resume", "label_loss_items", "train", "auto_batch", "build_dataset",
     "get_dataloader", "preprocess_batch", "_load_checkpoint_state", "add_callback"],
)  # fmt: skip
def test_the_trainer_still_has_what_we_override_or_call(name):
    assert callable(getattr(DetectionTrainer, name))


@pytest.mark.parametrize(
    ("where", "texts"),
    [
        (BaseTrainer._setup_train, ["setup_model", "set_model_attributes", "self.batch_size = self.auto_batch()",
                                    "_build_train_pipeline", "ModelEMA", "resume_training"]),
        (BaseTrainer._build_train_pipeline, ["self.args.nbs", "build_optimizer"]),
        # Once an epoch, also of one that begins again; and for every batch before the student sees it.
        (BaseTrainer._do_train, ["self._setup_train()", "while True:", 'self.run_callbacks("on_train_epoch_start")',
                                 "autocast(", "self.preprocess_batch(batch)", "self.model(batch)",
                                 "self.optimizer_step()", "self.save_metrics(", 'self.run_callbacks("on_train_end")']),
        (BaseTrainer._do_train, ["self.epochs - self.args.close_mosaic"]),  # where the mosaic schedule ends
        (BaseTrainer.auto_batch, ["model=self.model"]),
        (BaseTrainer.save_model, ["self.wdir", "self.last", "self.best"]),
        (BaseTrainer.save_model, ['"train_args": vars(self.args)']),
        (BaseTrainer.final_eval, ["self.best", "self.last"]),
        (BaseTrainer._load_checkpoint_state, ["ModelEMA(self.model)"]),
        (dist.generate_ddp_file, ['"trainer": type(trainer)', '"args": vars(trainer.args)', "overrides=state["]),
        (YOLODataset.close_mosaic, ["self.build_transforms("]),
        (Mosaic, ["buffer_enabled"]),
        (Mosaic.get_indexes, ["self.n - 1"]),
        # A picture is made with its labels in one place, where stored answers join them.
        (BaseDataset.__getitem__, ["self.get_image_and_label("]),
        (BaseMixTransform, ["self.get_indexes()", "dataset.get_image_and_label("]),
        (BaseTrainer, ["self.get_dataloader("]),
        (DetectionTrainer, ["self.build_dataset("]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)  # fmt: skip
def test_the_host_does_this_in_this_order(where, texts):
    source, at = inspect.getsource(where), 0
    for text in texts:
        assert text in source[at:], text
        at = source.index(text, at)


def test_mixing_transforms_choose_their_pictures_in_one_place():
    assert issubclass(Mosaic, BaseMixTransform)
    for mixture in (MixUp, CutMix):
        assert mixture.get_indexes is BaseMixTransform.get_indexes  # one picture, and a mosaic n - 1


def test_the_host_refuses_keys_it_does_not_know_but_keeps_those_of_a_checkpoint():
    with pytest.raises(SyntaxError):
        get_cfg(overrides={"distill": {}})
    assert get_cfg({**DEFAULT_CFG_DICT, "distill": {"a": 1}}).distill == {"a": 1}


@pytest.mark.parametrize("name", ["AdamW", "SGD", "MuSGD"])
def test_the_optimizers_groups_are_told_apart_by_name(name):
    trainer = SimpleNamespace(data={"nc": 3}, args=SimpleNamespace(lr0=0.01, warmup_bias_lr=0.1))
    model = DetectionModel("yolo26n.yaml", nc=3, verbose=False)
    groups = BaseTrainer.build_optimizer(trainer, model, name=name).param_groups
    assert {"bias", "bn"} <= {g["param_group"] for g in groups}
    assert any(not g.get("use_muon") and g["weight_decay"] == 0 for g in groups)


def test_on_a_cpu_the_hosts_autocast_means_bf16_and_it_never_uses_it_itself():
    for enabled, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        with autocast(enabled, device="cpu"):
            assert torch.mm(torch.rand(2, 2), torch.rand(2, 2)).dtype == dtype
    assert check_amp(DetectionModel("yolo26n.yaml", nc=3, verbose=False)) is False


def test_the_hosts_own_distillation_wraps_a_student_that_keeps_its_criterion():
    """What the arm `host` of a comparison hangs on: our precision on a CPU reaches the loss of the wrapped student."""
    assert isinstance(DistillationModel.criterion, property)
    assert "self.student_model.criterion" in inspect.getsource(DistillationModel.criterion.fset)
    assert {"distill_model", "dis"} <= DEFAULT_CFG_DICT.keys()


def test_the_head_is_made_as_the_start_reads_it(model):
    """Branches are lists of levels, levels are sequences, and a convolution and its batch norm lie side by side."""
    branches = [layer for _, layer in model.model[-1].named_children() if isinstance(layer, nn.ModuleList)]
    assert branches
    assert all(isinstance(level, nn.Sequential) for levels in branches for level in levels)
    assert {"conv", "bn"} <= dict(model.model[0].named_children()).keys()


def test_the_losses_ask_an_assigner_as_a_set_of_boxes_does(model):
    """In this order: scores, boxes and points in pixels; classes, boxes, and which of them are there."""
    model.args = get_cfg(overrides={"epochs": 10})
    criterion = model.init_criterion()
    owners = [criterion.one2many, criterion.one2one] if hasattr(criterion, "one2many") else [criterion]
    assert all(isinstance(owner.assigner, TaskAlignedAssigner) for owner in owners)
    asked = list(inspect.signature(TaskAlignedAssigner.forward).parameters)
    assert asked[:7] == ["self", "pd_scores", "pd_bboxes", "anc_points", "gt_labels", "gt_bboxes", "mask_gt"]


@pytest.fixture
def dataset(data):
    settings = {"imgsz": 64, "augment": False, "hyp": get_cfg(), "fraction": 1.0, "data": data, "task": "detect"}
    return YOLODataset(img_path=data["train"], **settings)


def test_a_loader_asks_the_sampler_in_its_batch_sampler_anew_in_each_epoch(dataset):
    loader = build_dataloader(dataset, batch=2, workers=0, shuffle=False, rank=-1)
    loader.batch_sampler.sampler.sampler = [5, 5]
    loader.reset()
    for _ in range(2):
        assert [file for batch in loader for file in batch["im_file"]] == [dataset.im_files[5]] * 2
