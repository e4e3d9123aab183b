"""Where speech comes from: one corpus per file, each of them a promise to write manifests.

``corpus`` says what a corpus owes the rest of the house and lists those there are. ``manifests``
takes what somebody else has prepared. ``own`` takes anything a user has: ``sources`` tells a
``table``, a ``folder``, a ``kaldi`` directory and a ``lhotse_folder`` apart, all of which become
``utterances``; ``splits`` shares them out, ``own_audio`` converts their sound, ``own_report`` tells
what was found and ``recipe_file`` writes a recipe for it. ``espeak`` makes its own: ``grammar``
writes the sentences, ``espeak_plan`` decides who says what and how, ``espeak_voice`` speaks (in
processes of its own, the only ones that load the eSpeak NG library), ``resample`` and ``noise``
turn its sound into a recording, and ``espeak`` leads them and writes the manifests.
"""
