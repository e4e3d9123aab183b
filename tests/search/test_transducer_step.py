import pytest
import torch

from zipasr.search.transducer_step import adjusted_log_probs, longest_first

from .tiny import tiny_steps


def test_rows_alive_at_each_frame():
    frames = torch.arange(12.0).view(3, 4, 1)
    batch = longest_first(frames, torch.tensor([2, 4, 2]))
    assert batch.num_alive == [3, 3, 1, 1]
    assert batch.lens == [4, 2, 2]
    assert batch.order == [1, 0, 2]
    assert batch.frames[0].tolist() == frames[1].tolist()
    assert batch.places() == [1, 0, 2]


@pytest.mark.parametrize("lens", [[5, 1], [-1, 2]])
def test_lengths_that_do_not_fit(lens):
    with pytest.raises(ValueError, match="do not fit 4 encoder frames"):
        longest_first(torch.zeros(2, 4, 1), torch.tensor(lens))


def test_contexts_start_with_nothing_and_one_blank():
    contexts = tiny_steps(0, context_size=3).start_contexts(2, torch.device("cpu"))
    assert contexts.tolist() == [[-1, -1, 0], [-1, -1, 0]]


def test_penalty_comes_before_temperature():
    got = adjusted_log_probs(torch.tensor([3.0, 1.0, 2.0]), 1, 0.5, 2.0)
    want = torch.log_softmax(torch.tensor([1.5, 0.25, 1.0]), dim=0)
    torch.testing.assert_close(got, want)


def test_scores_are_float32_also_from_half_precision():
    logits = torch.tensor([[3.0, 1.0]], dtype=torch.bfloat16)
    assert adjusted_log_probs(logits, 0, 0.0, 1.0).dtype == torch.float32
    assert adjusted_log_probs(logits, 0, 1.0, 1.0).dtype == torch.float32
