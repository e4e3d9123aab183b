"""Language models: the probability of a sequence of tokens or words.

``ngram`` holds and queries back-off models, in arrays that ``ngram_levels`` builds; ``arpa`` reads
and writes their files, whose lines ``arpa_text`` takes apart, and ``ngram_file`` keeps large ones
as arrays. ``ngram_table`` answers many queries at once, ``ngram_estimation`` reads text as ids and
estimates models from it. ``rnn`` (icefall's key names) and ``transformer`` are trained step by
step; ``neural`` builds either, ``perplexity`` scores whole sentences. ``config`` has the flags.
"""
