"""The Zapformer of icefall's recipe of 2026; docs/zapformer.md explains it part by part.

``config`` sizes and presets; ``construction`` builds it, infers settings from weights, and says
what exported files hold; ``front_end`` feature frames to 20 ms vectors, ``model`` stacks at several
frame rates, ``layer`` one of their layers, ``attention`` and ``mixing`` its self-attention,
``positions`` relative positions, ``norm`` norms of frames and sequences, ``penalties`` what acts on
gradients alone; ``streaming`` chunk by chunk.
"""
