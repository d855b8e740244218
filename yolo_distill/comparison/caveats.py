"""What a reader has to know before believing the tables, in sentences that are true of these runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ultralytics.cfg import DEFAULT_CFG_DICT

from yolo_distill.benchmarking.report import front_of
from yolo_distill.comparison.arms import DISTILLED, EQUAL_TIME, HOST, PLAIN, TEACHER
from yolo_distill.comparison.charts import front_points
from yolo_distill.comparison.tables import look_up
from yolo_distill.durations import duration
from yolo_distill.engine.teacher_quality import BY_HEART, NOTHING, PICTURES

#: Share of the training time from which on what comes before it is said.
_MUCH = 0.2
#: Boxes of a split, below which each that is found or not moves a figure by points.
_FEW_BOXES = 30


def sentence(words: str) -> str:
    """Return a verdict as a sentence."""
    return f"{words[:1].upper()}{words[1:]}."


def setting_line(summary: Mapping[str, Any]) -> str:
    """Return in one line what was compared."""
    plan = summary["plan"]
    records = summary["records"]
    epochs = {arm["epochs"] for arm in summary["arms"].values() if arm["epochs"]}
    machines = {f"{record['machine']['cpu']}, {record['machine']['threads']} thread(s)" for record in records}
    versions = records[-1]["versions"] if records else {}
    devices = {record["machine"]["device"] for record in records} - {"cpu"}
    parts = [
        f"{plan['teacher']['name']} → {plan['student']['name']}",
        plan["data"]["name"],
        f"{plan['imgsz']} px",
        f"{' and '.join(map(str, sorted(epochs)))} epoch{'s' * (epochs != {1})}" if epochs else "",
        f"seeds {', '.join(map(str, summary['seeds']))}",
        "; ".join(sorted(devices or machines)),
        plan["precision"] or "",
        ", ".join(f"{name} {version}" for name, version in versions.items() if name != "source"),
        summary["date"],
    ]
    return " · ".join(part for part in parts if part)


def caveats_of(summary: Mapping[str, Any]) -> list[str]:
    """Return the notes."""
    split, metric = (summary["headline"][key] for key in ("split", "metric"))
    notes = [*_nothing(summary), *(_missing(row) for row in summary["missing"])]
    if reason := (summary["teacher"] or {}).get("not_measured"):
        notes.append(f"The teacher is not measured: {reason}")
    if split == "val":
        notes.append(
            "The data has no test split that can be used: the best epoch was chosen on the pictures it is judged by."
        )
    notes.append(
        "Intervals are of paired differences over seeds (Student's t, 95 %). They say how far other seeds may come "
        f"out with this one teacher, not with another training of it, and not on other pictures: the {split} split is "
        f"one sample{_sample(summary['records'], split)}."
    )
    notes += [*_seeds(summary), *_teacher(summary)]
    others = [label for label in summary["verdicts"] if label != summary["headline"]["arm"]]
    if len(others) > 1:
        notes.append(
            f"{len(others) + 1} arms are compared with plain: of twenty that do not differ, one can be expected to "
            "look as if it did."
        )
    notes += _pairing(summary["pairing"], summary["unchecked"])
    if any(arm["kind"] == HOST for arm in summary["arms"].values()):
        notes.append("host is Ultralytics' own distillation (distill_model=).")
    if summary["equal_time"] and EQUAL_TIME in summary["arms"]:
        notes.append(_equal_time(summary["equal_time"]))
    if len(points := front_points(summary)) > 1:
        notes.append(f"On the front of time and {metric}, fastest first: {', '.join(front_of(points))}.")
    records = summary["records"]
    notes += [*_starts(records), *_prepared(summary)]
    versions = {str(record["versions"]) for record in records}
    if len(versions) > 1 or any(len(record.get("sources", ())) > 1 for record in records):
        notes.append("The runs were made with different versions of the code; each record says which.")
    notes += [*_teachers_answers(records), *_machines(records)]
    if reason := summary.get("pictures_missing"):
        notes.append(f"No pictures are shown: {reason}")
    return notes


def _missing(row: Mapping[str, Any]) -> str:
    who = TEACHER if row["arm"] == TEACHER else f"{row['arm']}, seed {row['seed']}"
    why = f"failed: {row['error']} (log: {row['log']})" if row["error"] else "not finished yet"
    if row["error"] and row["arm"] != TEACHER:
        why += f"; delete {row['log'].partition('/')[0]} to leave it out"
    return f"Missing: {who}: {why}"


def _nothing(summary: Mapping[str, Any]) -> list[str]:
    """Say so where neither arms nor teacher find anything, which makes all differences 0."""
    split, metric = (summary["headline"][key] for key in ("split", "metric"))
    where = (split, "one-to-many", "mAP50-95")
    values = [look_up(arm["figures"], *where, "mean") for arm in summary["arms"].values()]
    values.append(look_up((summary["teacher"] or {}).get("figures", {}), *where))
    found = [value for value in values if value is not None]
    if not found or max(found) >= 100 * NOTHING:
        return []
    return [
        f"None of them finds anything yet, at most {max(found):.1f} {metric} on {split}: train longer, or look at "
        "imgsz= and at the classes' names."
    ]


def _sample(records: Sequence[Mapping[str, Any]], split: str) -> str:
    """Return of how many pictures and boxes a split is, and whether these are few."""
    figures = next((record[split] for record in records if split in record), None)
    if figures is None:
        return ""
    size = f", {figures['pictures']} pictures with {figures['boxes']} boxes"
    few = ". With so few boxes each that is found or not moves a figure by points, in all arms and seeds alike"
    return size + (few if figures["boxes"] < _FEW_BOXES else "")


def _starts(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say of each arm of ours where it began, by the weights that plain of the same seed began with, and who taught."""
    plain = {record["seed"]: record["initial_weights"] for record in records if record["arm"] == PLAIN}
    found: dict[str, dict[str, None]] = {}
    for record in records:
        own, base = record["initial_weights"], plain.get(record["seed"])
        if record["kind"] == DISTILLED and own and base:
            start = "with plain's weights" if own == base else "inside its teacher"
            then = "was taught" if record["pace"] else "trained alone"
            found.setdefault(record["arm"], {})[f"{start} and {then}"] = None
    told = [f"{label} began {' or '.join(ways)}" for label, ways in found.items()]
    return [f"{'; '.join(told)}."] if told else []


