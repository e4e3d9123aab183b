"""Foundations that know nothing of speech.

``config``: flags and JSON from dataclasses; ``recipe``: recipe files; ``errors``: errors that a
user can act on; ``files``: files that are whole or not there; ``lock``: one run at a time in a
folder; ``log``; ``progress``: bars and live lines; ``seed``: every source of randomness;
``distributed``: processes that train together; ``environment``: versions, device, memory, threads;
``constants``: the sample rate; ``lazy``: public names of packages, imported when they are used.
"""
