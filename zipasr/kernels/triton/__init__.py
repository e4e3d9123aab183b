"""Kernels for GPUs, in Triton; import these only where Triton is installed.

``lattices``: losses; ``optimizer``: optimizer steps; ``searches``: transducer searches.
"""
