"""Kernels for GPUs, in Triton; import these only where Triton is installed.

``attention``: attention weights; ``bias_norm``: BiasNorm; ``ctc`` and ``lattices``: losses;
``optimizer``: optimizer steps; ``searches``: transducer searches.
"""
