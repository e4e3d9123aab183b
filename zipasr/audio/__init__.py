"""Sound files: what is in them, and their samples as models expect them.

``audio_info`` reads a file from its first to its last sample and describes it, or says what is
wrong with it (``faults``); ``loading`` gives samples of one channel at the rate of the recipes,
which ``channels`` says how to make; ``log_mel`` makes their features; ``quarantine`` is the table
of what was left out, and why. ``segmentation`` cuts long recordings at silence, which
``speech_activity`` finds, between words too, as ``sound_profile`` says that the model is used to.

``decoding`` gives the samples, by libsndfile or by ``ffmpeg``. Before, ``pcm_headers`` and
``coded_headers`` compare what a ``header`` promises with what is in the file; where it is wrong,
libsndfile reads the file with a right one. ``flac`` writes conversions.
"""
