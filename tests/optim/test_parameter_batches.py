import pytest
import torch
from torch import nn

from zipasr.optim import update_kernels as sweeps
from zipasr.optim.parameter_batches import batch_parameters, bucket_by_shape
from zipasr.optim.update_kernels import chunk_slices


def parameters(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    return [nn.Parameter(torch.randn(shape)) for shape in shapes]


def test_buckets_are_in_lexicographic_order_and_keep_the_order_inside() -> None:
    params = parameters((8, 6), (8,), (), (8, 6), (1, 31), (1,), (256,))
    buckets = bucket_by_shape(params)
    shapes = [tuple(bucket[0].shape) for bucket in buckets]
    assert shapes == [(), (1,), (1, 31), (8,), (8, 6), (256,)]
    assert buckets[4][0] is params[0]
    assert buckets[4][1] is params[3]


@pytest.mark.parametrize("limit", [1, 5, 10, 1000])
def test_chunks_cover_all_parameters_once(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "CPU_CHUNK_ELEMENTS", limit)
    params = parameters((4,), (4,), (20,), (1,), ())
    chunks = chunk_slices(params)
    assert [index for chunk in chunks for index in range(len(params))[chunk]] == [0, 1, 2, 3, 4]
    for chunk in chunks:
        inside = params[chunk]
        assert len(inside) == 1 or sum(p.numel() for p in inside) <= limit


def test_entries_and_vectors_share_memory() -> None:
    params = parameters((3, 2), (5,), (3, 2), ())
    state: dict[torch.Tensor, dict[str, object]] = {}
    batches = batch_parameters(params, state, 4)
    assert set(state) == {params[0], params[1], params[3]}
    assert batches.params == [params[0], params[2], params[1], params[3]]
    batches.rms.copy_(torch.tensor([1.0, 2.0, 3.0]))
    batches.scale_grads[2] = torch.tensor([4.0, 5.0, 6.0])
    assert state[params[0]]["param_rms"].tolist() == [[[1.0]], [[2.0]]]
    assert state[params[1]]["param_rms"].tolist() == [[3.0]]
    assert state[params[0]]["scale_grads"][2].flatten().tolist() == [4.0, 5.0]
    batches.elements.delta[1].fill_(7.0)
    assert state[params[0]]["delta"][1].eq(7.0).all()
    assert "param_rms" not in state[params[3]]


def test_rms_of_new_state_is_that_of_the_parameters() -> None:
    params = parameters((3, 2), (5,))
    batches = batch_parameters(params, {}, 4)
    want = [float(p.detach().double().square().mean().sqrt()) for p in batches.params]
    assert batches.rms.tolist() == pytest.approx(want, rel=1e-6)
