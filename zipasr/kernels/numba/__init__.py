"""Loops for CPUs, compiled by numba; import these only where numba is installed.

``math`` is shared; ``swoosh``: activations; ``lattices`` and ``logits``: losses; ``optimizer``.
``ngrams`` reads lines of n-gram models; without numba its loops stay Python.
"""
