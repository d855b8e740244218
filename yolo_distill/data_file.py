"""The file that `data=` names; found before anything heavy is imported, so that a slip is answered at once."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from yolo_distill.errors import RequestError, did_you_mean, missing_extra


def find_data_file(data: str | Path) -> tuple[Path, bool]:
    """Return the file of a data set, and whether the host brings it along.

    Args:
        data: path of a `.yaml` file, or the bare name of one of the host's.

    Raises:
        RequestError: it is not there, or is something else; or Ultralytics is not, which may have it.
    """
    said, file = f"data={data}", Path(str(data)).expanduser()
    if file.is_dir():
        inside = sorted(found.name for found in file.glob("*.y*ml"))
        hint = f"; did you mean {str(file / inside[0])!r}?" if inside else "; give the .yaml file that describes it"
        raise RequestError(f"{said}: is a folder{hint}")
    shipped: dict[str, Path] = {}
    if not file.exists() and file.name == str(data):
        shipped = {found.name: found for found in _host_folder(said).glob("*.yaml")}
        if file.name in shipped:
            return shipped[file.name], True
    if not file.is_file():
        near = [found.name for found in file.parent.glob("*.y*ml")]
        hint = did_you_mean(file.name, [*near, *shipped], 0.8)  # all end alike
        raise RequestError(f"{said}: no such file{hint}")
    if file.suffix.lower() not in {".yaml", ".yml"}:
        what = file.suffix or "nameless"
        raise RequestError(f"{said}: a data set is described by a .yaml file, this is a {what} one")
    return file, False


def _host_folder(said: str) -> Path:
    """Return where Ultralytics has its data set files; looking for a package does not import it."""
    found = find_spec("ultralytics")
    if found is None:
        raise missing_extra("ultralytics", said)
    return Path(str(found.origin)).parent / "cfg" / "datasets"
