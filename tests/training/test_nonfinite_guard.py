"""Updates that are not finite are skipped and written down; too many go back, then stop."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.short import train
from zipasr.base.errors import NumericError
from zipasr.model.joiner import Joiner
from zipasr.training import nonfinite_guard as guard
from zipasr.training import update, worker
from zipasr.training.precision import Precision

FLAGS = "--rehearse 0 --save-every-n 2 --num-epochs 2 --base-lr 0.02 --max-duration 12"


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the loss of chosen batches NaN, counting every batch that is tried."""
    tried: list[int] = []
    real = update.compute_loss

    def install(bad: Any) -> list[int]:
        def compute_loss(*args: Any) -> Any:
            loss, metrics = real(*args)
            tried.append(len(tried))
            if bad(tried[-1]):
                loss = loss * math.nan
                metrics.sums["loss"] = math.nan
            return loss, metrics

        monkeypatch.setattr(update, "compute_loss", compute_loss)
        return tried

    return install


@pytest.mark.usefixtures("here")
def test_a_bad_batch_is_skipped_and_its_cuts_are_written_down(poison: Any, tmp_path: Path) -> None:
    poison(lambda n: n == 3)
    checkpoint = train(tmp_path, FLAGS)
    assert checkpoint["skipped_steps"] == 1
    assert checkpoint["rollbacks"] == 0
    (line,) = (tmp_path / "not-finite-0.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["batch"], entry["loss"]) == (4, "nan")
    assert entry["cuts"]
    assert all(value.isfinite().all() for value in checkpoint["model"].values())


@pytest.mark.usefixtures("here")
def test_inf_check_names_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Joiner.forward
    monkeypatch.setattr(Joiner, "forward", lambda *args, **kw: real(*args, **kw) * math.inf)
    monkeypatch.setattr(guard, "MAX_IN_A_ROW", 1)
    monkeypatch.setattr(guard, "MAX_ROLLBACKS", 0)
    monkeypatch.setattr(worker, "MAX_ROLLBACKS", 0)
    with pytest.raises(NumericError):
        train(tmp_path, f"{FLAGS} --inf-check 1 --ctc-only-batches 0")
    (log,) = (tmp_path / "log").iterdir()
    assert "not finite: output of joiner (Joiner)" in log.read_text()


@pytest.mark.usefixtures("here")
def test_a_small_gradient_scale_keeps_the_model_and_watches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, watched = Precision.step, []

    def step(self: Precision, optimizer: Any, batch_in_epoch: int) -> None:
        real(self, optimizer, batch_in_epoch)
        self.is_scale_small = batch_in_epoch >= 1

    monkeypatch.setattr(Precision, "step", step)
    monkeypatch.setattr(guard, "warn_of_non_finite", lambda model: watched.append(model) or [])
    train(tmp_path, FLAGS)
    assert len(watched) == 2  # once in each epoch
    kept = torch.load(tmp_path / "bad-model-first-warning-0.pt", weights_only=True)
    assert all(value.isfinite().all() for value in kept["model"].values())


@pytest.mark.usefixtures("here")
def test_bad_batches_in_a_row_go_back_with_a_lower_learning_rate(
    poison: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MAX_IN_A_ROW", 2)
    poison(lambda n: n in (3, 4))
    checkpoint = train(tmp_path, FLAGS)
    assert (checkpoint["rollbacks"], checkpoint["lr_factor"]) == (1, 0.7)
    assert checkpoint["skipped_steps"] == 2
    assert checkpoint["cur_epoch"] == 2


@pytest.mark.usefixtures("here")
def test_what_stays_bad_ends_with_a_page(
    poison: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MAX_IN_A_ROW", 2)
    tried = poison(lambda n: n >= 3)
    with pytest.raises(NumericError, match="going back 3 times did not help") as raised:
        train(tmp_path, FLAGS)
    assert raised.value.fix.startswith("--base-lr 0.014 in place of 0.02; the page has")
    page = (tmp_path / "not-finite.md").read_text()
    (losses,) = re.findall("Last losses: (.*)[.]\n", page)
    assert losses.split()[3:] == ["nan"] * 8
    assert all(math.isfinite(float(loss)) for loss in losses.split()[:3])
    assert re.search(r"Learning rate: \S+ in the last update; --base-lr 0.02,", page)
    assert "Precision: float32." in page
    assert "\n1. --base-lr 0.014 in place of 0.02\n2. --inf-check 1 names every module" in page
    cuts = guard.bad_cuts(tmp_path)
    assert f"3. listen to the {len(cuts)} cuts of not-finite-*.jsonl, put bad ones into" in page
    assert "First module that was not finite" in page
    assert "lowered to 0.00686" in page
    assert len(tried) < 30
    saved = torch.load(tmp_path / "checkpoint-2.pt", weights_only=True)
    assert all(value.isfinite().all() for value in saved["model"].values())
