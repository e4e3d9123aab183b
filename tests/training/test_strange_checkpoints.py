"""Checkpoints with entries of another kind than they should be: one line, never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.short import new_session
from zipasr.base.errors import CheckpointError, ResourceError
from zipasr.checkpoint.averaging import LoadedWeights
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.checkpoint.model_file import stored_model, stored_tokenizer
from zipasr.checkpoint.weights import model_state
from zipasr.training.worker import restore

STRANGE: tuple[Any, ...] = (None, 5, -1.5, "x", [], [[]], {}, {"a": 1}, torch.zeros(3))


def variants(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The same with each entry replaced, and those of dictionaries inside, two levels deep."""
    found = []
    for name, value in content.items():
        found += [content | {name: strange} for strange in STRANGE]
        if isinstance(value, dict) and name not in ("model", "model_avg", "env_info"):
            for inner in list(value)[:12]:
                found += [content | {name: {**value, inner: strange}} for strange in STRANGE]
    return found


def refusal_of(work: Callable[..., object], *arguments: object) -> str:
    """Return what a call is refused with; empty if it is not."""
    try:
        work(*arguments)
    except CheckpointError as problem:
        return str(problem)
    return ""


def test_what_cannot_be_taken_over_is_one_line(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_folder)
    path = Path("exp/epoch-2.pt")
    session = new_session()
    variety = variants(load_checkpoint(path))
    said = [refusal_of(restore, session, path, content) for content in variety]
    assert len([line for line in said if line]) > 50
    assert not [line for line in said if "\n" in line]


def test_what_cannot_be_decoded_with_is_one_line(run_folder: Path) -> None:
    path = run_folder / "exp" / "epoch-2.pt"

    def build(content: dict[str, Any]) -> None:
        weights = model_state(content, str(path))
        stored_model(LoadedWeights(path, content, weights), {}).build()
        if content.get("tokenizer") is not None:
            stored_tokenizer(content)

    said = [refusal_of(build, content) for content in variants(load_checkpoint(path))]
    assert len([line for line in said if line]) > 20
    assert not [line for line in said if "\n" in line]


def test_a_model_that_no_machine_holds_is_refused(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_folder)
    for width, said in ((400_000, "parameters; with gradients"), (2 * 10**10, "any memory")):
        with pytest.raises(ResourceError, match=said):
            new_session(f"--encoder-dim {width},{width} --encoder-unmasked-dim 24,32")
