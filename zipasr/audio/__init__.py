"""Sound files: what is in them, and their samples as models expect them.

``audio_info`` reads a file from its first to its last sample and describes it, or says what is
wrong with it; ``loading`` gives samples of one channel at the rate of the recipes;
``silence_windows`` cuts long recordings at silence; ``quarantine`` is the table of what was left
out, and why.
"""
