"""Means of gradients over all processes, sent in buckets while the backward pass goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from zipasr.base.distributed import World

#: Numbers that go over the wire together: enough to use it well, few enough that most of a small
#: model is on its way before the backward pass ends.
BUCKET_ELEMENTS = 1 << 21


class _Sent(NamedTuple):
    """A bucket on its way: its gradients one after another, and what to wait for."""

    gradients: Tensor
    work: Any


class GradientReducer:
    """Put in the place of each gradient its mean over the processes.

    The last layers are ready first: a bucket is sent when all of its gradients are final and those
    before it are sent, so that all processes send the same buckets in the same order. What is not
    used in a process counts as zero. A backward pass that fails, for want of memory, leaves what it
    has sent, which is final; the rest comes from the attempts after it. Gradients become pieces of
    the bucket that came back, which costs no copies.

    Args:
        parameters: that have gradients, in the order of the forward pass.
        world: this process among the others; alone, it sends nothing.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], world: World) -> None:
        self._size = world.size
        trained = [p for p in parameters if p.requires_grad] if world.size > 1 else []
        self._buckets = list(_buckets(trained[::-1]))
        self._sent: list[_Sent] = []
        self._missing: list[int] = []
        self._is_last = False
        for number, bucket in enumerate(self._buckets):
            for parameter in bucket:
                note = partial(self._note, number)
                parameter.register_post_accumulate_grad_hook(note)  # type: ignore[no-untyped-call]

    @contextmanager
    def last_backward(self) -> Iterator[None]:
        """Send the gradients that become final in this block, the last backward pass of an update.

        After a failure another one may follow.
        """
        self._missing = [len(bucket) for bucket in self._buckets]
        self._is_last = True
        try:
            yield
        finally:
            self._is_last = False

    def finish(self) -> None:
        """Send what is left and wait for all: gradients are means from here on."""
        while len(self._sent) < len(self._buckets):
            self._send_next()
        for bucket, sent in zip(self._buckets, self._sent, strict=True):
            sent.work.wait()
            _point_at(bucket, sent.gradients)
        self._sent.clear()

    def _note(self, number: int, _parameter: Tensor) -> None:
        if not self._is_last:
            return
        self._missing[number] -= 1
        while (following := len(self._sent)) < len(self._buckets) and not self._missing[following]:
            self._send_next()

    def _send_next(self) -> None:
        bucket = self._buckets[len(self._sent)]
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        gradients = torch.cat([piece.reshape(-1) for piece in pieces]).div_(self._size)
        # What the pieces took is free for the rest of the backward pass.
        _point_at(bucket, gradients)
        self._sent.append(_Sent(gradients, dist.all_reduce(gradients, async_op=True)))


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    bucket: list[nn.Parameter] = []
    filled = 0
    for parameter in parameters:
        if bucket and filled + parameter.numel() > BUCKET_ELEMENTS:
            yield bucket
            bucket, filled = [], 0
        bucket.append(parameter)
        filled += parameter.numel()
    if bucket:
        yield bucket


def _point_at(bucket: Sequence[nn.Parameter], gradients: Tensor) -> None:
    pieces = torch.split(gradients, [parameter.numel() for parameter in bucket])
    for parameter, piece in zip(bucket, pieces, strict=True):
        parameter.grad = piece.view(parameter.shape)