def _equal_time(decision: Mapping[str, Any]) -> str:
    seconds = decision["seconds_before"]
    before = f", and {duration(seconds)} were spent before the first one" if seconds >= 1 else ""
    return (
        f"{EQUAL_TIME} has {decision['epochs']} epochs: an epoch of {decision['arm']} took {decision['ratio']:.2f} "
        f"times as long as one of plain ({decision['measured']}, seed {decision['seed']}){before}; the teacher's own "
        "training is not counted."
    )


def _seeds(summary: Mapping[str, Any]) -> list[str]:
    """Return a warning where arms stand side by side whose means are of different seeds."""
    # Epochs are given by seed, of the runs that have a record.
    seeds = {label: tuple(arm["epochs_done"]) for label, arm in summary["arms"].items() if arm["epochs_done"]}
    if len(set(seeds.values())) < 2:
        return []
    all_of_them = max(seeds.values(), key=len)
    fewer = [f"{label} ({', '.join(found)})" for label, found in seeds.items() if found != all_of_them]
    return [
        f"Not all arms have the seeds {', '.join(all_of_them)}: {'; '.join(fewer)}. Their means do not compare with "
        "those of the others; paired differences are over the seeds that both arms have, and say which where it is not "
        "all of them."
    ]


def _teacher(summary: Mapping[str, Any]) -> list[str]:
    split, metric = (summary["headline"][key] for key in ("split", "metric"))
    where = (split, "one-to-many", "mAP50-95")
    teacher = summary["teacher"] or {}
    found = look_up(teacher.get("figures", {}), *where)
    plain = look_up(summary["arms"].get(PLAIN, {}).get("figures", {}), *where, "mean")
    ours = look_up(summary["arms"].get(summary["headline"]["arm"], {}).get("figures", {}), *where, "mean")
    notes = []
    if found is not None and plain is not None and found <= plain:
        lesson = " There is nothing to learn from it here." if ours is None or ours <= plain else ""
        notes.append(f"The teacher is not ahead of plain: {found:.1f} and {plain:.1f} {metric} on {split}.{lesson}")
    taught = any(record["kind"] == DISTILLED and record["pace"] for record in summary["records"])
    if taught and (look := teacher.get("look")) and look["train"] - look["val"] > 100 * BY_HEART:
        notes.append(
            f"The teacher is far better on its training pictures, {look['train']:.1f}, than on val, "
            f"{look['val']:.1f} mAP50-95 (up to {PICTURES} pictures each): it knows them by heart, and its answers "
            "there say little more than the labels; with unlabeled= an arm is also taught pictures that it has not "
            "seen."
        )
    return notes


