"""From two lists of words to error rates and result files.

``align`` pairs the words that were said with the words that were recognised and counts
insertions, deletions and substitutions. ``reports`` turns alignments and counts into text:
the three result files, their names, log lines and the table for the terminal. Nothing
here touches a disk or a model.
"""
