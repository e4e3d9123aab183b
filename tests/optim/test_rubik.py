import copy
import io
import logging
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.optim.plain_rubik import PlainRubik
from tests.optim.rubik_golden import (
    EXPECTED,
    INPUTS,
    META,
    NAMES,
    SCENARIOS,
    Run,
    gradient,
    initial,
    relative_error,
)
from zipasr.base.errors import CheckpointError, UserError
from zipasr.optim import rubik, rubik_rules
from zipasr.optim.rubik import BatchedRubik
from zipasr.optim.scaled_adam import ScaledAdam

# Of parameters and of state, relative to the largest value. Where bfloat16 runs for long, the last
# bit of one product makes the difference, and of that the running mean squares show most.
TOLERANCES = {
    "f32": (2e-5, 2e-5),
    "bf16": (1e-5, 1e-5),
    "f32_lr05": (3e-4, 3e-4),
    "f32_options": (1e-3, 2e-2),  # state: 8e-3 without vector instructions
    "f32_groups": (2e-5, 2e-5),
    "f32_stop": (2e-4, 5e-4),
    "bf16_stop": (2e-2, 2e-2),
    "f32_long": (4e-4, 4e-4),
    "bf16_long": (3e-2, 6e-2),
}
MIXED = [(6, 4), (3,), (4, 6), (6, 4), (), (2, 3, 3), (1, 1), (3,), (5, 5), (1, 7), (6, 4)]


def random_parameters(
    shapes: list[tuple[int, ...]], dtype: torch.dtype = torch.float64, seed: int = 1
) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [
        nn.Parameter((0.1 * torch.randn(shape, generator=generator)).to(dtype)) for shape in shapes
    ]


def random_gradient(param: Tensor, index: int, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(1000 * step + index)
    return torch.randn(param.shape, generator=generator).to(param.dtype)


def train(optimizer: BatchedRubik, params: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        for index, param in enumerate(params):
            param.grad = random_gradient(param, index, step)
        optimizer.step()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_trajectory_and_state_equal_the_reference(scenario: str) -> None:
    run = Run(scenario)
    of_params, of_state = TOLERANCES[scenario]
    for step in SCENARIOS[scenario]["recorded_after"]:
        while run.step < step:
            run.update()
        errors = run.errors()
        assert max(errors.values()) < of_params, (step, max(errors, key=errors.__getitem__))
    stored = {key.split("/", 2)[2] for key in EXPECTED if key.startswith(f"{scenario}/state/")}
    for name, param in run.params.items():
        for key, value in run.optimizer.state.get(param, {}).items():
            stored.remove(f"{name}/{key}")
            want = EXPECTED[f"{scenario}/state/{name}/{key}"]
            found = torch.as_tensor(value)
            assert found.shape == want.shape
            assert relative_error(found, want) < of_state, (name, key)
    assert not stored
    assert run.optimizer.num_skipped == 0


# An embedding has rows without gradient: nearly singular, so that more than rounding is seen.
@pytest.mark.parametrize(
    ("scenario", "bound"), [("f32", 1e-7), ("f32_lr05", 1e-5), ("f32_options", 1e-6)]
)
def test_float64_equals_the_formulas_written_plainly(scenario: str, bound: float) -> None:
    params, about = initial(torch.float64), SCENARIOS[scenario]
    options = Run(scenario).options
    optimizer = BatchedRubik(params.values(), lr=about["lr"], **options)
    plain = {name: PlainRubik(p.detach().numpy(), **options) for name, p in params.items()}
    for step in range(about["steps"]):
        for name, param in params.items():
            grad = gradient(name, step)
            param.grad = None if grad is None else grad.double()
            plain[name].step(None if grad is None else grad.double().numpy(), about["lr"])
        optimizer.step()
        for name, param in params.items():
            want = torch.as_tensor(plain[name].p)
            assert relative_error(param, want) < bound, (name, step)
    # And it is the trajectory that the reference takes in float32.
    for name, param in params.items():
        want = EXPECTED[f"{scenario}/step{about['steps']}/{name}"]
        assert relative_error(param, want) < TOLERANCES[scenario][0], name


def test_first_steps_by_hand() -> None:
    # A row is a vector; its first step is lr times 0.98 * 0.02 + 0.02, times the scale.
    vector = nn.Parameter(torch.full((1, 2), 0.1, dtype=torch.float64))
    scalar = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    # An orthogonal matrix is what the momentum becomes: its step is one of the angle alone.
    matrix = nn.Parameter(0.05 * torch.eye(2, dtype=torch.float64))
    vector.grad = torch.tensor([[3.0, -3.0]], dtype=torch.float64)
    scalar.grad = torch.tensor(-7.0, dtype=torch.float64)
    matrix.grad = torch.tensor([[0.0, 2.0], [-2.0, 0.0]], dtype=torch.float64)
    BatchedRubik([vector, scalar, matrix], lr=0.1, eps=1e-30).step()
    step = 0.1 * (0.98 * 0.02 + 0.02)
    assert scalar.item() == pytest.approx(0.5 + 0.05 * step)
    decayed = 0.1 * (1 - 0.1**2 / 2)
    assert vector.tolist()[0] == pytest.approx([decayed - 0.1 * step, decayed + 0.1 * step])
    # The scale is 0.05 / root 2, and an X of rms 1 has two elements of root 2.
    turn = 0.05 * 0.1 * 0.1 / math.sqrt(1 - 0.81)
    stay = 0.05 * (1 - 0.1**2 / 2)
    want = torch.tensor([[stay, -turn], [turn, stay]], dtype=torch.float64)
    torch.testing.assert_close(matrix.detach(), want, rtol=1e-6, atol=0)


def test_the_size_of_a_matrix_step_is_that_of_no_gradient() -> None:
    for size in (1e-2, 1.0, 1e4):
        param = random_parameters([(8, 6)])[0]
        before = param.detach().clone()
        param.grad = size * random_gradient(param, 0, 0)
        BatchedRubik([param], lr=0.02, scalar_scale=0.0).step()
        moved = param.detach() - before * (1 - 0.02**2 / 2)
        scale = before.square().mean().sqrt()
        rms = moved.square().mean().sqrt() / (0.02 * scale)
        assert float(rms) == pytest.approx(0.1 / math.sqrt(1 - 0.81), rel=1e-6)


def test_sizes_settle_at_the_scales() -> None:
    # Of independent gradients, the decay takes about what the steps add; it begins at 0.1.
    params = random_parameters([(16, 12)], torch.float32)
    optimizer = BatchedRubik(params, lr=0.1, scale_limits=(0.05, 0.05))
    train(optimizer, params, range(600))
    assert float(params[0].detach().square().mean().sqrt()) == pytest.approx(0.05, rel=0.3)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(len(MIXED))))
