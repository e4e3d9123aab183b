import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from zipasr.base.errors import UserError
from zipasr.optim.build import parameter_groups
from zipasr.optim.scaled_adam import ScaledAdam


def model() -> nn.ModuleDict:
    inner = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    return nn.ModuleDict({"embed": nn.Linear(4, 2), "encoder": inner, "joiner": nn.Linear(3, 5)})


def names(group: dict) -> list[str]:
    return [name for name, _ in group["named_params"]]


def test_plain_model_has_one_group_in_order() -> None:
    net = model()
    (group,) = parameter_groups(net, 0.1)
    assert group["lr"] == 0.1
    assert names(group) == [name for name, _ in net.named_parameters()]
    ScaledAdam([group])


def test_rates_are_products_along_the_path() -> None:
    net = model()
    net.lr_scale = 0.5
    net["encoder"].lr_scale = 0.1
    net["encoder"][1].lr_scale = 3.0
    groups = parameter_groups(net, 2.0)
    assert [group["lr"] for group in groups] == pytest.approx([1.0, 0.1, 0.3])
    assert names(groups[0]) == ["embed.weight", "embed.bias", "joiner.weight", "joiner.bias"]
    assert names(groups[2]) == ["encoder.1.weight", "encoder.1.bias"]


def test_frozen_modules_get_no_gradient_and_no_group() -> None:
    net = model()
    (group,) = parameter_groups(net, 0.1, frozen=["encoder"])
    assert not any(name.startswith("encoder") for name in names(group))
    assert not any(param.requires_grad for param in net["encoder"].parameters())
    assert all(param.requires_grad for param in net["joiner"].parameters())


def test_unknown_frozen_name_is_an_error_and_freezes_nothing() -> None:
    net = model()
    with pytest.raises(UserError, match="did you mean 'encoder'"):
        parameter_groups(net, 0.1, frozen=["joiner", "encodr"])
    assert all(param.requires_grad for param in net.parameters())


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("encoder.1", {"embed", "encoder.0", "joiner"}),
        ("e*", {"joiner"}),
        ("*.bias", {"embed", "encoder.0", "encoder.1", "joiner"}),
        ("encoder.*.weight", {"embed", "encoder.0", "encoder.1", "joiner"}),
    ],
)
def test_a_pattern_freezes_what_it_names_at_any_depth(pattern: str, left: set[str]) -> None:
    net = model()
    (group,) = parameter_groups(net, 0.1, frozen=[pattern])
    assert {name.rpartition(".")[0] for name in names(group)} == left
    trained = {name for name, param in net.named_parameters() if param.requires_grad}
    assert trained == {*names(group)}
    assert ("encoder.1.bias" in trained) == (pattern == "encoder.*.weight")


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(UserError, match="nothing is left to train"):
        parameter_groups(model(), 0.1, frozen=["*"])


def test_shared_parameter_appears_once() -> None:
    net = model()
    net["joiner"].weight = net["embed"].weight
    (group,) = parameter_groups(net, 0.1)
    assert "joiner.weight" not in names(group)
    assert len(names(group)) == len(list(net.parameters()))


@pytest.fixture
def process_group():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_wrapped_model_has_the_names_of_the_model_and_takes_the_same_steps() -> None:
    torch.manual_seed(0)
    plain, inner = nn.Linear(3, 2), nn.Linear(3, 2)
    inner.load_state_dict(plain.state_dict())
    wrapped = DistributedDataParallel(inner)
    assert names(parameter_groups(wrapped, 0.1)[0]) == ["weight", "bias"]
    for net in (plain, wrapped):
        optimizer = ScaledAdam(parameter_groups(net, 0.1), clipping_scale=2.0)
        for step in range(5):
            optimizer.zero_grad()
            net(torch.full((4, 3), float(step + 1))).square().sum().backward()
            optimizer.step()
    assert torch.equal(plain.weight, inner.weight)
