"""The student's loss: the host's own and the terms beside it."""
