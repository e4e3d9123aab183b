"""Type checkers see what the parts take and return; mypy alone is asked, nothing is run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from docs import __file__ as docs_file

ROOT = Path(docs_file).parents[1]

#: Lines with what mypy says of them: a type that is revealed, or the kind of an error.
PROGRAM = """
import torch
from zipasr.encoder import Zipformer, ZipformerConfig
from zipasr.encoder import Zipformr  # attr-defined
from zipasr.losses import rnnt_loss_smoothed
from zipasr.model import build_model
from zipasr.search import ctc_search, transducer_search
x = torch.zeros(1)
reveal_type(rnnt_loss_smoothed(x, x, x, 0))  # Tensor
loss = rnnt_loss_smoothed(x, x, x, 0, return_grad=True)
reveal_type(loss)  # tuple[Tensor, tuple[Tensor, Tensor]]
reveal_type(Zipformer.from_preset("small", causal=True, chunk_size=32))  # Zipformer
Zipformer.from_preset("smal")  # arg-type
reveal_type(build_model(preset="small", vocab_size=500, use_ctc=True))  # AsrModel
build_model(preset="small", vocab_size=500, use_ctcc=True)  # call-overload
build_model(preset="small")  # call-overload
model = build_model(ZipformerConfig(), vocab_size=3)
assert model.decoder is not None and model.joiner is not None
reveal_type(transducer_search(model.decoder, model.joiner, beam_size=4))  # Search[Any]
transducer_search(model.decoder, model.joiner, method="beam")  # arg-type
reveal_type(ctc_search(torch.nn.Linear(3, 4))(x, x))  # list[Utterance]
"""


def test_mypy_knows_arguments_and_results(tmp_path: Path) -> None:
    file = tmp_path / "uses_parts.py"
    file.write_text(PROGRAM, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", str(file)],
        cwd=ROOT,
        env={"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    said: dict[int, str] = {}
    for number, revealed, kind in re.findall(
        r'uses_parts\.py:(\d+): (?:note: Revealed type is "(.*)"|error: .*\[([\w-]+)\])$',
        done.stdout,
        re.M,
    ):
        said[int(number)] = re.sub(r"\w+\.", "", revealed) or kind
    expected = {
        number: line.partition("  # ")[2]
        for number, line in enumerate(PROGRAM.splitlines(), 1)
        if "  # " in line
    }
    assert said == expected, done.stdout + done.stderr
