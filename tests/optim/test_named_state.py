import copy
from collections.abc import Sequence

import pytest
import torch
from torch import nn

from tests.optim.golden import BASE_LR, EXPECTED, INPUTS, META, NAMES, Run
from zipasr.base.errors import CheckpointError
from zipasr.optim.named_state import check_saved
from zipasr.optim.scaled_adam import ScaledAdam

SHAPES = {
    "a.weight": (3, 4),
    "a.bias": (4,),
    "b.weight": (3, 4),
    "b.bias": (4,),
    "scale": (),
    "c.weight": (2, 3, 1),
}
Params = dict[str, nn.Parameter]


def parameters(names: Sequence[str] = tuple(SHAPES)) -> Params:
    """The same values for the same name."""
    params = {}
    for name in names:
        seed = torch.Generator().manual_seed(list(SHAPES).index(name))
        params[name] = nn.Parameter(torch.randn(SHAPES[name], generator=seed))
    return params


def optimizer(*groups: Params, lr: float = 0.05) -> ScaledAdam:
    named = [{"named_params": list(params.items()), "lr": lr} for params in groups]
    return ScaledAdam(named, clipping_scale=2.0)


def train(adam: ScaledAdam, params: Params, first: int, steps: int) -> None:
    for step in range(first, first + steps):
        for name, param in params.items():
            seed = torch.Generator().manual_seed(100 * step + list(SHAPES).index(name))
            param.grad = torch.randn(param.shape, generator=seed)
        adam.step()


def trained(steps: int = 13) -> tuple[ScaledAdam, Params]:
    params = parameters()
    adam = optimizer(params)
    train(adam, params, 0, steps)
    return adam, params


def continued(adam: ScaledAdam, params: Params, old: ScaledAdam, values: Params) -> list[str]:
    with torch.no_grad():
        for name, param in params.items():
            param.copy_(values[name])
    return adam.load_named(copy.deepcopy(old.state_dict()), old.named_shapes())


@pytest.mark.parametrize("steps", [0, 1, 13])
def test_another_order_goes_on_as_if_nothing_had_happened(steps: int) -> None:
    old, values = trained(steps)
    params = parameters(tuple(SHAPES)[::-1])
    new = optimizer(params)
    assert continued(new, params, old, values) == []
    train(old, values, steps, 10)
    train(new, params, steps, 10)
    for name, value in values.items():
        torch.testing.assert_close(params[name], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("frozen", [("a.weight", "a.bias"), ("b.bias",), ("scale", "c.weight")])
def test_frozen_parameters_leave_the_state_of_the_others_alone(frozen: tuple[str, ...]) -> None:
    old, values = trained()
    params = parameters([name for name in SHAPES if name not in frozen])
    new = optimizer(params)
    assert continued(new, params, old, values) == []
    assert new.param_groups[0]["lr"] == 0.05
    before, after = by_name(old), by_name(new)
    assert set(after) == set(params)
    for name, state in after.items():
        assert state.keys() == before[name].keys()
        for key, value in state.items():
            assert torch.equal(value, before[name][key]), (name, key)
    assert next(iter(new.state.values()))["step"] == 13
    train(new, params, 13, 4)


def by_name(adam: ScaledAdam) -> dict[str, dict[str, torch.Tensor]]:
    """State of each parameter, found by a walk of its own."""
    shapes = adam.named_shapes()
    assert shapes is not None
    found = {}
    for group, named in zip(adam.param_groups, shapes, strict=True):
        for first in group["params"]:
            if first in adam.state:
                same = [name for name, shape in named if shape == tuple(first.shape)]
                for i, name in enumerate(same):
                    found[name] = {
                        key: value[:, i] if key == "scale_grads" else value[i]
                        for key, value in adam.state[first].items()
                        if torch.is_tensor(value) and key != "model_norms"
                    }
    return found


def test_state_that_the_reference_saved_goes_on_in_another_order() -> None:
    meta = META["scenarios"]["clip2"]
    state = {
        int(index): {
            key: EXPECTED[f"clip2/final_state/{index}/{key}"] if value == "tensor" else value
            for key, value in entry.items()
        }
        for index, entry in meta["state"].items()
    }
    saved = {"state": state, "param_groups": meta["param_groups"]}
    names = [[(name, tuple(INPUTS[f"init/{name}"].shape)) for name in NAMES]]
    check_saved(saved, names, ScaledAdam.layout)
    # It goes on as the reference did, over thresholds of clipping that it sets itself.
    run = Run("clip2_long")
    reordered = [(name, run.params[name]) for name in reversed(NAMES)]
    run.optimizer = ScaledAdam(reordered, lr=BASE_LR, clipping_scale=2.0)
    assert run.optimizer.load_named(saved, names) == []
    sizes = [param.numel() for param in run.params.values()]
    with torch.no_grad():
        for param, value in zip(
            run.params.values(), EXPECTED["clip2/step50"].split(sizes), strict=True
        ):
            param.copy_(value.view(param.shape))
    run.step = 50
    while run.step < 240:
        run.update()
        if run.step in (100, 240):
            run.check()


def test_added_parameters_begin_anew_and_are_named() -> None:
    few = parameters(("a.weight", "b.bias"))
    old = optimizer(few)
    train(old, few, 0, 13)
    params = parameters()
    new = optimizer(params)
    fresh = new.load_named(old.state_dict(), old.named_shapes())
    assert fresh == ["a.bias", "b.weight", "scale", "c.weight"]
    state = by_name(new)
    assert torch.equal(state["a.weight"]["delta"], by_name(old)["a.weight"]["delta"])
    assert not state["b.weight"]["delta"].any()
    rms = params["b.weight"].detach().square().mean().sqrt()
    torch.testing.assert_close(state["b.weight"]["param_rms"].view(()), rms)
    train(new, params, 13, 4)


def test_groups_are_found_again_by_their_parameters() -> None:
    params = parameters()
    halves = [
        {name: params[name] for name in SHAPES if name.startswith("a") is is_a}
        for is_a in (True, False)
    ]
    old = optimizer(*halves)
    train(old, params, 0, 13)
    new = optimizer(*halves[::-1], lr=0.01)
    assert new.load_named(copy.deepcopy(old.state_dict()), old.named_shapes()) == []
    assert [group["lr"] for group in new.param_groups] == [0.01, 0.01]
    train(new, params, 13, 1)
    found = [batches.entries[0]["model_norm_threshold"] for batches in new._batches.values()]
    known = [batches.entries[0]["model_norm_threshold"] for batches in old._batches.values()]
    assert found == known[::-1]


def test_the_same_parameters_load_bit_for_bit_and_unnamed_ones_by_position() -> None:
    old, values = trained()
    for shapes in (old.named_shapes(), None):
        params = {name: nn.Parameter(value.detach().clone()) for name, value in values.items()}
        new = optimizer(params)
        assert new.load_named(copy.deepcopy(old.state_dict()), shapes) == []
        assert str(new.state_dict()) == str(old.state_dict())
    assert ScaledAdam(list(params.values())).named_shapes() is None


def test_state_of_another_model_or_shape_is_refused() -> None:
    old, _ = trained()
    with pytest.raises(CheckpointError, match="none of the parameters of the model, such as 'x'"):
        optimizer({"x": nn.Parameter(torch.ones(3))}).load_named(
            old.state_dict(), old.named_shapes()
        )
    with pytest.raises(CheckpointError, match=r"shape \(4,\) for 'a.bias', the model \(5,\)"):
        optimizer({"a.bias": nn.Parameter(torch.ones(5))}).load_named(
            old.state_dict(), old.named_shapes()
        )
