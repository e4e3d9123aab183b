"""--tokens of export.py and average.py, and the sizes that average.py compares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests import speaking_model
from tests.cli.conftest import Call
from tests.speaking_model import HEADS, SECOND
from zipasr.checkpoint.checkpoint_file import load_checkpoint, save_checkpoint
from zipasr.cli import average, export
from zipasr.text.tokenizer import Tokenizer

WRITE = ("--format", "pretrained", "--output-dir", "out")
MEAN = ("--epoch", "1", "--avg", "1", "--use-averaged-model", "0")


@pytest.fixture
def folder(workdir: Path) -> Path:
    """A prepared corpus with a model of its tokens, and the same as a published file."""
    model = workdir / "exp" / "epoch-1.pt"
    speaking_model.write_untrained(model, SECOND, workdir / "data/tones/lang_bpe/bpe.model", HEADS)
    torch.save({"model": load_checkpoint(model)["model"]}, workdir / "exp" / "plain.pt")
    written = (workdir / "data/tones/lang_bpe/tokens.txt").read_text().splitlines()
    lines = [line for line in written if not line.startswith("#")]
    assert f"#0 {len(lines)}" in written
    tables = {"right": lines, "symbols": written, "short": lines[:-1]}
    tables["other"] = [*lines[:5], "ZZ 5", *lines[6:]]
    for name, table in tables.items():
        (workdir / f"{name}.txt").write_text("".join(f"{line}\n" for line in table))
    return workdir


def write_average(folder: Path, call: Call, *words: str) -> tuple[int, str]:
    said = call(average.main, folder, *MEAN, *words)
    return said.status, said.err


def write_export(folder: Path, call: Call, *words: str) -> tuple[int, str]:
    said = call(export.main, folder, *MEAN, *WRITE, *words)
    return said.status, said.err


@pytest.mark.parametrize("write", [write_average, write_export])
def test_the_table_is_compared_with_the_tokens_in_the_checkpoint(
    write: Callable[..., tuple[int, str]], folder: Path, call: Call
) -> None:
    pieces = Tokenizer.from_file(folder / "data/tones/lang_bpe/bpe.model").pieces()
    for name in ("right", "symbols"):
        assert write(folder, call, "--tokens", f"{name}.txt") == (0, "")
    status, error = write(folder, call, "--tokens", "other.txt")
    assert status == 4
    assert f"--tokens other.txt is not the table of exp/epoch-1.pt: id 5 is 'ZZ', not {pieces[5]!r}"
    assert f"id 5 is 'ZZ', not {pieces[5]!r}. Fix: leave --tokens out" in error
    status, error = write(folder, call, "--tokens", "short.txt")
    assert status == 4
    assert f"it has {len(pieces) - 1} tokens, not {len(pieces)}" in error
    status, error = write(folder, call, "--tokens", "nosuch.txt")
    assert status == 3
    assert error.startswith("error: there is no --tokens nosuch.txt. Fix: ")
    assert len(error.splitlines()) == 1


def test_the_table_takes_the_place_of_a_tokenizer_that_is_not_there(
    folder: Path, call: Call
) -> None:
    plain = ("--checkpoint", "exp/plain.pt", *WRITE)
    out, right = folder / "out", (folder / "right.txt").read_text()
    bpe = folder / "data/tones/lang_bpe/bpe.model"
    assert call(export.main, folder, *plain, "--tokens", "symbols.txt").status == 0
    # The recipe's tokenizer has the same tokens.
    assert (out / "bpe.model").read_bytes() == bpe.read_bytes()
    bpe.unlink()
    assert call(export.main, folder, *plain).status == 3
    assert call(export.main, folder, *plain, "--tokens", "symbols.txt").status == 0
    assert (out / "tokens.txt").read_text() == right
    assert not (out / "bpe.model").exists()
    assert not (out / "bpe.vocab").exists()
    said = call(export.main, folder, *plain, "--tokens", "short.txt")
    assert said.status == 4
    assert "exp/plain.pt has a vocabulary of" in said.err
    lm = ("--lm-exp-dir", "lm", "--format", "pretrained,onnx")
    said = call(export.main, folder, *plain, "--tokens", "right.txt", *lm)
    assert said.status == 2
    assert "add --bpe-model, the tokenizer of the model" in said.err


def test_a_tokenizer_that_is_typed_must_have_the_tokens_of_the_table(
    folder: Path, call: Call
) -> None:
    plain = ("--checkpoint", "exp/plain.pt", *WRITE, "--tokens", "other.txt")
    # That of the recipe is of another model: the table counts.
    assert call(export.main, folder, *plain).status == 0
    assert "ZZ 5\n" in (folder / "out/tokens.txt").read_text()
    (folder / "bpe.model").write_bytes((folder / "data/tones/lang_bpe/bpe.model").read_bytes())
    said = call(export.main, folder, *plain, "--bpe-model", "bpe.model")
    assert said.status == 4
    assert "--bpe-model bpe.model has other tokens than --tokens other.txt: id 5 is" in said.err


def test_an_average_compares_the_sizes_that_are_typed(folder: Path, call: Call) -> None:
    for words in (("--context-size", "2"), ("--encoder-dim", "32,40", "--use-ctc", "1")):
        assert write_average(folder, call, *words) == (0, "")
    status, error = write_average(folder, call, "--context-size", "1")
    assert status == 4
    assert "--context-size 1 was asked for, but exp/epoch-1.pt was trained with 2" in error
    written = folder / "exp" / "epoch-1-avg-1.pt"
    before = load_checkpoint(folder / "exp" / "epoch-1.pt")["model"]
    after = load_checkpoint(written)["model"]
    assert all(torch.equal(after[name], before[name]) for name in before)
    # A published file tells its sizes by its weights.
    save_checkpoint(folder / "exp" / "epoch-1.pt", {"model": before})
    words = ("--context-size", "2", "--tokens", "right.txt", "--encoder-unmasked-dim", "24,32")
    assert write_average(folder, call, *words) == (0, "")
    assert write_average(folder, call, *words, "--tokens", "short.txt")[0] == 4
