import copy
import io
import logging
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.optim.golden import EXPECTED, META, NAMES, SCENARIOS, Run
from zipasr.base.errors import CheckpointError, UserError
from zipasr.optim.parameter_batches import OptimizerBackend
from zipasr.optim.scaled_adam import ScaledAdam


def random_parameters(shapes: list[tuple[int, ...]], seed: int = 1) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(0.3 * torch.randn(shape, generator=generator)) for shape in shapes]


def set_random_gradients(params: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(1000 + step)
    for param in params:
        param.grad = torch.randn(param.numel(), generator=generator).view(param.shape)


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_trajectory_equals_the_reference(scenario: str, backend: OptimizerBackend) -> None:
    run = Run(scenario, backend=backend)
    for step in META["scenarios"][scenario]["record_at"]:
        while run.step < step:
            run.update()
        run.check()
    assert run.optimizer.num_skipped == 0


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if META["scenarios"][s]["clip"]])
def test_norms_and_thresholds_equal_the_reference(scenario: str) -> None:
    run = Run(scenario)
    period = run.kwargs.get("period", 100)
    for step, group, norm, threshold, _, num_clipped in META["scenarios"][scenario]["clip"]:
        while run.step <= step:
            run.update()
        buckets = run.optimizer._batches[group]
        state = buckets.entries[0]
        assert float(state["model_norms"][step % period]) == pytest.approx(norm, rel=1e-5)
        found = state.get("model_norm_threshold")
        assert found == (None if threshold is None else pytest.approx(threshold, rel=1e-5))
        assert state.get("num_clipped") == num_clipped


@pytest.mark.parametrize("scenario", ["clip2", "clip2_two_groups"])
def test_state_dict_has_the_layout_of_the_reference(scenario: str) -> None:
    run = Run(scenario)
    while run.step < 50:
        run.update()
    saved = run.optimizer.state_dict()
    meta = META["scenarios"][scenario]
    assert {str(index) for index in saved["state"]} == set(meta["state"])
    for index, entry in meta["state"].items():
        found = saved["state"][int(index)]
        assert set(found) == set(entry)
        for key, value in entry.items():
            if value == "tensor":
                want = EXPECTED[f"{scenario}/final_state/{index}/{key}"]
                torch.testing.assert_close(
                    found[key], want, rtol=0, atol=1e-5 * float(want.abs().max()) + 1e-30
                )
            else:
                assert type(found[key]) is type(value)
                assert found[key] == pytest.approx(value, rel=1e-5)
    for found, want in zip(saved["param_groups"], meta["param_groups"], strict=True):
        assert {**found, "betas": list(found["betas"])} == want


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_what_is_loaded_is_not_written_into(backend: OptimizerBackend) -> None:
    run = Run("clip2", backend=backend)
    while run.step < 3:
        run.update()
    saved = run.optimizer.state_dict()
    before = copy.deepcopy(saved)
    other = Run("clip2", backend=backend)
    other.optimizer.load_state_dict(saved)
    while other.step < 3:
        other.update()
    for index, entry in before["state"].items():
        for key, value in entry.items():
            torch.testing.assert_close(saved["state"][index][key], value, rtol=0, atol=0)


def test_first_step_by_hand() -> None:
    # v / (1 - beta2) is g squared, so the step is lr times the rms against the sign of g,
    # and momentum lets a tenth of it through. Scalars: a tenth of lr, no rms.
    tensor = nn.Parameter(torch.tensor([3.0, -4.0]))
    scalar = nn.Parameter(torch.tensor(0.5))
    tensor.grad, scalar.grad = torch.tensor([0.2, -7.0]), torch.tensor(-9.0)
    ScaledAdam([tensor, scalar], lr=0.1, clipping_scale=2.0).step()
    rms = math.sqrt((9 + 16) / 2)
    want = torch.tensor([3.0 - 0.1 * 0.1 * rms, -4.0 + 0.1 * 0.1 * rms])
    torch.testing.assert_close(tensor.detach(), want)
    torch.testing.assert_close(scalar.detach(), torch.tensor(0.5 + 0.1 * 0.1 * 0.1))


