"""The commands of `yolo-distill`: one file each, light at import; heavy modules load inside `run`."""
