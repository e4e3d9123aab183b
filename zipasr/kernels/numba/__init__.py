"""Loops for CPUs, compiled by numba; import these only where numba is installed.

``math`` is shared; ``swoosh``: activations; ``lattices`` and ``logits``: losses; ``optimizer``.
``ngrams`` reads lines of n-gram models, ``word_search`` follows paths through a lexicon; without
numba the loops of these two stay Python.
"""
