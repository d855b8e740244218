"""Teachers: whatever can answer for a batch of pictures."""
