"""Pictures and labels of a run."""
