"""An exported detector, ready to be called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, overload

import numpy as np

from yolo_distill.errors import DistillError, RequestError, did_you_mean
from yolo_distill.runtime.detections import Detections
from yolo_distill.runtime.inputs import Tensor, input_form
from yolo_distill.runtime.letterbox import Floats, Picture, Transform
from yolo_distill.runtime.metadata import Metadata, read_metadata
from yolo_distill.runtime.pictures import AnyPicture, as_picture
from yolo_distill.runtime.postprocess import Postprocess, Raw
from yolo_distill.runtime.session import open_session

if TYPE_CHECKING:
    from typing_extensions import Unpack  # type checkers bring it along

__all__ = ["Detections", "Detector"]

#: Pictures that a file of any number is given at a time: more are no faster, and fill the memory.
DYNAMIC_BATCH = 8


class Settings(TypedDict, total=False):
    """What counts as a detection; see `Detector.__call__`."""

    conf: float
    iou: float
    max_det: int
    classes: int | str | Sequence[int | str] | None
    agnostic: bool


class Detector:
    """A YOLO in an ONNX file, exported by `yolo-distill export` or by the host.

    `detector(image)` does all; `preprocess`, `infer` and `postprocess` are its three steps.

    One detector may be called from several threads at once, and from asyncio with
    `await asyncio.to_thread(detector, image)`: nothing changes after it is opened, each call has memory of its own, and
    what is returned belongs to the caller.

    Attributes:
        path: the file.
        names: class index to name.
        imgsz: height and width of the network's input, in pixels.
        stride: largest stride of the network, in pixels.
        task: "detect", "segment", "pose" or "obb".
        end2end: whether the network's answer is final, (B, N, 6), or dense, (B, 4 + nc, A), and needs NMS; of other
            tasks than "detect" with E numbers more for each box.
        batch: pictures that the file takes at a time; `None` for any number.
        metadata: all notes of the file.
        session: the onnxruntime session.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        imgsz: int | tuple[int, int] | None = None,
        providers: Sequence[str] | str | None = None,
        threads: int | None = None,
    ) -> None:
        """Open a file.

        Args:
            path: an `.onnx` file.
            imgsz: side of the input, or height and width, in pixels; by default what the file was exported for. Only a
                file with a dynamic input takes another one.
            providers: onnxruntime's execution providers in order of preference; `None` for CUDA where it is there,
                else the CPU.
            threads: threads for one operator; `None` leaves it to onnxruntime.

        Raises:
            RequestError: there is no such file, it is no YOLO of a known form, or a setting has to change.
            DistillError: onnxruntime cannot run the model.
        """
        self.path = Path(path).expanduser()
        self.session = open_session(self.path, providers, threads)
        notes = read_metadata(self.session.get_modelmeta().custom_metadata_map, str(self.path))
        self.names = notes.names
        self.stride = notes.stride
        self.task = notes.task
        self.metadata = notes.everything
        outputs = self.session.get_outputs()
        self._form = input_form(self.session.get_inputs(), notes, str(self.path))
        outputs.sort(key=lambda one: len(one.shape))  # boxes before prototypes
        self._outputs = [one.name for one in outputs]
        self.batch: int | None = self._form.batch
        self._step = self.batch or notes.most or DYNAMIC_BATCH
        own = self._form.imgsz or notes.imgsz
        self.imgsz: tuple[int, int] = own if imgsz is None else self._choose_size(imgsz)
        self.meaning = self._choose_layout([one.shape for one in outputs], notes)
        self.end2end = self.meaning.end2end

    # Of a text, which is a sequence of texts as well, mypy cannot see that the first one is meant.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, images: AnyPicture, *, imgsz: int | tuple[int, int] | None = None, **settings: Unpack[Settings]
    ) -> Detections: ...

    @overload
    def __call__(
        self, images: Sequence[AnyPicture], *, imgsz: int | tuple[int, int] | None = None, **settings: Unpack[Settings]
    ) -> list[Detections]: ...

    def __call__(
        self,
        images: AnyPicture | Sequence[AnyPicture],
        *,
        conf: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
        classes: int | str | Sequence[int | str] | None = None,
        agnostic: bool = False,
        imgsz: int | tuple[int, int] | None = None,
    ) -> Detections | list[Detections]:
        """Find objects in one picture, or in each of several.

        Args:
            images: a picture as OpenCV gives it, (H, W, 3) uint8 in the order blue, green, red; grey (H, W) and
                (H, W, 4) are taken as well. Or the path of a picture, or one of PIL; both are turned as their EXIF
                says. Or a list of such, of any kinds and sizes, or an array (B, H, W, 3).
            conf: scores have to be above, 0 to 1.
            iou: overlap above which the worse of two boxes of a class goes, 0 to 1; end-to-end files ignore it.
            max_det: most detections of a picture.
            classes: index or name of the class to look for, or a list of such; `None` for all.
            agnostic: whether boxes of different classes suppress each other as well.
            imgsz: side of the input, or height and width, in pixels, for a file with a dynamic input; `None` for what
                the detector was opened with.

        Returns:
            the detections of the picture; a list of them for a list or an array (B, H, W, 3).

        Raises:
            RequestError: something that is no picture or cannot be read, or a setting out of range.
            DistillError: onnxruntime failed.
        """
        if isinstance(images, np.ndarray):
            several = images.ndim == 4
        else:
            several = isinstance(images, Sequence) and not isinstance(images, (str, bytes))
        given: Any = images if several else [images]
        settings = self._checked(conf, iou, max_det, classes, agnostic)  # before any work
        size = self.imgsz if imgsz is None else self._choose_size(imgsz)
        found: list[Detections] = []
        for start in range(0, len(given), self._step):
            pictures = [
                as_picture(one, f"picture {number} of {len(given)}: " if several else "")
                for number, one in enumerate(given[start : start + self._step], start + 1)
            ]
            tensor, transforms = self._fill(pictures, size)
            found += self._decode(self.infer(tensor), transforms, settings)
        return found if several else found[0]

    def preprocess(self, image: AnyPicture) -> tuple[Tensor, Transform]:
        """Turn a picture into the network's input.

        Args:
            image: whatever `__call__` takes as one picture.

        Returns:
            the input in the file's own form (see `inputs`), and how the picture lies in it.

        Raises:
            RequestError: `image` is no picture or cannot be read.
        """
        tensor, transforms = self.preprocess_batch([image])
        return tensor, transforms[0]

    def preprocess_batch(self, images: Sequence[AnyPicture]) -> tuple[Tensor, list[Transform]]:
        """Turn B pictures, at least one, into one input of B; otherwise as `preprocess`."""
        return self._fill([as_picture(image) for image in images], self.imgsz)

    def infer(self, tensor: Tensor) -> Raw:
        """Run the network.

        Args:
            tensor: B pictures, at least one, as `preprocess` returns them (float32 will do for float16); a file that
                takes fewer at a time is run as often as it takes.

        Returns:
            its raw answer: (B, 4 + nc, A), or (B, N, 6) where `end2end`; of "segment" a pair of it and the prototypes,
            (B, M, height, width).

        Raises:
            RequestError: floats for a file that takes bytes, or bytes for one that takes floats.
            DistillError: onnxruntime failed, or answered with another shape.
        """
        dtype = np.dtype(self._form.dtype)
        if tensor.dtype.kind != dtype.kind:
            raise RequestError(
                f"{self.path}: got an input of {tensor.dtype}; expected {dtype}, as preprocess() gives it"
            )
        count = len(tensor)
        parts: list[list[Floats]] = []
        for start in range(0, count, self._step):
            part = tensor[start : start + self._step].astype(dtype, copy=False)
            if lacking := (self.batch or len(part)) - len(part):
                part = np.concatenate([part, np.zeros((lacking, *part.shape[1:]), dtype)])
            try:
                answers = self.session.run(self._outputs, {self._form.name: part})
            except Exception as error:  # onnxruntime's errors share no class of their own
                raise DistillError(f"{self.path}: running the model failed: {' '.join(str(error).split())}") from error
            parts.append([np.asarray(answer, np.float32)[: len(part) - lacking] for answer in answers])
        raw = [np.concatenate(same) if len(same) > 1 else same[0] for same in zip(*parts, strict=True)]
        if not self.meaning.fits([one.shape for one in raw]) or len(raw[0]) != count:
            shapes = " and ".join(str(one.shape) for one in raw)
            raise DistillError(f"{self.path}: the model answered {shapes}; expected {self.meaning.expected()}")
        return raw[0] if len(raw) == 1 else (raw[0], raw[1])

    def postprocess(self, raw: Raw, transforms: Sequence[Transform], **settings: Unpack[Settings]) -> list[Detections]:
        """Turn the network's raw answer into detections.

        Args:
            raw: what `infer` returned.
            transforms: B, as `preprocess` returned them.
            settings: conf, iou, max_det, classes and agnostic, as `__call__` takes them.

        Raises:
            RequestError: a setting out of range, or a class that the model does not know.
            DistillError: the answer holds nan or infinity.
        """
        return self._decode(raw, transforms, self._checked(**settings))

    def class_ids(self, classes: int | str | Sequence[int | str]) -> list[int]:
        """Return class indices for an index or a name, or for several.

        Raises:
            RequestError: the model knows no such class.
        """
        ids: list[int] = []
        for one in [classes] if isinstance(classes, (str, int, np.integer)) else classes:
            text = str(one).strip()
            if text.isdecimal() and int(text) in self.names:
                ids.append(int(text))
            elif named := [index for index, name in self.names.items() if name.strip() == text]:
                ids += named  # a name may stand for several
            else:
                known = ", ".join(f"{index} {name}" for index, name in list(self.names.items())[:20])
                more = ", ..." if len(self.names) > 20 else ""
                near = did_you_mean(text, self.names.values())
                raise RequestError(f"classes={text}: the model knows no such class{near} (known: {known}{more})")
        return ids

    def _fill(self, pictures: Sequence[Picture], size: tuple[int, int]) -> tuple[Tensor, list[Transform]]:
        """Return the network's input, of `size`, with the pictures in it."""
        tensor = self._form.empty(len(pictures), size)
        return tensor, [self._form.fill(place, image) for place, image in zip(tensor, pictures, strict=True)]

    def _decode(self, raw: Raw, transforms: Sequence[Transform], settings: dict[str, Any]) -> list[Detections]:
        """Return what the answers say about each picture; the settings have been checked."""
        try:
            return self.meaning(raw, transforms, **settings)
        except FloatingPointError as error:
            raise DistillError(
                f"{self.path}: {error}; the file is damaged, or a half-precision one that overflows: export it again, "
                "in full precision"
            ) from error

    def _checked(
        self,
        conf: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
        classes: int | str | Sequence[int | str] | None = None,
        agnostic: bool = False,
    ) -> dict[str, Any]:
        """Return the settings as the decoders take them."""
        for key, value in (("conf", conf), ("iou", iou)):
            if not 0 <= value <= 1:  # written so that nan is refused as well
                raise RequestError(f"{key}={value}: must be between 0 and 1")
        if max_det < 1:
            raise RequestError(f"max_det={max_det}: must be at least 1")
        wanted = None if classes is None else np.array(self.class_ids(classes), np.int64)
        return {"conf": conf, "max_det": max_det, "classes": wanted, "iou": iou, "agnostic": agnostic}

    def _choose_size(self, wanted: int | tuple[int, int]) -> tuple[int, int]:
        """Return the wanted input size, if the file takes it."""
        sides = (wanted, wanted) if isinstance(wanted, (int, np.integer)) else wanted
        if (
            not isinstance(sides, (tuple, list))
            or len(sides) != 2
            or not all(isinstance(side, (int, np.integer)) for side in sides)
        ):
            raise RequestError(f"imgsz={wanted!r}: expected a whole number of pixels, or (height, width)")
        height, width = int(sides[0]), int(sides[1])
        fixed = self._form.imgsz
        if fixed and (height, width) != fixed:
            raise RequestError(
                f"imgsz={height},{width}: {self.path} takes {fixed[0]},{fixed[1]} (height, width) only; leave imgsz= "
                "out, or export it with that imgsz"
            )
        if min(height, width) < 1 or height % self.stride or width % self.stride:
            raise RequestError(f"imgsz={height},{width}: {self.path} takes multiples of {self.stride} only")
        return height, width

    def _choose_layout(self, shapes: Sequence[Sequence[Any]], notes: Metadata) -> Postprocess:
        """Return what the outputs mean; a fixed shape says it better than the notes of older exports."""
        both = [Postprocess.of(notes, end2end=end2end) for end2end in (notes.end2end, not notes.end2end)]
        for one in both:
            if one.fits(shapes):
                return one
        text = ", ".join(str(tuple(shape)) for shape in shapes)
        raise RequestError(f"{self.path}: the model answers {text}; expected {both[0].expected()}")


def precision_of(detector: Detector) -> str:
    """Return "fp32", "fp16" or "int8": what the file notes, else what the type of its input says."""
    noted = detector.metadata.get("precision")
    if noted:
        return str(noted)
    return "fp16" if detector.session.get_inputs()[0].type == "tensor(float16)" else "fp32"
