"""From encoder frames to token sequences.

``methods`` is the table of ``--decoding-method``, ``registry`` builds the search of a row,
``components`` are what it is built of, ``protocol`` what it takes and returns, ``config`` its
flags. Transducer: ``transducer_step``, ``greedy``, ``beam_search`` (with ``beam_state`` and
``batched_state``), ``fast_beam_search`` (with ``fast_beam_frame``). CTC: ``ctc``, ``ctc_prefix``.
Beside the model: ``scorers`` (hot-words, sums) and ``language_models``. Lattices: ``lattice``,
``lexicon_graph``, ``graph_search``, ``lattice_intersect``, ``rescoring``. ``alignment``: times of a
given transcript; ``confidence``: probabilities of recognised tokens.
"""
