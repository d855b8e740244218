"""The demo: trains, exports and compares on drawn scenes; the one room that sees engine and runtime alike."""
