"""Phrases for the keyword spotter of sherpa-onnx, cut into the tokens of a model."""

from __future__ import annotations

import re
from pathlib import Path

from zipasr.base.errors import DataError, UserError
from zipasr.encoder.protocol import ExportLayout
from zipasr.exporting.config import ExportConfig
from zipasr.model.config import ModelConfig
from zipasr.text.phrases import phrases_of
from zipasr.text.text_io import read_lines
from zipasr.text.tokenizer import Tokenizer

_LINE = re.compile(r"\s*(?P<phrase>.*?)(?P<options>(?:\s+[:#@]\S+)*)\s*")
_NUMBER = re.compile(r"[:#]\d+(?:\.\d+)?")


def keywords_text(path: Path, tokenizer: Tokenizer) -> str:
    """Return a file of phrases as the spotter reads it: the pieces of one in each line.

    A line of the file is a phrase in the spelling of the transcripts. Behind it may stand what each
    of its tokens is raised by, the probability that it needs, and the name that is reported, as in
    ``HEY COMPUTER :2.0 #0.3 @HEY_COMPUTER``; without a name it is the phrase.

    Args:
        path: of the phrases.
        tokenizer: of the model.

    Raises:
        DataError: the file is missing or empty, a number is none, or the model cannot write a
            phrase.
    """
    source, pieces, lines = f"--keywords-file {path}", tokenizer.pieces(), []
    for number, line in enumerate(read_lines(path, source), start=1):
        found = _LINE.fullmatch(line)
        if found is None or not found["phrase"]:
            continue
        phrase, options = " ".join(found["phrase"].split()), found["options"].split()
        for option in options:
            if option[0] != "@" and not _NUMBER.fullmatch(option):
                raise DataError(f"{source}:{number}: {option[1:]!r} is not a number.")
        if not any(option[0] == "@" for option in options):
            options.append(f"@{phrase.replace(' ', '_')}")
        ((tokens,), _) = phrases_of([phrase], f"{source}:{number}", tokenizer)
        lines.append(" ".join([*(pieces[token] for token in tokens), *options]))
    if not lines:
        raise DataError(f"{source} has no phrase.", "write one phrase per line.")
    return "\n".join(lines) + "\n"


def keywords_of(
    export: ExportConfig, layout: ExportLayout, heads: ModelConfig, tokenizer: Tokenizer | None
) -> str:
    """Return what ``--keywords-file`` names, see ``keywords_text``; empty without.

    Raises:
        UserError: sherpa-onnx spots no keywords with the files of the model.
        DataError: the file is missing, or the model cannot write a phrase.
    """
    if export.keywords_file is None:
        return ""
    is_spotted = layout.is_streaming and layout.has_client and heads.use_transducer
    if not is_spotted or "onnx" not in export.formats or export.shape.client_limits():
        raise UserError(
            "--keywords-file: sherpa-onnx spots keywords with the ONNX files of a transducer for "
            "speech as it comes.",
            "export a causal model with --chunk-size and --left-context-frames.",
        )
    if tokenizer is None:
        raise UserError(
            "--keywords-file: a table does not say how phrases are cut into tokens.",
            "add --bpe-model, the tokenizer of the model.",
        )
    return keywords_text(export.keywords_file, tokenizer)
