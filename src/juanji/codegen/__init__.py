"""Kernels as LLVM IR, written by Python: targets and shapes in, text out."""
