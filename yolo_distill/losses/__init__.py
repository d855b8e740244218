"""Distillation losses: torch only, one idea a file, no knowledge of the host."""
