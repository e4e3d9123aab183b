"""Encoder, prediction network and joiner, put together into one model with its losses.

``build`` makes the ``AsrModel`` of ``transducer`` from an encoder's configuration and ``config``;
``decoder``, ``joiner`` and ``attention_decoder`` are its heads; ``inputs`` checks and pads a batch;
``infer_config`` reads a configuration off the weights. Attribute names are those of published
checkpoints.
"""
