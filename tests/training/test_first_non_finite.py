"""The first module that is not finite is named."""

import pytest
import torch
from torch import Tensor, nn

from zipasr.training.nonfinite_guard import first_non_finite


class Log(nn.Module):
    """Infinite for a zero; the gradient of the square root is infinite there, its value is not."""

    def __init__(self, root: bool) -> None:
        super().__init__()
        self.root = root

    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt() if self.root else x.log()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("root", "expected"),
    [(False, "output of 1 (Log)"), (True, "gradient of the output of 0 (Linear)")],
)
def test_names_the_first(root: bool, expected: str) -> None:
    model = nn.Sequential(nn.Linear(2, 2), Log(root), nn.Linear(2, 1))
    nn.init.zeros_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    run = lambda: model(torch.ones(1, 2)).sum().backward()  # noqa: E731
    assert first_non_finite(model, run) == expected
    nn.init.ones_(model[0].weight)
    assert first_non_finite(model, run) is None


def test_names_a_parameter() -> None:
    model = nn.Linear(2, 2)
    nn.init.constant_(model.bias, torch.nan)
    assert first_non_finite(model, lambda: None) == "parameter bias"
