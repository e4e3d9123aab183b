"""The best epoch is chosen among measurements that compare, and its file says which it was."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.training.short import train
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.encoder.protocol import USUAL_LOSSES
from zipasr.model.config import ModelConfig
from zipasr.training.best_epochs import link_best, measure_of, note_best
from zipasr.training.config import LossConfig, TrainConfig
from zipasr.training.state import TrainState

# Ten updates an epoch: CTC alone in the first two, then weights that change in the third.
LOSS = LossConfig(ctc_only_batches=20, warm_step=10)
UPDATES = 10


@pytest.fixture
def session(tmp_path: Path) -> Any:
    configs = SimpleNamespace(
        train=TrainConfig(exp_dir=tmp_path, num_epochs=6),
        loss=LOSS,
        model=ModelConfig(use_ctc=True),
        encoder=SimpleNamespace(losses=USUAL_LOSSES),
    )
    return SimpleNamespace(configs=configs, state=TrainState())


def end_epoch(session: Any, epoch: int) -> None:
    session.state.cur_epoch, session.state.batches_done = epoch, UPDATES
    session.state.batch_idx_train = epoch * UPDATES


def bests(session: Any, kind: str, values: list[float]) -> list[int]:
    """The best epoch after each epoch with these values."""
    found = []
    for epoch, value in enumerate(values, start=1):
        end_epoch(session, epoch)
        note_best(session, kind, value)  # type: ignore[arg-type]
        found.append(getattr(session.state, f"best_{kind}_epoch"))
    return found


def test_losses_of_other_weights_do_not_compare(session: Any) -> None:
    # The transducer joins after epoch 2 and costs more; its weights are final from update 30 on.
    assert bests(session, "valid", [0.5, 0.6, 3.0, 2.0, 2.5, 1.9]) == [1, 1, 3, 4, 4, 6]
    assert session.state.best_valid_loss == 1.9
    assert "pruned 1 " in session.state.best_measures["valid"]


def test_an_epoch_whose_weights_changed_compares_with_none(session: Any) -> None:
    assert bests(session, "train", [0.5, 0.4, 0.3, 2.0, 2.5, 1.9]) == [1, 2, 3, 4, 4, 6]
    end_epoch(session, 3)
    assert measure_of(session, "train") == "weights that changed in epoch 3"
    end_epoch(session, 4)
    four = measure_of(session, "train")
    end_epoch(session, 5)
    assert measure_of(session, "train") == four


def test_words_of_the_ctc_head_do_not_compare_with_those_of_the_transducer(session: Any) -> None:
    assert bests(session, "wer", [60.0, 40.0, 90.0, 95.0, 50.0, 50.0]) == [1, 2, 3, 3, 5, 5]


def test_a_loss_that_is_no_number_is_passed_over(session: Any) -> None:
    assert bests(session, "valid", [math.nan, 2.0, math.inf, math.nan]) == [-1, 2, 2, 2]
    note_best(session, "valid", None)


def test_a_change_of_weights_between_two_runs_counts(session: Any) -> None:
    end_epoch(session, 5)
    note_best(session, "valid", 1.0)
    session.configs.loss = replace(LOSS, ctc_loss_scale=0.4)
    end_epoch(session, 6)
    note_best(session, "valid", 1.3)
    assert session.state.best_valid_epoch == 6


def test_runs_of_earlier_versions_go_on_with_their_best(session: Any) -> None:
    session.state.best_valid_loss, session.state.best_valid_epoch = 0.9, 4
    end_epoch(session, 5)
    note_best(session, "valid", 1.0)
    assert session.state.best_valid_epoch == 4


def test_an_epoch_without_a_file_is_not_the_best(session: Any) -> None:
    session.configs.train = replace(session.configs.train, save_every_epochs=2)
    assert bests(session, "wer", [9.0, 8.0, 7.0, 8.0, 1.0, 9.0]) == [-1, 2, 2, 4, 4, 4]


def test_the_former_name_gives_way(session: Any, tmp_path: Path) -> None:
    for name in ("best-wer.pt", "epoch-4.pt"):
        (tmp_path / name).write_text(name)
    end_epoch(session, 4)
    link_best(session)
    assert (tmp_path / "best-wer.pt").is_file()
    note_best(session, "wer", 3.0)
    link_best(session)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-dev-wer.pt", "epoch-4.pt"]
    assert (tmp_path / "best-dev-wer.pt").read_text() == "epoch-4.pt"


@pytest.mark.usefixtures("here")
def test_a_run_saves_every_other_epoch_and_thins_them(tmp_path: Path) -> None:
    flags = "--num-epochs 5 --save-every-epochs 2 --keep-last-epochs 1 --save-every-n 100"
    last = train(tmp_path, f"{flags} --ctc-only-batches 3 --use-ctc 1 --valid-wer-cuts 2")
    # An average of one to four epochs begins with epoch 3 or 1.
    assert {path.name for path in tmp_path.glob("epoch-*")} == {
        "epoch-1.pt", "epoch-3.pt", "epoch-5.pt",
    }  # fmt: skip
    assert last["cur_epoch"] == 5
    assert last["best_valid_epoch"] in (3, 5)
    best = load_checkpoint(tmp_path / "best-valid-loss.pt")
    assert best["cur_epoch"] == last["best_valid_epoch"]
