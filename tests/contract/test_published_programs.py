"""The page about published programs names them all, with commands that can be typed."""

from __future__ import annotations

import re
import shlex

import pytest

from tests import tones
from tests.contract.test_readme import COMMANDS
from zipasr.base.recipe import NO_RECIPE
from zipasr.cli.flags import read_words, resolve

PAGE = (tones.ROOT / "docs" / "published_programs.md").read_text(encoding="utf-8")
PROGRAMS = """
zipformer/train.py zipformer/finetune.py decode.py ctc_decode.py streaming_decode.py
zipformer/generate_averaged_model.py pruned_transducer_stateless7*/train.py
pruned_transducer_stateless7/finetune.py pruned_transducer_stateless8/train.py
export.py export-onnx.py export-onnx-streaming.py export-onnx-ctc.py export-onnx-streaming-ctc.py
export-streaming-as-non-streaming-onnx.py onnx_check.py onnx_decode.py
pretrained.py pretrained_ctc.py jit_pretrained.py jit_pretrained_ctc.py jit_pretrained_streaming.py
onnx_pretrained.py onnx_pretrained-streaming.py onnx_pretrained_ctc.py
onnx_pretrained-streaming-ctc.py rnn_lm/train.py transformer_lm/train.py
"""
VALUES = {"METHOD": "greedy_search", "CHECKPOINT": ""}
TYPED = [one for one in re.findall(r"`(?:\./)(\w+\.py [^`]+)`", PAGE) if one.split()[1] != "..."]


@pytest.mark.parametrize("program", PROGRAMS.split())
def test_every_program_is_named(program: str) -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    names = {name.split(" ")[0] for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert program in names


@pytest.mark.parametrize("line", TYPED)
def test_what_the_tables_show_can_be_typed(line: str) -> None:
    name, *words = shlex.split(" ".join(VALUES.get(word, word) for word in line.split()))
    command = COMMANDS[name]
    resolve(command, read_words(command, words), NO_RECIPE, [command])
