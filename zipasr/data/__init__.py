"""Cuts to batches.

``corpus_check`` decodes every sound file once and quarantines what is damaged or mislabelled;
``fbank`` turns audio into stored features (``shards``: for large corpora; ``executors``: on this
machine or many); ``filters`` drops what cannot be trained on and counts it; ``validate`` reports
both before any training; ``plan`` and ``sampling`` decide which cuts go together, and in which
order (``windows``: shard by shard; ``mixed``: of several corpora); ``augment`` masks and mixes;
``dataset`` reads one batch of cuts; ``batch`` is what comes out; ``loaders`` joins all of it. A
batch depends on the seed, the epoch, the rank and its index alone: not on the number of workers,
not on what was trained before, so a run that was killed goes on with exactly the batches that it
would have had.
"""
