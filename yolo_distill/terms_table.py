"""The distillation terms, a row each: all that is said of a term outside the page of its loss.

The command line, the recipe, the criterion and the projectors read this table, so a new term is its page in `losses/`,
its row here, its test, and its line in `cfg/default.yaml` and in `cfg/README.md`. Free of heavy imports: a loss is
named by where it lives, and imported when a criterion is built.

How a loss is called, by the kind of its term; `**own` are the term's own settings that the loss takes:

- class: `loss(student, teacher, weight, **own)`, logits of the anchors that are taught, shape (..., C), and the weight
  of each of them, shape (...), or None. The student's are in single precision, the teacher's as it answers.
- box: `loss(student, teacher, weight, size, **own)`, for each side its outputs, distances and boxes at those anchors as
  `DenseBranch.at` gives them, the weight of each anchor, and height and width of the pictures in pixels.
- object: see `yolo_distill.distillation.object_terms`, which calls these by name.
- maps: `loss(student, teacher, **own)`, the two maps of one level, shape (B, C, H, W), the student's through its
  projector; where `weighed_by` is at `score`, the weight of each place comes third, shape (B, H, W).
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from yolo_distill.settings import Setting

_NEEDS = {
    "class": {"scores"},
    "box": {"scores", "boxes"},
    "object": {"scores", "boxes", "extra"},
    "maps": {"maps"},
}


@dataclass(frozen=True)
class Term:
    """One term.

    Attributes:
        kind: what is compared: class scores or boxes, anchor by anchor; what objects have beside these; feature maps.
        loss: where its loss lives, `module:function`.
        column: its name in the progress bar, in results.csv and for the host's loggers; at most 10 letters, as the
            progress bar's columns are 11 wide.
        help: one line for `--help`.
        gain: weight of its loss where a recipe does not say; None leaves it open, see `Recipe.settled`.
        usual: gain where it is left open and teaches.
        share: wanted gradient at the neck by the task's, for `balance=auto`.
        settings: its own, by name, with their defaults.
        arguments: which of them the loss takes, by the name of the argument.
        anchors: where the function lives that says which anchors of the one-to-many branch a class term teaches, from
            the logits of both sides and the same arguments; None: those where the teacher sees something. (A box term
            teaches those where the teacher's score is above `box_floor`.)
        task: of the students that have what it compares; None: all.
        two_classes: whether it compares classes with each other, and there have to be two.
        projector: through what a map of the student goes, a kind that `make_projectors` knows, or the setting that
            holds it.
        hidden: the setting that holds the share of positions that the projector does not see, drawn anew each batch.
        weighed_by: the setting that at `score` weights the positions of a map by the teacher's best class score.
        as_host: summed over the levels and of one strength all along, as Ultralytics' own distillation is; a maps term
            is otherwise their mean, and falls with the weight of the one-to-many branch in the task's loss.
    """

    kind: Literal["class", "box", "object", "maps"]
    loss: str
    column: str
    help: str
    gain: float | None = 0.0
    usual: float | None = None
    share: float = 0.2
    settings: Mapping[str, Setting] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    anchors: str | None = None
    task: str | None = None
    two_classes: bool = False
    projector: str = "linear"
    hidden: str | None = None
    weighed_by: str | None = None
    as_host: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """What a teacher is asked for by its kind: scores, boxes, extra, maps."""
        return frozenset(_NEEDS[self.kind])

    def bind(self, where: str, recipe: object) -> Callable[..., Any]:
        """Return a function of the term's page with the recipe's values for the arguments that are settings.

        Args:
            where: what `loss` or `anchors` of this row says.
            recipe: which has the settings as attributes.
        """
        own = {argument: getattr(recipe, setting) for argument, setting in self.arguments.items()}
        return partial(pkgutil.resolve_name(where), **own)


#: In the order of the progress bar. A new term of maps goes to the end: the projectors' seeds count them.
TABLE = {
    "logit": Term(
        kind="class",
        loss="yolo_distill.losses.logit:logit_loss",
        column="logit_loss",
        help="gain of the class term; 0: off; null: as the start asks for",
        gain=None,
        usual=1.0,  # twice the host's own class gain
        settings={"logit_gamma": Setting(float, "how strongly the class term weights disagreement", 1.0, low=0)},
        arguments={"gamma": "logit_gamma"},
        anchors="yolo_distill.losses.logit:worth_teaching",
    ),
    "hinton": Term(
        kind="class",
        loss="yolo_distill.losses.hinton:hinton_loss",
        column="hint_loss",
        help="gain of the class term by softmax KL",
        settings={"hinton_tau": Setting(float, "temperature of hinton", 2.0, above=0)},
        arguments={"tau": "hinton_tau"},
        two_classes=True,
    ),
    "dist": Term(
        kind="class",
        loss="yolo_distill.losses.dist:dist_loss",
        column="dist_loss",
        help="gain of the class term by correlation",
    ),
    "localization": Term(
        kind="box",
        loss="yolo_distill.losses.localization:localization_loss",
        column="local_loss",
        help="gain of the box term; likewise",
        gain=None,
        usual=1.5,  # a fifth of the host's box gain, as more crowds the task out
        share=0.1,
        settings={
            "box_floor": Setting(float, "teacher score above which an anchor's box is taught", 0.05, low=0, below=1)
        },
    ),
    "mask": Term(
        kind="object",
        loss="yolo_distill.losses.masks:mask_loss",
        column="kd_masks",
        help="gain of the mask term of a segmenter; likewise",
        gain=None,
        usual=1.5,
        task="segment",
    ),
    "keypoint": Term(
        kind="object",
        loss="yolo_distill.losses.keypoints:keypoint_loss",
        column="kd_points",
        help="gain of the keypoint term of a pose model; likewise",
        gain=None,
        usual=1.5,
        task="pose",
    ),
    "cwd": Term(
        kind="maps",
        loss="yolo_distill.losses.cwd:cwd_loss",
        column="cwd_loss",
        help="gain of the feature term CWD",
        gain=None,
        usual=2.5,  # 0.1 to 0.25 of the task's gradient in all runs of tests/benchmarks/MEASURED.md that have it
        settings={"cwd_tau": Setting(float, "temperature of cwd", 1.0, above=0)},
        arguments={"tau": "cwd_tau"},
    ),
    "pkd": Term(
        kind="maps",
        loss="yolo_distill.losses.pkd:pkd_loss",
        column="pkd_loss",
        help="gain of the feature term PKD",
    ),
    "mgd": Term(
        kind="maps",
        loss="yolo_distill.losses.mgd:mgd_loss",
        column="mgd_loss",
        help="gain of the feature term MGD",
        settings={"mgd_mask": Setting(float, "share of the positions that mgd masks", 0.65, low=0, below=1)},
        projector="generator",
        hidden="mgd_mask",
    ),
    "mimic": Term(
        kind="maps",
        loss="yolo_distill.losses.mimic:mimic_loss",
        column="mimic_loss",
        help="gain of the feature term MIMIC",
        settings={
            "mimic_weight": Setting(str, "what weights the positions of mimic", "score", choices=("score", "uniform")),
            "mimic_projector": Setting(
                str, "through what mimic sees the student's maps", "linear", choices=("linear", "mlp")
            ),
        },
        projector="mimic_projector",
        weighed_by="mimic_weight",
        as_host=True,
    ),
}

#: The distillation terms.
TERMS = tuple(TABLE)
#: A thousand times what anybody was seen to use; far above it losses are no numbers.
_LARGEST_GAIN = 10_000.0
#: Those that compare feature maps, through projectors that learn with the student.
FEATURE_TERMS = tuple(name for name, term in TABLE.items() if term.kind == "maps")


def term_settings() -> dict[str, Setting]:
    """Return the settings of all terms, by name and with their defaults: gains first, then what is their own."""
    gains = {
        name: Setting(float, term.help, term.gain, low=0, high=_LARGEST_GAIN, nullable=term.gain is None)
        for name, term in TABLE.items()
    }
    return gains | {key: setting for term in TABLE.values() for key, setting in term.settings.items()}
