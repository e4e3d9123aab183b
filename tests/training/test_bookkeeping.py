"""State, metrics, precision rules and the settings of a run."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.amp.grad_scaler import GradScaler

from zipasr.base.errors import NumericError, UserError
from zipasr.optim.scaled_adam import ScaledAdam
from zipasr.training.config import TrainConfig
from zipasr.training.metrics import Metrics
from zipasr.training.precision import Precision, choose_dtype, doubles_scale
from zipasr.training.state import TrainState

CPU = torch.device("cpu")


def test_metrics_divide_by_frames() -> None:
    metrics = Metrics(10.0, loss=5.0)
    metrics.add(Metrics(10.0, loss=15.0, ctc_loss=2.0))
    assert metrics.per_frame() == {"ctc_loss": 0.1, "loss": 1.0}
    assert str(metrics) == "ctc_loss 0.1, loss 1"
    assert Metrics().per_frame() == {}


def test_metrics_decay_and_leave_out_what_is_not_finite() -> None:
    metrics = Metrics(100.0, loss=100.0)
    metrics.add(Metrics(10.0, loss=math.nan), decay=0.5)
    assert (metrics.frames, metrics.sums["loss"]) == (60.0, 50.0)


@given(st.dictionaries(st.sampled_from("abc"), st.floats(-1e9, 1e9)), st.floats(0, 1e9))
def test_metrics_survive_the_way_through_a_tensor(sums: dict[str, float], frames: float) -> None:
    names = ["a", "b", "c"]
    back = Metrics.from_tensor(Metrics(frames, **sums).as_tensor(names, CPU), names)
    assert back.frames == frames
    assert back.sums == {name: sums.get(name, 0.0) for name in names}


def test_state_goes_through_a_checkpoint_and_ignores_what_is_not_its_own() -> None:
    state = TrainState(cur_epoch=3, batches_done=7, batch_idx_train=40, schedule_count=12.5)
    assert TrainState.from_checkpoint(state.state_dict() | {"model": {}}) == state
    assert TrainState.from_checkpoint({"batch_idx_train": 9}).batch_idx_train == 9


def test_an_epoch_in_progress_keeps_its_position_and_a_new_one_starts_at_zero() -> None:
    state = TrainState(cur_epoch=3, batches_done=7)
    state.start_epoch(3)
    assert state.batches_done == 7
    state.start_epoch(4)
    assert (state.cur_epoch, state.batches_done) == (4, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"use_fp16": True, "use_bf16": True}, "exclude each other"),
        ({"num_epochs": 0}, "--num-epochs must be at least 1"),
        ({"ref_duration": 0.0}, "--ref-duration must be positive"),
        ({"start_batch": -1}, "--start-batch"),
    ],
)
def test_impossible_runs_are_refused(values: dict[str, bool], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scale", "batch", "expected"),
    [(1.0, 25, True), (3.0, 25, False), (3.0, 100, True), (20.0, 400, True), (32.0, 400, False)],
)
def test_the_gradient_scale_is_doubled_while_it_is_small(
    scale: float, batch: int, expected: bool
) -> None:
    assert doubles_scale(scale, batch) is expected


def test_float16_needs_a_gpu() -> None:
    with pytest.raises(UserError, match="needs a GPU"):
        choose_dtype(TrainConfig(use_fp16=True), CPU)


def test_bfloat16_is_used_only_where_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(use_bf16=True)
    for capable, dtype in [(True, torch.bfloat16), (False, torch.float32)]:
        capabilities = {"avx512_bf16": capable}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda c=capabilities: c, raising=False)
        assert choose_dtype(config, CPU) is dtype
        with Precision(config, CPU).autocast():
            product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert product.dtype is dtype


@pytest.mark.parametrize("capable", [True, False])
def test_bfloat16_is_the_default_of_a_gpu_that_has_it(
    capable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: capable)
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"avx512_bf16": capable}, raising=False
    )
    gpu, bfloat16 = torch.device("cuda"), torch.bfloat16 if capable else torch.float32
    assert choose_dtype(TrainConfig(), gpu) is bfloat16
    assert choose_dtype(TrainConfig(use_bf16=True), gpu) is bfloat16
    assert choose_dtype(TrainConfig(use_bf16=False), gpu) is torch.float32
    assert choose_dtype(TrainConfig(use_fp16=True), gpu) is torch.float16
    assert choose_dtype(TrainConfig(use_fp16=True, use_bf16=False), gpu) is torch.float16
    assert choose_dtype(TrainConfig(), CPU) is torch.float32


class FakeScaler:
    """A gradient scale that is set by hand; a step overflows when it is told so."""

    def __init__(self, scale: float) -> None:
        self.scale_now = scale
        self.overflows = False
        self.calls: list[str] = []

    def step(self, optimizer: Any) -> None:
        self.calls.append("skip" if self.overflows else "step")

    def update(self, new_scale: float | None = None) -> None:
        self.calls.append("update")
        if new_scale is not None:
            self.scale_now = new_scale
        elif self.overflows:
            self.scale_now *= 0.5

    def get_scale(self) -> float:
        return self.scale_now

    def is_enabled(self) -> bool:
        return True


def with_scale(scale: float) -> tuple[Precision, FakeScaler]:
    precision, scaler = Precision(TrainConfig(), CPU), FakeScaler(scale)
    precision.scaler = scaler  # type: ignore[assignment]
    return precision, scaler


def test_the_gradient_scale_follows_the_published_rules() -> None:
    precision, scaler = with_scale(1.0)
    scales = {}
    for batch in range(801):
        precision.step(None, batch)  # type: ignore[arg-type]
        scales[batch] = scaler.scale_now
    doubled = [b for b in range(1, 801) if scales[b] != scales[b - 1]]
    assert scales[0] == 2.0  # batch 0 is a multiple of all periods
    assert doubled == [100, 200, 400, 800]
    assert [scales[b] for b in doubled] == [4.0, 8.0, 16.0, 32.0]


def test_after_each_batch_a_small_gradient_scale_is_told(caplog: pytest.LogCaptureFixture) -> None:
    precision, scaler = with_scale(0.011)
    precision.step(None, 7)  # type: ignore[arg-type]
    assert not precision.is_scale_small
    assert not caplog.text
    scaler.overflows = True
    precision.step(None, 8)  # type: ignore[arg-type]
    assert precision.is_scale_small
    assert "the gradient scale is small: 5.5e-03" in caplog.text
    assert scaler.calls == ["step", "update", "skip", "update"]


def test_a_vanishing_gradient_scale_ends_the_run() -> None:
    precision, scaler = with_scale(1.9e-5)
    scaler.overflows = True
    with pytest.raises(NumericError, match=r"fell to 9.5e-06.*0.005 down to 0.02"):
        precision.step(None, 3)  # type: ignore[arg-type]


def test_the_real_scaler_skips_an_overflow_without_counting_an_update() -> None:
    param = torch.nn.Parameter(torch.ones(3))
    optimizer = ScaledAdam([param], lr=0.1)
    precision = Precision(TrainConfig(), CPU)
    precision.scaler = GradScaler("cpu", init_scale=1.0)
    for gradient, steps, scale in ((1.0, 1, 1.0), (torch.inf, 1, 0.5), (1.0, 2, 0.5)):
        precision.backward((param * gradient).sum())
        precision.step(optimizer, 1)
        optimizer.zero_grad()
        assert optimizer.state[param]["step"] == steps
        assert precision.scaler.get_scale() == scale
    assert optimizer.num_skipped == 0
