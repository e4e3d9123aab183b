"""The checkpoint room: what a training run leaves on disk, and models averaged from it.

``files`` writes a checkpoint so that it is whole or not there, reads it without running code
from it, and finds and removes old ones. ``average`` keeps the running average of the weights
and combines checkpoints into the model that is decoded. ``weights`` puts all weights of a file into
a model, or none. ``stored`` finds out which model a file holds, ours or icefall's.
"""
