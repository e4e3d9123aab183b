from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zipasr.losses.ctc import consistency_loss

LENS = torch.tensor([5, 3, 5, 3])


def logits(num_rows: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num_rows, 5, 6, generator=generator, dtype=torch.float64)


def test_equals_the_sum_written_out() -> None:
    log_probs = logits().log_softmax(-1)
    expected = 0.0
    for n, length in enumerate(LENS.tolist()):
        for t in range(length):
            for v in range(6):
                p, q = float(log_probs[n, t, v]), float(log_probs[(n + 2) % 4, t, v])
                expected += torch.tensor(q, dtype=torch.float64).exp().item() * (q - p)
    assert float(consistency_loss(log_probs, LENS)) == pytest.approx(expected, rel=1e-12)


def test_each_view_is_drawn_to_the_other_which_does_not_move_for_it() -> None:
    z = logits().requires_grad_()
    consistency_loss(z.log_softmax(-1), LENS).backward()
    p = z.detach().softmax(-1)
    # Of a divergence from a fixed target; a target that moves would add terms.
    expected = p - p.roll(2, 0)
    expected[torch.arange(5) >= LENS[:, None]] = 0.0
    torch.testing.assert_close(z.grad, expected, rtol=0, atol=1e-12)


def test_finite_differences_with_the_target_held_fixed() -> None:
    fixed = logits().log_softmax(-1)
    target = fixed[2:].detach()

    def towards_fixed(z: Tensor) -> Tensor:
        # The second half is constant: what remains is one direction and a part without gradient.
        both = torch.cat([z.log_softmax(-1), target])
        return consistency_loss(both, LENS)

    z = logits(2).requires_grad_()
    (grad,) = torch.autograd.grad(towards_fixed(z), z)
    step, numeric = 1e-6, torch.zeros_like(grad)
    own = z.detach()
    for index in range(own.numel()):
        change = torch.zeros(own.numel(), dtype=torch.float64)
        change[index] = step
        values = []
        for sign in (1, -1):
            log_probs = (own + sign * change.view_as(own)).log_softmax(-1)
            cross = (target.exp() * (target - log_probs)).sum(-1)
            values.append(cross[torch.arange(5) < LENS[:2, None]].sum())
        numeric.view(-1)[index] = (values[0] - values[1]) / (2 * step)
    torch.testing.assert_close(grad, numeric, rtol=0, atol=1e-7)


def test_equal_views_agree_and_others_do_not() -> None:
    one, other = logits().log_softmax(-1).chunk(2)
    assert float(consistency_loss(torch.cat([one, one]), LENS)) == 0.0
    different = consistency_loss(torch.cat([one, other]), LENS)
    assert float(different) > 0.0
    torch.testing.assert_close(different, consistency_loss(torch.cat([other, one]), LENS))


def test_padding_counts_nothing() -> None:
    log_probs = logits().log_softmax(-1)
    spoilt = log_probs.clone()
    spoilt[1, 3:] = -50.0
    spoilt[3, 3:] = 7.0
    assert torch.equal(consistency_loss(spoilt, LENS), consistency_loss(log_probs, LENS))


def test_half_precision_is_computed_in_float32() -> None:
    log_probs = logits().log_softmax(-1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = consistency_loss(log_probs, LENS)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, consistency_loss(log_probs.float(), LENS))


def test_a_view_without_its_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="views come in pairs, got 3 rows"):
        consistency_loss(logits(3), LENS[:3])
