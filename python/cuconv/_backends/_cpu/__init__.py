"""Convolution, pooling and activations on NumPy arrays: a file for each algorithm family."""
