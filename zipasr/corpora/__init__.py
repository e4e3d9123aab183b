"""Where speech comes from: one corpus per file, each of them a promise to write manifests.

``corpus`` says what a corpus owes the rest of the house and lists those there are. ``manifests``
takes what somebody else has prepared. ``espeak`` makes its own: ``grammar`` writes the sentences,
``espeak_plan`` decides who says what and how, ``espeak_voice`` speaks (in processes of its own, the
only ones that load the eSpeak NG library), ``resample`` and ``noise`` turn its sound into a
recording, and ``espeak`` leads them and writes the manifests.
"""
