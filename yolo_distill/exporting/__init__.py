"""Checkpoints become files for other runtimes, each proved."""
