"""Loops for the CPU, compiled by numba; import these only where numba is installed."""
