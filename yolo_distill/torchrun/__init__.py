"""Training in processes that torchrun starts, on one machine or several."""
