"""A trained model as files for other programs, compared with the model before they get their names.

``exporters`` writes all files of a format: ``graphs`` are the recorded parts, ``onnx_files`` and
``torchscript`` write them, with names and metadata of the encoder's ``ExportLayout``; ``parity``
compares. ``folder_files`` adds tokens, settings and a README, with the commands and keywords of
``clients``, and the page ``onnxruntime_client``, which runs without this package. ``config``:
settings.
"""
