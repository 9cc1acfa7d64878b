"""Time and memory of the losses against the usual ways to write them, in JAX and in PyTorch."""
