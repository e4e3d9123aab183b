"""Kernels for GPUs, in Triton; import these only where Triton is installed.

``attention``: attention weights; ``bias_norm``: BiasNorm; ``lattices``: losses; ``optimizer``:
optimizer steps; ``searches``: transducer searches.
"""
