"""The seam with Ultralytics: trainer, criterion, start from the teacher, evaluation and export."""