def test_float64_parameters_keep_float64_state() -> None:
    param = nn.Parameter(torch.tensor([3.0, -4.0], dtype=torch.float64))
    param.grad = torch.tensor([1.0, 2.0], dtype=torch.float64)
    optimizer = ScaledAdam([param], lr=0.1, betas=(0.9, 0.98))
    optimizer.step()
    want = 3.0 - 0.1 * 0.1 * math.sqrt(12.5) / (1 + 1e-8)
    assert float(param.detach()[0]) == pytest.approx(want, rel=1e-14)
    assert optimizer.state[param]["exp_avg_sq"].dtype == torch.float64


SHAPES_OF_12 = [(12,), (3, 4), (4, 3), (2, 6), (2, 2, 3), (1, 12), (12, 1, 1)]


@settings(max_examples=15, deadline=None)
@given(
    first=st.lists(st.sampled_from(SHAPES_OF_12), min_size=4, max_size=4),
    second=st.lists(st.sampled_from(SHAPES_OF_12), min_size=4, max_size=4),
)
def test_how_parameters_share_buckets_does_not_change_the_step(
    first: list[tuple[int, ...]], second: list[tuple[int, ...]]
) -> None:
    trajectories = []
    for shapes in (first, second):
        params = random_parameters(shapes)
        optimizer = ScaledAdam(params, lr=0.05)
        for step in range(9):
            set_random_gradients(params, step)
            optimizer.step()
        trajectories.append(torch.stack([param.detach().flatten() for param in params]))
    torch.testing.assert_close(*trajectories, rtol=1e-6, atol=1e-8)


def test_chunks_do_not_change_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for limit in (1, 40, 10**9):
        monkeypatch.setattr("zipasr.optim.update_kernels.CPU_CHUNK_ELEMENTS", limit)
        run = Run("clip2", backend="torch")
        while run.step < 16:
            run.update()
        results.append(run.values())
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("saved_after", [0, 1, 7, 20])
def test_saved_and_loaded_continues_bitwise(saved_after: int) -> None:
    whole = Run("clip2_two_groups")
    while whole.step < saved_after:
        whole.update()
    file = io.BytesIO()
    torch.save(whole.optimizer.state_dict(), file)
    params = {name: nn.Parameter(param.detach().clone()) for name, param in whole.params.items()}
    resumed = Run("clip2_two_groups", params, saved_after)
    file.seek(0)
    resumed.optimizer.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(25):
        whole.update()
        resumed.update()
    assert torch.equal(whole.values(), resumed.values())
    first, second = whole.optimizer.state_dict(), resumed.optimizer.state_dict()
    assert str(first) == str(second)


def test_state_of_another_model_is_refused() -> None:
    params = random_parameters([(3, 4), (3, 4), (5,)])
    set_random_gradients(params, 0)
    optimizer = ScaledAdam(params)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    others = random_parameters([(3, 4), (5,), (5,)])
    other = ScaledAdam(others)
    other.load_state_dict(saved)
    with pytest.raises(CheckpointError, match="the same model"):
        other.step()


def test_missing_gradient_is_a_gradient_of_zeros() -> None:
    results = []
    for stand_in in (None, 0.0):
        params = random_parameters([(3, 4), (3, 4), (5,), ()])
        optimizer = ScaledAdam(params, clipping_scale=2.0)
        for step in range(30):
            set_random_gradients(params, step)
            if step % 3:
                params[step % 4].grad = (
                    None if stand_in is None else torch.zeros_like(params[step % 4])
                )
            optimizer.step()
        results.append(torch.cat([param.detach().flatten() for param in params]))
    assert torch.equal(*results)


