"""Training of a model, from its settings to its checkpoints.

``worker`` is one process: it builds a ``session`` (model, optimizer, counters), resumes and walks
the epochs of ``loop``, whose updates are in ``update``; ``gradient_reduction`` sums gradients over
processes. ``config``: settings; ``state``: counters; ``data_setup``: cuts, and what they sound
like; ``feeding``: loading that keeps up; ``precision``, ``memory``, ``batch_for_memory``,
``dry_run``, ``trial``: resources; ``resume_checks``, ``icefall_state``, ``finetune``: where weights
come from; ``nonfinite_guard``, ``diagnostics``: when numbers go wrong; ``metrics``,
``epoch_progress``, ``epoch_report``: what is shown; ``best_epochs``: which epoch is the best.
``language_model`` trains language models. Everything random in a batch is seeded from (seed, epoch,
rank, batch), so nothing is lost when a run is killed.
"""
