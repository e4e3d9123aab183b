"""Encoder, prediction network and joiner, put together into one model with its losses.

``build`` makes an ``AsrModel`` (``transducer``) from two configurations. Its attribute
names are those of published checkpoints. Search uses its parts: ``encode`` and
``ctc_log_probs``, the ``decoder`` (which sees the last few tokens) and the ``joiner``, the
``attention_decoder`` (which sees all frames and all tokens before); training calls the model
and receives sums of losses.
"""
