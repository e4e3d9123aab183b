"""The only room that moves parameters.

``worker.run`` is one process: it builds, resumes, walks the epochs. ``loop`` is one epoch, ``step``
one batch; ``state`` is what changes, ``config`` what does not, ``metrics`` what is reported, and
``session`` holds the moving parts and turns them into a checkpoint. ``watch`` tells of an epoch in
progress, ``report`` of one that is over, ``scalars`` keeps the numbers, ``curves`` draws them.
Everything random in a batch is seeded from (seed, epoch, rank, batch), so nothing is lost when a
run is killed.
"""
