"""Checkpoints: written, read, averaged, chosen and removed.

``checkpoint_file`` writes a checkpoint so that it is whole or not there and reads it without
running code from it; ``weights`` loads the weights of a file into a model; ``model_file`` builds
the model that a file holds, ours or icefall's; ``averaging`` keeps the running average and combines
checkpoints; ``selection`` chooses which ones to decode with; ``retention`` removes old ones;
``language_model_file`` does for language models what ``model_file`` does. ``config``: settings.
"""
