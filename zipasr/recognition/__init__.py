"""Recognition: a model, a search and a tokenizer as one, for batches, streams and long recordings.

``speech_model`` is what programs use: a model that transcribes, aligns and streams
(``speech_stream``), with results as in ``transcription``. Two kinds there are, ``torch_model`` and
``sherpa_model``. Recordings of any length are cut, batched and joined in ``long_form``.

``config`` gathers the settings, ``token_sources`` and ``resources`` read what a search needs beside
the model. ``acoustic_model`` encodes, ``recogniser`` turns batches into words, ``streaming`` speech
as it comes, whose utterances end and are shown as in ``stream_results``; ``calibration_file`` keeps
the calibrations of a run; ``alignment`` finds times, of what was recognised and of a given
transcript, ``word_bounds`` where words begin and end. ``exported_files`` and ``exported_model``
find and read exported files (with ``onnx_runtime``), ``export_check`` whether they are those of one
export; ``exported_recogniser`` recognises with them. ``decode_sets`` and ``decode_streams`` decode
test sets into files named by ``result_names``; ``best_average`` and ``method_sweep`` choose
checkpoints and decoding method on the dev set.
"""
