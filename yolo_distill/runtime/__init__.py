"""Runs exported detectors with numpy, onnxruntime and OpenCV; torch and ultralytics are never imported here."""
