"""From encoder frames to token sequences.

``types`` says what a search takes and gives back. ``steps`` is the one place that asks the
decoder and the joiner for scores, and lays out a batch so that finished utterances cost
nothing. ``greedy`` follows the best symbol; ``beam`` keeps several hypotheses, which
``hypotheses`` compares, merges and finally traces back; ``ctc`` reads the CTC head.
``methods`` is the table from ``--decoding-method`` to a search: a new method is one file
here and one line there.
"""
