"""Benchmark of the losses: time and memory, against plain JAX and PyTorch."""
