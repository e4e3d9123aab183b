"""Loops compiled by numba and kernels in Triton, and what is available here."""
