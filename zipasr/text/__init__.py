"""Strings to ids and back.

``bpe`` learns a vocabulary from the training transcripts and writes it down; ``tokenizer`` reads
it and turns transcripts into ids and ids into transcripts; ``normalise`` says which spellings are
the same word; ``reading`` decodes text files of any origin, ``characters`` counts what is in them.
Id 0 is blank, 1 marks the ends of a sentence, 2 stands for unknown characters; a model never
learns to write the first two as text, and they never come back as text.
"""
