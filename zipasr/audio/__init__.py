"""Sound files.

``facts`` reads a file from its first to its last sample and says what is in it, or what is wrong
with it; ``survey`` does so for all files of a corpus, side by side, and remembers the result as
long as a file does not change; ``mono`` turns files of any rate and number of channels into what
the recipes expect.
"""
