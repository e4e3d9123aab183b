"""Cuts to batches.

Before training: ``corpus_check`` decodes every sound file once; ``fbank`` and ``fbank_pieces``
store features, with ``feature_store`` (archives, worker processes) and ``shards`` (large corpora);
``noise_features`` does so for noise; ``validate`` reports what is broken. Training: ``manifests``
(which refuses those that would run commands), ``cuts`` and ``index`` find cuts
(``manifest_scan`` goes through a large manifest, ``plain_cuts`` reads what is usual in it, and
``lines_on_disk`` reads cuts by number),
``filters`` drops what cannot be trained on, ``epoch_plan`` and, for shards, ``shard_plan`` decide
which cuts go together, and ``corpus_mixing`` which step is of which corpus; ``dataset`` makes
tensors, with
``augment``, ``alternating_masks`` (which ``late_augment`` applies on a GPU), ``sound_effects`` and
``joined_utterances``, of what ``batch_inputs`` reads: stored features that are whole, and copies of
them; ``real_epochs`` says how many in which epoch; ``loaders`` joins all of it and
``worker_processes`` watches those that load.
``config``: settings of all of these.

A batch depends on the seed, the epoch, the rank and its index alone: not on the number of workers
(that of shards does, on their number when the epoch began), not on what was trained before, so a
run that was killed goes on with exactly the batches that it would have had.
"""