def test_the_order_of_parameters_does_not_matter(order: list[int]) -> None:
    plain, other = random_parameters(MIXED), random_parameters(MIXED)
    optimizers = [BatchedRubik(plain), BatchedRubik([other[index] for index in order])]
    for optimizer, params in zip(optimizers, (plain, other), strict=True):
        train(optimizer, params, range(4))
    for left, right in zip(plain, other, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_stack_is_what_each_parameter_is_alone(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_params = torch.float64 if dtype == torch.float64 else torch.float32
    results = []
    # All at once, one optimizer for each, pieces of one matrix, stacks of two.
    for each, piece_bytes, stack_bytes in (
        (0, 1 << 21, 1 << 30),
        (1, 1 << 21, 1 << 30),
        (0, 1, 200),
    ):
        monkeypatch.setattr(rubik, "CPU_PIECE_BYTES", piece_bytes)
        monkeypatch.setattr(rubik_rules, "MAX_STACK_BYTES", stack_bytes)
        params = random_parameters(MIXED, of_params)
        parts = [[param] for param in params] if each else [params]
        optimizers = [BatchedRubik(part, work_dtype=dtype) for part in parts]
        for step in range(5):
            for index, param in enumerate(params):
                param.grad = random_gradient(param, index, step)
            for optimizer in optimizers:
                optimizer.step()
        results.append(params)
    for other in results[1:]:
        for left, right in zip(results[0], other, strict=True):
            torch.testing.assert_close(left, right, rtol=0, atol=1e-12 if dtype == of_params else 0)


def test_stacks_and_their_products(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = rubik_rules.orthogonalise

    def orthogonalise(x: Tensor, workspace: object) -> Tensor:
        calls.append(tuple(x.shape))
        return real(x, workspace)  # type: ignore[arg-type]

    monkeypatch.setattr(rubik, "orthogonalise", orthogonalise)
    params = random_parameters(MIXED)
    optimizer = BatchedRubik(params)
    train(optimizer, params, range(1))
    assert calls == [(3, 6, 4), (1, 4, 6), (1, 6, 3), (1, 5, 5)]
    kept = {tuple(entry)[1:] for entry in optimizer.state.values()}
    matrix = ("momentum_buffer", "second_momentum_buffer", "scale", "scale_grad_buffer")
    assert kept == {matrix, ("exp_avg", "exp_avg_sq", *matrix[2:]), ("exp_avg", "exp_avg_sq")}
    assert len(optimizer.state) == 8
    monkeypatch.setattr(rubik_rules, "MAX_STACK_BYTES", 4 * 24 * 2)
    buckets = BatchedRubik.layout.buckets([torch.empty(6, 4) for _ in range(5)])
    assert [len(bucket) for bucket in buckets] == [2, 2, 1]


def test_work_type() -> None:
    (single,), (double,) = random_parameters([(3, 4)], torch.float32), random_parameters([(3, 4)])
    for param, asked, want in (
        (single, None, torch.float32),
        (double, None, torch.float64),
        (single, torch.bfloat16, torch.bfloat16),
    ):
        optimizer = BatchedRubik([param], work_dtype=asked)
        train(optimizer, [param], range(1))
        assert optimizer.state[param]["momentum_buffer"].dtype == want
        assert optimizer.state[param]["second_momentum_buffer"].dtype == param.dtype


@pytest.mark.parametrize("scenario", ["f32", "bf16"])
@pytest.mark.parametrize("by_name", [True, False])
def test_saved_and_loaded_goes_on_bit_for_bit(scenario: str, by_name: bool) -> None:
    assert META[f"reload_after_11_steps_is_bitwise_equal_{scenario}"]
    whole, first = Run(scenario), Run(scenario)
    while whole.step < 30:
        whole.update()
    while first.step < 11:
        first.update()
    file = io.BytesIO()
    torch.save((first.optimizer.state_dict(), first.optimizer.named_shapes()), file)
    file.seek(0)
    saved, shapes = torch.load(file, weights_only=True)
    params = {n: nn.Parameter(p.detach().clone()) for n, p in first.params.items()}
    second = Run(scenario, params)
    assert second.optimizer.load_named(saved, shapes if by_name else None) == []
    second.step = 11
    before = copy.deepcopy(saved)
    while second.step < 30:
        second.update()
    for name in NAMES:
        assert torch.equal(whole.params[name], second.params[name]), name
    assert str(before) == str(saved)  # what was loaded is not written into


def test_another_order_fewer_and_more_parameters_go_on_by_name() -> None:
    whole, first = Run("f32"), Run("f32")
    while first.step < 11:
        first.update()
    frozen, added = ("tall.a", "bias.a", "scalar.a"), ("new.weight", "new.tall")
    params = {n: p for n, p in reversed(first.params.items()) if n not in frozen}
    params["new.weight"] = nn.Parameter(torch.full((3, 2), 0.1))
    params["new.tall"] = nn.Parameter(torch.full((8, 6), 0.1))  # a stack that is known
    second = BatchedRubik(params.items(), lr=0.01, beta1=0.99)
    saved = first.optimizer.state_dict()
    assert second.load_named(saved, first.optimizer.named_shapes()) == [*added]
    assert second.param_groups[0]["lr"] == 0.01
    second.param_groups[0]["lr"] = 0.02
    while whole.step < 20:
        whole.update()
        if whole.step > 11:
            for name, param in params.items():
                param.grad = None if name in added else gradient(name, whole.step - 1)
            second.step()
    for name, param in params.items():
        if name not in added:
            assert relative_error(param, whole.params[name].detach()) < 1e-5, name
    assert second.state[params["new.weight"]]["step"] == 9
    assert second.state[params["tall.never"]]["step"] == 20


def test_state_of_others_is_refused() -> None:
    params = random_parameters([(3, 4), (4,)], torch.float32)
    adam, optimizer = ScaledAdam(params), BatchedRubik(params)
    train(optimizer, params, range(2))
    adam.step()
    with pytest.raises(CheckpointError, match="not that of BatchedRubik"):
        optimizer.load_named(adam.state_dict(), None)
    with pytest.raises(CheckpointError, match=r"not that of ScaledAdam.*--optimizer"):
        adam.load_named(optimizer.state_dict(), None)
    other = random_parameters([(3, 5), (4,)], torch.float32)
    wrong = BatchedRubik(other)
    wrong.load_state_dict(optimizer.state_dict())
    with pytest.raises(CheckpointError, match=r"momentum_buffer of shape \(1, 3, 4\)"):
        train(wrong, other, range(1))


@pytest.mark.parametrize("guarded", [True, False])
def test_gradients_that_are_not_finite(guarded: bool, caplog: pytest.LogCaptureFixture) -> None:
    # Without the guard, as the reference: a matrix is lost as a whole, a vector in one element.
    after = META["after_inf_at_step4"]
    params = initial()
    optimizer = BatchedRubik(params.items(), lr=0.02, skip_not_finite=guarded)
    with caplog.at_level(logging.WARNING):
        for step in range(8):
            for name, param in params.items():
                param.grad = gradient(name, step)
                if step == 4 and name in after["in"]:
                    param.grad.view(-1)[1] = torch.inf
            before = {name: param.detach().clone() for name, param in params.items()}
            optimizer.step()
            if step == 4 and guarded:
                assert all(torch.equal(before[name], params[name]) for name in NAMES)
    lost = {name: int((~param.isfinite()).sum()) for name, param in params.items()}
    assert optimizer.num_skipped == int(guarded)
    if guarded:
        assert not any(lost.values())
        assert "The gradient norm is inf: this update is skipped (1 so far)" in caplog.text
        assert optimizer.state[params["tall.a"]]["step"] == 7
    else:
        assert lost == after["nonfinite_elements_after_8_steps"]


def test_missing_gradients_are_zeros_and_unused_tensors_shrink_by_choice() -> None:
    missing, zero, kept = (initial() for _ in range(3))
    optimizers = [
        BatchedRubik(missing.values(), lr=0.1),
        BatchedRubik(zero.values(), lr=0.1),
        BatchedRubik(kept.values(), lr=0.1, decay_unused=False),
    ]
    for step in range(6):
        for params in (missing, zero, kept):
            for name, param in params.items():
                param.grad = gradient(name, step)
                if params is zero and param.grad is None:
                    param.grad = torch.zeros_like(param)
        for optimizer in optimizers:
            optimizer.step()
    for name in NAMES:
        assert torch.equal(missing[name], zero[name]), name
    for name in ("tall.never", "zero"):
        start = INPUTS[f"init/{name}"]
        torch.testing.assert_close(missing[name].detach(), start * (1 - 0.1**2 / 2) ** 6)
        assert torch.equal(kept[name], start)
    assert torch.equal(kept["wide.b"], missing["wide.b"])


def test_gradient_norm_is_weighted_with_the_scales() -> None:
    params = random_parameters([(4, 3), (5,), ()])
    optimizer = BatchedRubik(params)
    train(optimizer, params, range(1))
    weights = [min(max(float(p.detach().square().mean().sqrt()), 0.03), 0.15) for p in params[:2]]
    norms = [float(param.grad.norm()) for param in params if param.grad is not None]
    want = math.hypot(*(w * n for w, n in zip([*weights, 0.05], norms, strict=True)))
    assert optimizer.grad_norm == pytest.approx(want, rel=0.02)  # scales have moved a little


def test_closure_copies_and_groups() -> None:
    params = random_parameters([(4, 3), (5,)])
    optimizer = BatchedRubik([{"params": [params[0]], "lr": 0.02}])
    optimizer.add_param_group({"named_params": [("b", params[1])], "lr": 0.1})
    assert optimizer.named_shapes() is None

    def closure() -> float:
        optimizer.zero_grad()
        loss = sum((param.square().sum() for param in params), torch.zeros(()))
        loss.backward()
        return float(loss)

    losses = [optimizer.step(closure) for _ in range(30)]
    assert losses[-1] < losses[0]
    other = copy.deepcopy(optimizer)
    assert str(other.state_dict()) == str(optimizer.state_dict())
    other.step()


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="BatchedRubik got no parameters"):
        BatchedRubik([])
    param = nn.Parameter(torch.ones(3, 2))
    for options, message in (
        ({"beta1": 1.0}, "beta1"),
        ({"lr": -1.0}, "lr"),
        ({"scale_limits": (0.2, 0.1)}, "scale_limits"),
        ({"eps": 0.0}, "eps"),
    ):
        with pytest.raises(ValueError, match=message):
            BatchedRubik([param], **options)
    embedding = nn.Embedding(4, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(UserError, match="sparse gradient"):
        BatchedRubik(embedding.parameters()).step()
    half = nn.Parameter(torch.ones(3, 2, dtype=torch.float16))
    for params in ([half], [param, nn.Parameter(torch.ones(2, dtype=torch.float64))]):
        with pytest.raises(UserError, match="float32"):
            BatchedRubik(params).step()
