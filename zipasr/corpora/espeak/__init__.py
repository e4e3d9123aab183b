"""The embedded corpus: sentences of a grammar, spoken offline by the eSpeak NG synthesiser.

``text`` expands the grammar and plans who says what; ``voice`` is the process that synthesises, the
only one that loads eSpeak NG; ``espeak_corpus`` runs such processes and writes the manifests.
"""
