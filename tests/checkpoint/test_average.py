import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from zipasr.base.config import from_dict, to_dict
from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.averaging import (
    average_window,
    last_file,
    mean_of,
    read_chosen,
    start_average,
    update_average,
)
from zipasr.checkpoint.checkpoint_file import save_checkpoint
from zipasr.checkpoint.config import ChooseCheckpoint

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "checkpoint" / "averaging.json").read_text()
)
PERIOD = GOLDEN["average_period"]


class Tiny(nn.Module):
    """A weight, the same weight under a second name, and an integer."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3, 2))
        self.tied = self.w
        self.register_buffer("count", torch.tensor(0))

    def set(self, weight: Tensor, count: int) -> None:
        self.w.data.copy_(weight)
        self.count.fill_(count)


def golden_checkpoints() -> dict[int, dict[str, Any]]:
    """Run the recorded averaging again; what a checkpoint at each multiple of P would hold."""
    model = Tiny()
    average = start_average(model.state_dict())
    checkpoints = {}
    for row in GOLDEN["trace"]:
        batch = row["batch_idx_train"]
        model.set(torch.tensor(row["w"]), row["count"])
        update_average(average, model, PERIOD / batch)
        want = torch.tensor(row["avg_w"], dtype=torch.float64)
        torch.testing.assert_close(average["w"], want, rtol=0, atol=1e-6)
        assert int(average["count"]) == row["avg_count"]
        checkpoints[batch] = {
            "model": {key: value.clone() for key, value in model.state_dict().items()},
            "model_avg": {key: value.clone() for key, value in average.items()},
            "average_period": PERIOD,
        }
    return checkpoints


def test_running_average_equals_the_reference() -> None:
    assert len(golden_checkpoints()) == 10


@pytest.mark.parametrize("stored", [torch.float64, torch.float32])
def test_window_equals_the_reference(stored: torch.dtype) -> None:
    checkpoints = golden_checkpoints()

    def at(batch: int) -> dict[str, Any]:
        found = checkpoints[batch // PERIOD * PERIOD]
        average = {
            key: value.to(stored) if value.is_floating_point() else value
            for key, value in found["model_avg"].items()
        }
        return {**found, "model_avg": average, "batch_idx_train": batch}

    for want in GOLDEN["between_checkpoints"]:
        start, end = at(want["start_batch_idx_train"]), at(want["end_batch_idx_train"])
        found = average_window(start, end)
        for key in ("w", "tied"):
            assert found[key].dtype == torch.float32
            torch.testing.assert_close(found[key], torch.tensor(want[key]), rtol=0, atol=1e-6)
        assert int(found["count"]) == want["count"]


def test_plain_mean_equals_the_reference() -> None:
    checkpoints = golden_checkpoints()
    found = mean_of(checkpoints[batch]["model"] for batch in (600, 1400, 2000))
    want = GOLDEN["plain_average_of_637_1437_2037"]
    torch.testing.assert_close(found["w"], torch.tensor(want["w"]), rtol=0, atol=1e-6)
    assert int(found["count"]) == want["count"]
    assert found["w"].dtype == torch.float32
    assert found["count"].dtype == torch.int64


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_window_is_the_arithmetic_mean_of_the_models_in_it(data: st.DataObject) -> None:
    period = data.draw(st.integers(1, 50))
    num_models = data.draw(st.integers(2, 12))
    first = data.draw(st.integers(0, num_models - 2))
    last = data.draw(st.integers(first + 1, num_models))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    weights = [torch.randn(3, 2, generator=generator) for _ in range(num_models)]
    model = Tiny()
    average = start_average(model.state_dict())
    checkpoints = {0: {key: value.clone() for key, value in average.items()}}
    for n, weight in enumerate(weights, start=1):
        model.set(weight, n)
        update_average(average, model, period / (n * period))
        checkpoints[n] = {key: value.clone() for key, value in average.items()}

    def at(n: int) -> dict[str, Any]:
        batch = n * period + data.draw(st.integers(0, period - 1))
        state = model.state_dict()
        rest = {"model": state, "average_period": period}
        return {"model_avg": checkpoints[n], "batch_idx_train": batch, **rest}

    found = average_window(at(first), at(last))["w"]
    want = torch.stack(weights[first:last]).double().mean(dim=0).float()
    torch.testing.assert_close(found, want, rtol=1e-6, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    before=st.integers(1, 40),
    after=st.integers(1, 40),
    change=st.integers(0, 60),
    end=st.integers(61, 200),
)
def test_a_window_over_a_change_of_the_period_is_the_mean_of_the_models_in_it(
    before: int, after: int, change: int, end: int
) -> None:
    """The weight of the model at batch B is B; the period changes after batch ``change``."""
    model = Tiny()
    average, count, models = start_average(model.state_dict()), 0, []
    checkpoints: dict[int, dict[str, Any]] = {}
    for batch in range(end + 1):
        period = before if batch <= change else after
        if batch and batch % period == 0:
            model.set(torch.full((3, 2), float(batch)), batch)
            models.append(batch)
            count += 1
            update_average(average, model, 1 / count)
        checkpoints[batch] = {
            "model": model.state_dict(),
            "model_avg": {key: value.clone() for key, value in average.items()},
            "batch_idx_train": batch,
            "average_period": period,
            "models_averaged": count,
        }
    for start in (0, change // 2, change, (change + end) // 2):
        inside = [batch for batch in models if batch > start]
        if not inside:
            with pytest.raises(CheckpointError, match="no model to average between"):
                average_window(checkpoints[start], checkpoints[end])
            continue
        found = average_window(checkpoints[start], checkpoints[end])
        assert float(found["w"][0, 0]) == pytest.approx(sum(inside) / len(inside), rel=1e-6)


def test_average_of_thousands_of_models_does_not_drift() -> None:
    model = Tiny()
    average = start_average(model.state_dict())
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(3, 2, dtype=torch.float64)
    for n in range(1, 2001):
        weight = 5.0 + torch.randn(3, 2, generator=generator)
        total += weight
        model.set(weight, n)
        update_average(average, model, 1 / n)
    torch.testing.assert_close(average["w"], total / 2000, rtol=1e-12, atol=0)


def test_average_is_a_copy_in_float64() -> None:
    model = Tiny().double()
    average = start_average(model.state_dict())
    model.set(torch.ones(3, 2), 4)
    assert average["w"].dtype == torch.float64
    assert float(average["w"].sum()) == 0.0
    assert int(average["count"]) == 0


def test_average_of_another_model_is_refused() -> None:
    average = start_average(nn.Linear(2, 2).state_dict())
    with pytest.raises(CheckpointError, match="differ in 5 keys"):
        update_average(average, Tiny(), 0.5)
    with pytest.raises(CheckpointError, match="differ in"):
        mean_of([Tiny().state_dict(), nn.Linear(2, 2).state_dict()])
    with pytest.raises(ValueError, match="at least one"):
        mean_of([])


# --- read_chosen: epoch e has weights e and a running average over epochs 1 .. e


def write_epoch(folder: Path, number: int, name: str = "epoch", prefix: str = "") -> None:
    mean = (1 + number) / 2
    save_checkpoint(
        folder / f"{name}-{number}.pt",
        {
            "model": {f"{prefix}w": torch.full((2,), float(number)), f"{prefix}n": torch.tensor(3)},
            "model_avg": {"w": torch.full((2,), mean), "n": torch.tensor(number)},
            "batch_idx_train": 200 * number + 50,
            "average_period": 200,
        },
    )


@pytest.fixture
def exp_dir(tmp_path: Path) -> Path:
    for number in range(1, 6):
        write_epoch(tmp_path, number, prefix="module." if number % 2 else "")
        write_epoch(tmp_path, 10 * number, "checkpoint")
    return tmp_path


@pytest.mark.parametrize(
    ("choice", "want", "last"),
    [
        ({"epoch": 5, "avg": 1, "use_averaged_model": False}, 5.0, "epoch-5.pt"),
        ({"epoch": 5, "avg": 3, "use_averaged_model": False}, 4.0, "epoch-5.pt"),
        ({"epoch": 3, "avg": 9, "use_averaged_model": False}, 2.0, "epoch-3.pt"),
        ({"iter": 45, "avg": 2, "use_averaged_model": False}, 35.0, "checkpoint-40.pt"),
        ({"epoch": 5, "avg": 4}, 3.5, "epoch-5.pt"),
        ({"epoch": 4, "avg": 1}, 4.0, "epoch-4.pt"),
        ({"iter": 50, "avg": 2}, (31 + 50) / 2, "checkpoint-50.pt"),
        ({"iter": 49, "avg": 3}, (11 + 40) / 2, "checkpoint-40.pt"),
    ],
)
def test_choice_of_checkpoints(
    exp_dir: Path, choice: dict[str, Any], want: float, last: str
) -> None:
    choose = ChooseCheckpoint(**choice)
    found = read_chosen(exp_dir, choose).weights
    assert set(found) == {"w", "n"}
    torch.testing.assert_close(found["w"], torch.full((2,), want))
    assert last_file(exp_dir, choose).name == last


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"epoch": 1, "avg": 1}, "--epoch 1 --avg 1 needs a checkpoint before the first epoch"),
        ({"epoch": 7, "avg": 2}, r"epoch-7\.pt does not exist; .* has epoch-1\.pt"),
        ({"epoch": 7, "avg": 1, "use_averaged_model": False}, r"epoch-7\.pt does not exist"),
        ({"iter": 30, "avg": 3}, "4 checkpoints up to --iter 30 are needed, .* checkpoint-30"),
        ({"iter": 30, "avg": 4, "use_averaged_model": False}, "4 checkpoints up to --iter 30"),
        ({"iter": 5, "avg": 1}, "has none"),
    ],
)
def test_what_cannot_be_averaged_is_explained(
    exp_dir: Path, choice: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message) as info:
        read_chosen(exp_dir, ChooseCheckpoint(**choice))
    assert "Fix: " in str(info.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_avg": None}, "has no entry 'model_avg'"),
        ({"average_period": 100}, "period changed from 200 to 100"),
        ({"batch_idx_train": 399}, "no model to average between batches 200 and 200"),
        ({"model_avg": {"other": torch.ones(2)}}, "differ in 3 keys"),
    ],
)
def test_checkpoints_that_do_not_fit_together(change: dict[str, Any], message: str) -> None:
    average = {"w": torch.ones(2), "n": torch.tensor(1)}
    start = {"model": average, "model_avg": average, "batch_idx_train": 200, "average_period": 200}
    end = {**start, "batch_idx_train": 600, **change}
    with pytest.raises(CheckpointError, match=message):
        average_window(start, end)


def test_one_file_stands_alone(exp_dir: Path) -> None:
    path = exp_dir / "pretrained.pt"
    torch.save({"module.w": torch.ones(2)}, path)
    found = read_chosen(exp_dir, ChooseCheckpoint(checkpoint=path, epoch=99))
    assert found.path == path
    assert list(found.weights) == ["w"]


@pytest.mark.parametrize("choice", [{"avg": 1}, {"avg": 2}])
def test_a_file_without_weights_is_named(choice: dict[str, int], exp_dir: Path) -> None:
    torch.save({"optimizer": {}, "scheduler": {"batch": 1}}, exp_dir / "epoch-5.pt")
    choose = ChooseCheckpoint(epoch=5, use_averaged_model=False, **choice)
    with pytest.raises(CheckpointError, match=r"epoch-5.pt has no entry 'model'.* 'optimizer', "):
        read_chosen(exp_dir, choose)


def test_config_checks_itself_and_survives_json() -> None:
    config = ChooseCheckpoint()
    assert config.epoch is None
    assert (config.iter, config.avg, config.use_averaged_model) == (0, 15, True)
    assert from_dict(ChooseCheckpoint, json.loads(json.dumps(to_dict(config)))) == config
    for bad in ({"epoch": 0}, {"iter": -1}, {"avg": 0}):
        with pytest.raises(ValueError, match="--" + next(iter(bad))):
            ChooseCheckpoint(**bad)
