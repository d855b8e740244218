"""Measures detectors, teachers and students alike."""