def _prepared(summary: Mapping[str, Any]) -> list[str]:
    """Say what arms spent before their first epoch, where it is much: on assistants and on trials of both starts."""
    found = [
        f"{label} {duration(spent['setup_seconds'])}"
        for label, spent in summary["times"].items()
        if spent["setup_seconds"] > _MUCH * max(spent["seconds"], 60.0)
    ]
    if not found:
        return []
    return [f"Before the first epoch of a run, and in none of the times above: {', '.join(found)} (mean over runs)."]


def _pairing(pairing: Mapping[str, Mapping[str, Mapping[str, bool]]], unchecked: Sequence[str]) -> list[str]:
    why = f"as they have another number of epochs: {', '.join(unchecked)}."
    if not pairing:
        return [f"Whether arms saw plain's pictures was not checked, {why}"] if unchecked else []
    others = [label for label, seeds in pairing.items() if not all(seed["pictures"] for seed in seeds.values())]
    own = [label for label, seeds in pairing.items() if not all(seed["weights"] for seed in seeds.values())]
    seen = "All arms of a seed saw the same pictures in the same order"
    if others:
        seen = f"Other pictures, or another order, than plain: {', '.join(others)}; all other arms saw the same"
    start = f"; initial weights of their own: {', '.join(own)}" if own else ", and began with the same weights"
    checked = f"{seen}{start} (checked by digests of the weights and of the first batches of every epoch)."
    return [f"{checked} Not checked, {why}" if unchecked else checked]


def _teachers_answers(records: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = []
    paces = [(record["arm"], record["pace"]) for record in records if record["pace"]]
    for label in dict(paces):
        found = {pace["teacher"] for arm, pace in paces if arm == label}
        if len(found) > 1:
            notes.append(
                f"The teacher of {label} was computed in different ways ({'; '.join(sorted(found))}), by the clock of "
                "each run; teacher_precision= fixes one."
            )
    for label, pace in {label: pace for label, pace in paces if "off" in pace}.items():
        notes.append(
            f"The teacher of {label} ({pace['teacher']}) gave answers too far off to teach the same ({pace['off']}): "
            "the arm says little about what distilling is worth; give another out= and teacher_precision=auto."
        )
    return notes


def _processors(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the processor of each run, where they are of several kinds, and the pairs that these divide."""
    kinds: dict[str, list[str]] = {}
    plain, apart = {}, []
    for record in records:
        own = record["machine"]["cpu"] if record["machine"]["device"] == "cpu" else record["machine"]["device"]
        name = TEACHER if record["kind"] == TEACHER else f"{record['arm']} seed {record['seed']}"
        kinds.setdefault(own, []).append(name)
        if record["arm"] == PLAIN:
            plain[record["seed"]] = own
        elif record["kind"] != TEACHER and plain.get(record["seed"], own) != own:
            apart.append(name)
    if len(kinds) < 2:
        return []
    where = [f"{kind}: {', '.join(names)}" for kind, names in kinds.items()]
    notes = [f"Where they ran: {'; '.join(where)}."]
    if apart:
        notes.append(
            f"On another kind of processor than plain of the same seed: {', '.join(apart)}. Kinds round otherwise, "
            "which alone can move a training as far as another seed does."
        )
    return notes


def _machines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = []
    if len({str(record["machine"]) for record in records}) > 1:
        notes.append("The runs were made on different machines or numbers of threads, so their times do not compare.")
    notes += _processors(records)
    smaller = [
        f"{record['arm']} seed {record['seed']} ({record['batch']} for {asked})"
        for record in records
        if record.get("batch") not in {None, asked := record["settings"].get("batch", DEFAULT_CFG_DICT["batch"])}
    ]
    if smaller:
        notes.append(
            f"Memory ran out, and Ultralytics went on with smaller batches: {', '.join(smaller)}. They do not compare "
            "with other runs; give all a batch= that fits."
        )
    if cut := [f"{record['arm']} seed {record['seed']}" for record in records if record["parts"] > 1]:
        notes.append(f"Interrupted and continued from the last epoch: {', '.join(cut)}.")
    return notes
