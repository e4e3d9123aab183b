"""The weights that export.py passes on: those that have a part in recognition."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from tests import speaking_model
from tests.cli.conftest import Call
from tests.speaking_model import FIRST, HEADS
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.cli import decode, export
from zipasr.model.build import build_model


def test_heads_of_another_corpus_stay_behind(prepared: Path, tmp_path: Path, call: Call) -> None:
    folder = tmp_path / "run"
    shutil.copytree(prepared, folder)
    bpe = folder / "data" / "tones" / "lang_bpe" / "bpe.model"
    both = replace(HEADS, own_heads="giga")
    speaking_model.write_untrained(folder / "exp" / "both.pt", FIRST, bpe, both)
    before = load_checkpoint(folder / "exp" / "both.pt")
    # A file without its settings is told by its weights.
    torch.save({"model": before["model"]}, folder / "exp" / "plain.pt")
    with torch.device("meta"):
        names = build_model(FIRST, HEADS, before["vocab_size"]).state_dict().keys()
    for name, words in (("both", ()), ("plain", ("--bpe-model", str(bpe)))):
        choose = ("--checkpoint", f"exp/{name}.pt", *words)
        said = call(export.main, folder, *choose, "--jit", "1", "--format", "pretrained")
        assert said.status == 0, said.err
        out = folder / f"exp/export-{name}"
        after = load_checkpoint(out / "pretrained.pt")
        assert after["model"].keys() == names < before["model"].keys()
        assert all(torch.equal(after["model"][key], before["model"][key]) for key in names)
        module = torch.jit.load(out / "jit_script.pt")
        assert not any("giga" in key for key in module.state_dict())
        # As callers of published files name the arguments.
        two = {"features": torch.zeros(2, 50, 80), "feature_lengths": torch.tensor([50, 41])}
        frames, lens = module.encoder(**two)
        assert (frames.shape[:2], lens.tolist()) == ((2, 11), [11, 9])
        assert module.decoder(torch.tensor([[0, 3]]), need_pad=False).shape == (1, 1, 32)
        assert (module.decoder.context_size, module.decoder.blank_id) == (2, 0)
        back = ("--checkpoint", f"exp/export-{name}/pretrained.pt", "--num-workers", "0", *words)
        assert call(decode.main, folder, *back).status == 0