def test_parameter_without_gradients_never_changes() -> None:
    run = Run("clip2")
    before = run.params["enc.unused.weight"].detach().clone()
    while run.step < 20:
        run.update()
    assert torch.equal(run.params["enc.unused.weight"].detach(), before)


def test_gradients_are_left_as_they_are() -> None:
    run = Run("clip2")
    while run.step < 13:
        run.update()
    # Step 12 is clipped; the stored gradients must survive it, others may still need them.
    run.step = 12
    found = {name: param.grad for name, param in run.params.items()}
    run.set_gradients()
    for name, param in run.params.items():
        assert (found[name] is None) == (param.grad is None)
        if param.grad is not None:
            assert torch.equal(found[name], param.grad)


@pytest.mark.parametrize("clipping_scale", [None, 2.0])
@pytest.mark.parametrize("bad_step", [0, 3, 30])
def test_update_with_nan_gradient_is_skipped_and_counted(
    clipping_scale: float | None, bad_step: int
) -> None:
    results = []
    for with_bad in (True, False):
        params = random_parameters([(3, 4), (3, 4), (5,), ()])
        optimizer = ScaledAdam(params, clipping_scale=clipping_scale)
        for step in range(40):
            if with_bad and step == bad_step:
                set_random_gradients(params, 12345)
                params[1].grad[0, 0] = math.nan
                optimizer.step()
            set_random_gradients(params, step)
            optimizer.step()
        assert optimizer.num_skipped == int(with_bad)
        results.append(torch.cat([param.detach().flatten() for param in params]))
    assert torch.equal(*results)


def test_infinite_gradient_before_there_is_a_threshold_is_skipped() -> None:
    params = random_parameters([(3, 4), (5,)])
    before = [param.detach().clone() for param in params]
    set_random_gradients(params, 0)
    params[0].grad[0, 0] = math.inf
    optimizer = ScaledAdam(params, clipping_scale=2.0)
    optimizer.step()
    assert optimizer.num_skipped == 1
    assert all(torch.equal(a, b) for a, b in zip(before, params, strict=True))


def test_weights_loaded_in_place_are_used() -> None:
    model = nn.Linear(3, 2)
    optimizer = ScaledAdam(model.parameters(), lr=0.1)
    for step in range(3):
        set_random_gradients(list(model.parameters()), step)
        optimizer.step()
    model.load_state_dict({"weight": torch.full((2, 3), 7.0), "bias": torch.full((2,), 8.0)})
    set_random_gradients(list(model.parameters()), 3)
    optimizer.step()
    delta = optimizer.state[model.weight]["delta"][0]
    torch.testing.assert_close(model.weight.detach(), 7.0 + delta)


def test_group_added_later_is_trained_as_if_alone() -> None:
    first, late, alone = random_parameters([(3, 4), (3, 4), (3, 4)])
    alone.data.copy_(late.data)
    optimizer = ScaledAdam([("first", first)], lr=0.1, clipping_scale=2.0)
    set_random_gradients([first], 0)
    optimizer.step()
    optimizer.add_param_group({"named_params": [("late", late)], "lr": 0.02})
    single = ScaledAdam([alone], lr=0.02, clipping_scale=2.0)
    for step in range(1, 15):
        set_random_gradients([first, late], step)
        alone.grad = late.grad.clone()
        optimizer.step()
        single.step()
    assert torch.equal(late, alone)


def test_four_kinds_of_input_are_the_same() -> None:
    results = []
    for kind in range(4):
        params = random_parameters([(3, 4), (5,), ()])
        named = list(zip("abc", params, strict=True))
        given_as = [iter(params), [{"params": params}], iter(named), [{"named_params": named}]]
        optimizer = ScaledAdam(given_as[kind], clipping_scale=2.0)
        assert set(optimizer.param_groups[0]) == {"params", *optimizer.defaults}
        for step in range(5):
            set_random_gradients(params, step)
            optimizer.step()
        results.append(torch.cat([param.detach().flatten() for param in params]))
    assert all(torch.equal(result, results[0]) for result in results)


