"""Checkpoints and architectures of the host."""
