"""The demo: draws a data set and tells the whole story on it; the one room that sees engine and runtime alike."""
