"""The ground floor: things that know nothing of speech.

Flags from dataclasses, recipes, errors that a person can act on, files that are never half written,
seeds, processes, logs. Everything above may use this room; this room uses nothing above.
"""
