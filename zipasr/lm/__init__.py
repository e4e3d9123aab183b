"""Language models: the probability of a sequence of tokens or words.

``ngram`` holds and queries back-off models, ``arpa`` reads and writes their files, ``ngram_table``
answers many queries at once and ``ngram_estimation`` estimates models from text. ``rnn`` (icefall's
key names) and ``transformer`` are trained step by step; ``neural`` builds either, ``perplexity``
scores whole sentences, ``sentences`` holds text as ids. ``config`` has the flags.
"""
