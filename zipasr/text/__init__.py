"""Strings to ids and back.

``bpe`` learns a vocabulary from transcripts; ``tokenizer`` turns transcripts into ids and back;
``scripts`` tells words from characters of scripts without blanks, ``characters`` counts those of
transcripts and has one for each byte; ``writability`` finds what a tokenizer cannot give back;
``lexicon`` and ``phrases`` read words and hot-words; ``normalise`` has the spellings of scoring and
of imports; ``text_io`` decodes text files of any origin; ``timed_words`` gives words times,
``transcript_formats`` writes them. ``config`` has the settings. Id 0 is blank, 1 marks the ends of
a sentence, 2 stands for unknown characters; the first two never come back as text.
"""
