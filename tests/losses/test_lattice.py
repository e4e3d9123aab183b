import pytest
import torch

from tests.losses.oracle import TYPES, Batch, paths
from zipasr.base.errors import DataError
from zipasr.losses.transducer_lattice import (
    check_enough_frames,
    delay_offsets,
    full_boundary,
    is_regular,
    mutual_information_recursion,
    reduce_losses,
)


def score_of_paths(px: torch.Tensor, py: torch.Tensor) -> torch.Tensor:
    num_symbols, num_frames = px.shape[0], py.shape[1]
    weights = {"symbol": px, "blank": py}
    totals = [
        torch.stack([weights[kind][s, t] for kind, s, t in path]).sum()
        for path in paths(num_symbols, num_frames, px.shape[1] > num_frames)
    ]
    return torch.stack(totals).logsumexp(0)


@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize(("s", "t"), [(0, 1), (0, 3), (1, 1), (1, 4), (2, 2), (2, 4), (3, 3)])
def test_score_and_occupations_equal_enumeration(s: int, t: int, regular: bool) -> None:
    px, py = Batch(s * 10 + t, (1, t, s)).arcs(regular)
    px.requires_grad_()
    py.requires_grad_()
    expected = score_of_paths(px[0], py[0])
    px_grad, py_grad = torch.autograd.grad(expected, (px, py), materialize_grads=True)
    score, (px_occupation, py_occupation) = mutual_information_recursion(px, py, return_grad=True)
    torch.testing.assert_close(score[0], expected)
    torch.testing.assert_close(py_occupation, py_grad)
    torch.testing.assert_close(px_occupation, px_grad)
    assert not px_occupation.requires_grad
    assert not py_occupation.requires_grad


def test_symbols_after_the_last_frame_count_if_their_arcs_are_open() -> None:
    zeros = torch.zeros(1, 1, 3), torch.zeros(1, 2, 2)
    torch.testing.assert_close(mutual_information_recursion(*zeros), torch.tensor([3.0]).log())


@pytest.mark.parametrize("regular", [True, False])
def test_boundary_selects_a_rectangle(regular: bool) -> None:
    px, py = Batch(7, (2, 7, 5)).arcs(regular)
    px = px.nan_to_num(neginf=0.5)  # closed arcs beyond the end must not be needed
    boundary = torch.tensor([[1, 2, 3, 6], [0, 1, 2, 5]])
    score, (px_grad, py_grad) = mutual_information_recursion(px, py, boundary, return_grad=True)
    for n, (s0, t0, s1, t1) in enumerate(boundary.tolist()):
        columns = slice(t0, t1 + 1 if regular else t1)
        inner = px[n : n + 1, s0:s1, columns], py[n : n + 1, s0 : s1 + 1, t0:t1]
        alone, occupations = mutual_information_recursion(*inner, return_grad=True)
        torch.testing.assert_close(score[n], alone[0])
        torch.testing.assert_close(px_grad[n, s0:s1, columns], occupations[0][0])
        torch.testing.assert_close(py_grad[n, s0 : s1 + 1, t0:t1], occupations[1][0])
        torch.testing.assert_close(px_grad[n].sum(), occupations[0].sum())
        torch.testing.assert_close(py_grad[n].sum(), occupations[1].sum())


@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize("offset", [0, 1])
def test_gradient_of_the_recursion(regular: bool, offset: int) -> None:
    px, py = Batch(2, (2, 4, 3)).arcs(regular)
    px = px.nan_to_num(neginf=-1.0).requires_grad_()
    boundary = torch.tensor([[offset, offset, 2, 4], [0, 0, 3, 3]])
    torch.autograd.gradcheck(
        lambda x, y: mutual_information_recursion(x, y, boundary), (px, py.requires_grad_())
    )


