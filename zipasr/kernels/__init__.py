"""Loops compiled by numba and kernels in Triton.

``registry`` says what is available here; ``numba`` holds loops for CPUs, ``triton`` kernels for
GPUs. Each has a plain PyTorch twin in the package that uses it, which also makes the choice.
"""
