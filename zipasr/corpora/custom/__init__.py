"""A corpus of one's own: read, checked, and written as manifests and a recipe.

``readers`` chooses the reader of a source, or says what to do about one that is none: ``table``
(TSV, CSV, LJSpeech, JSON lines), ``audio_folder`` (sound with text; Common Voice), ``kaldi`` (with
sound that commands write), ``lhotse_manifests``. They share ``source_text`` (lines of text files),
``delimited`` (fields of lines), ``columns`` (known names, times, channels), ``audio_files`` (files
by name) and yield ``utterances``. ``checks`` compares them with their sound, ``suspects`` finds
what looks wrong, ``own_corpus`` converts it and writes the manifests, ``import_report`` tells about
it; ``recipe_file`` chooses splits and writes the recipe file, and ``advice`` says why and what to
expect.
"""
