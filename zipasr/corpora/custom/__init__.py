"""A corpus of one's own: read, checked, and written as manifests and a recipe.

``readers`` reads folders, Kaldi directories and lhotse manifests, ``table`` reads TSV and CSV
tables; ``corpus`` checks and converts what they yield; ``recipe`` chooses splits and writes the
recipe file.
"""
