"""Compiling kernels, memory, and running plans."""
