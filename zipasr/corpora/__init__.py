"""Corpora: each one writes manifests of its recordings and transcripts.

``corpus`` is the interface and the list of corpora; ``manifest_files`` checks, writes and counts
manifests, also of a folder of noise. Published corpora: ``librispeech`` and ``gigaspeech``, with
``openslr`` (names, sizes and checksums of files), ``published`` and ``download``. ``custom``
imports a corpus of one's own; ``espeak`` makes the embedded one. ``config``: settings.
"""
