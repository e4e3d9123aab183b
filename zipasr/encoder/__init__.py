"""Sound features to a short sequence of vectors: (N, T, 80) -> (N, T', C).

Read ``subsampling`` first (100 Hz to 50 Hz), then ``zipformer`` (stacks at several
frame rates, shaped like a U), ``stack`` (layers at one rate), and ``layer``, which
puts together the six kinds of block in the files named after them.
Causal models cut time into ``chunks``; ``streaming`` runs them on speech as it comes.
Inside the encoder tensors are time-first, (T', N, C): the convolutions, the products with
attention weights and the per-utterance masks then need no copies. Attribute
names are those of published checkpoints, so that their state dicts fit.
"""