def test_backward_leaves_the_returned_occupations_alone() -> None:
    px, py = Batch(4).arcs(regular=True)
    score, occupations = mutual_information_recursion(px.requires_grad_(), py, return_grad=True)
    before = [x.clone() for x in occupations]
    (3 * score).sum().backward()
    assert all(torch.equal(x, y) for x, y in zip(occupations, before, strict=True))
    torch.testing.assert_close(px.grad, 3 * occupations[0])


@pytest.mark.parametrize("regular", [True, False])
def test_no_path_gives_minus_infinity_and_zero_gradient_to_this_utterance_only(
    regular: bool,
) -> None:
    px, py = Batch(6).arcs(regular)
    expected, others = mutual_information_recursion(px, py, return_grad=True)
    py, px = py.clone(), px.clone()
    py[1, :, 2] = -torch.inf
    px[1, :, 2] = -torch.inf
    px.requires_grad_()
    py.requires_grad_()
    score, occupations = mutual_information_recursion(px, py, return_grad=True)
    score.sum().backward()
    assert score[1] == -torch.inf
    assert torch.equal(score[[0, 2]], expected[[0, 2]])
    for grad, occupation, other in zip((px.grad, py.grad), occupations, others, strict=True):
        assert grad is not None
        assert not grad[1].any()
        assert torch.equal(grad, occupation)
        assert torch.equal(grad[[0, 2]], other[[0, 2]])


def test_half_precision_input_is_computed_in_float32() -> None:
    px, py = (x.bfloat16() for x in Batch().arcs(regular=False))
    score = mutual_information_recursion(px, py)
    assert score.dtype == torch.float32
    assert torch.equal(score, mutual_information_recursion(px.float(), py.float()))


def test_refuses_shapes_and_boundaries_that_do_not_fit() -> None:
    px, py = Batch().arcs(regular=True)
    with pytest.raises(ValueError, match="do not fit"):
        mutual_information_recursion(px, py[:, :-1])
    with pytest.raises(ValueError, match="do not fit"):
        mutual_information_recursion(px, py[:, :, :-1])
    with pytest.raises(ValueError, match="must be \\(3, 4\\)"):
        mutual_information_recursion(px, py, torch.zeros(2, 4))
    for row in ([0, 0, 5, 6], [0, 0, 4, 7], [0, 6, 4, 6], [3, 0, 2, 6]):
        with pytest.raises(ValueError, match="boundary of utterance 0"):
            mutual_information_recursion(px, py, torch.tensor([row] * 3))


def test_full_boundary_spans_the_lattice() -> None:
    assert full_boundary(None, torch.zeros(2, 7, 3), 4).tolist() == [[0, 0, 4, 7]] * 2


def test_too_few_frames_are_named() -> None:
    with pytest.raises(DataError, match="Utterance 1 of the batch has 4 tokens but only 3 frames"):
        check_enough_frames(torch.tensor([[0, 0, 3, 3], [0, 0, 4, 3]]))


def test_delay_offsets_have_mean_zero_over_the_utterance() -> None:
    offsets = delay_offsets(torch.tensor([[0, 0, 2, 5], [0, 0, 2, 4]]), 6, 0.1)
    expected = [[0.2, 0.1, 0.0, -0.1, -0.2, -0.3], [0.15, 0.05, -0.05, -0.15, -0.25, -0.35]]
    torch.testing.assert_close(offsets, torch.tensor(expected, dtype=torch.float64))


def test_reductions() -> None:
    losses = torch.tensor([1.0, 2.0, 6.0])
    assert reduce_losses(losses, "none") is losses
    assert reduce_losses(losses, "sum") == 9
    assert reduce_losses(losses, "mean") == 3
    with pytest.raises(ValueError, match="reduction is 'avg'"):
        reduce_losses(losses, "avg")  # type: ignore[arg-type]


def test_types() -> None:
    assert [is_regular(name) for name in TYPES] == [True, False, False]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rnnt_type is 'normal'"):
        is_regular("normal")  # type: ignore[arg-type]
