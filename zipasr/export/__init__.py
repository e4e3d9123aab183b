"""A trained model as files for other programs, compared with the model before they get their names.

``graphs`` are the parts that are recorded, ``onnx_files`` and ``torchscript`` write them,
``onnx_runtime`` runs them, ``checks`` compares; ``folder`` puts everything together that
somebody needs who has never seen this project.
"""