def test_closure_is_evaluated_with_gradients() -> None:
    param = nn.Parameter(torch.ones(3))
    optimizer = ScaledAdam([param])

    def closure() -> float:
        optimizer.zero_grad()
        loss = param.square().sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == 3.0
    assert float(param.detach()[0]) < 1.0


def test_a_copy_of_the_optimizer_goes_on() -> None:
    params = random_parameters([(3, 4), (5,)])
    optimizer = ScaledAdam(params)
    set_random_gradients(params, 0)
    optimizer.step()
    twin = copy.deepcopy(optimizer)
    set_random_gradients(twin.param_groups[0]["params"], 1)
    twin.step()
    set_random_gradients(params, 1)
    optimizer.step()
    assert all(
        torch.equal(a, b) for a, b in zip(params, twin.param_groups[0]["params"], strict=True)
    )


def test_scalars_stay_within_their_limit() -> None:
    scalar = nn.Parameter(torch.tensor([[1.99]]))
    optimizer = ScaledAdam([scalar], lr=1.0, scalar_max=2.0)
    for _ in range(20):
        scalar.grad = torch.full((1, 1), -1.0)
        optimizer.step()
    assert float(scalar.detach()) == 2.0


def test_strong_clipping_names_the_parameters(caplog: pytest.LogCaptureFixture) -> None:
    run = Run("clip2")
    with caplog.at_level(logging.DEBUG):
        while run.step < 26:
            run.update()
    text = caplog.text
    assert "grad-norm quartiles" in text
    assert "percent-clipped=5.0" in text
    assert "Scaling gradients by" in text
    assert "enc.big.weight with proportion" in text
    assert text.count("ratio") >= 10
    # Clipping is normal: no warnings, and one line each time at the usual level.
    told = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert {record.levelname for record in told} == {"INFO"}
    assert sum("Scaling" in record.getMessage() for record in told) == caplog.text.count("Scaling")
    assert all("ratio" not in record.getMessage() for record in told)


def test_unnamed_parameters_give_numbers_only(caplog: pytest.LogCaptureFixture) -> None:
    params = random_parameters([(3, 4), (5,)])
    optimizer = ScaledAdam(params, clipping_scale=2.0)
    with caplog.at_level(logging.INFO):
        for step in range(13):
            set_random_gradients(params, step)
            if step == 12:
                params[0].grad.mul_(1000)
            optimizer.step()
    assert "Scaling gradients by" in caplog.text
    assert "proportion" not in caplog.text


def test_empty_input_and_bad_options_are_refused() -> None:
    params = random_parameters([(3,)])
    with pytest.raises(ValueError, match="no parameters"):
        ScaledAdam([])
    for options in (
        {"lr": -1.0},
        {"betas": (0.9, 1.0)},
        {"eps": 0.0},
        {"clipping_update_period": 0},
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            ScaledAdam(params, **options)


def test_sparse_gradients_and_mixed_types_are_refused() -> None:
    embedding = nn.Embedding(4, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(UserError, match="sparse"):
        ScaledAdam(embedding.parameters()).step()
    mixed = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2, dtype=torch.float64))]
    with pytest.raises(UserError, match="differ in type"):
        ScaledAdam(mixed).step()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_follows_the_stored_trajectory() -> None:
    run = Run("clip2")
    on_gpu = {name: nn.Parameter(param.detach().cuda()) for name, param in run.params.items()}
    gpu = ScaledAdam(list(on_gpu.items()), lr=0.045, clipping_scale=2.0)
    for _ in range(20):
        run.set_gradients()
        for name, param in on_gpu.items():
            grad = run.params[name].grad
            param.grad = None if grad is None else grad.cuda()
        run.step += 1
        gpu.step()
    run.params = {name: nn.Parameter(on_gpu[name].detach().cpu()) for name in NAMES}
    run.check()
