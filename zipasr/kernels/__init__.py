"""Loops compiled by numba, and kernels in Triton and for torch's own compiler.

``availability`` says what is available here; ``numba`` holds loops for CPUs, ``triton`` kernels for
GPUs, which ``launch`` starts and compares with their definitions, ``elementwise`` those that torch
compiles. Each has a plain PyTorch twin, most of them in the
package that uses it, which also makes the choice.
"""
