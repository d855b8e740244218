"""`benchmark`: exported files and checkpoints side by side: latency, throughput, memory, size, accuracy."""
