"""Recognition: a model, a search and a tokenizer as one, for batches, streams and long recordings.

``config`` gathers the settings, ``token_sources`` and ``resources`` read what a search needs beside
the model. ``acoustic_model`` encodes (with ``padding``), ``recogniser`` turns batches into words,
``streaming`` speech as it comes, ``long_form`` recordings of any length; ``alignment`` finds the
times of a given transcript. ``exported_model`` reads exported files (with ``onnx_runtime``),
``file_recogniser`` recognises with them. ``decode_sets`` and ``decode_streams`` decode test sets
into files named by ``result_files``; ``best_average`` and ``method_sweep`` choose checkpoints and
decoding method on the dev set.
"""
