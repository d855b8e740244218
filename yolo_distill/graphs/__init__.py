"""Surgery on ONNX graphs: onnx and onnxruntime only, so that exporter and teachers can both use it."""
