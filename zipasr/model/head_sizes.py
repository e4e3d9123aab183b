"""How many attention heads there are, when only the channels of all heads together are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import gcd
from typing import Any, NamedTuple

from zipasr.base.config import flag_name, shown

#: Channels of a query, of a value and of a position query in every published model, per head.
PUBLISHED_HEAD = (32, 12, 4)

#: Fields of the configuration that describe heads, in the order of ``Heads``.
HEAD_FLAGS = ("num_heads", "query_head_dim", "value_head_dim", "pos_head_dim")


class HeadChannels(NamedTuple):
    """Channels of the attention of one stack, all heads together."""

    query: int
    value: int
    position: int


class Heads(NamedTuple):
    """The heads of one stack: their number, and channels of each."""

    num: int
    query: int
    value: int
    position: int


def divide_among_heads(
    stacks: Sequence[HeadChannels], hints: Mapping[str, Any]
) -> tuple[list[Heads], list[str]]:
    """Divide the channels of each stack among heads.

    Sizes as in published models come first; other hints than complete ones do not count against
    them. Where they do not fit, the choice agrees with the hints and, if it can be, has heads of
    one size in all stacks.

    Args:
        stacks: channels of each stack.
        hints: field -> value, any of ``HEAD_FLAGS``; what fits no stack is passed over.

    Returns:
        The heads of each stack; and a sentence if they could be others.
    """
    possible = [_possible_heads(stack) for stack in stacks]
    if _in_all(possible, PUBLISHED_HEAD) and not all(name in hints for name in HEAD_FLAGS):
        return [_of_size(options, PUBLISHED_HEAD) for options in possible], []
    told = [
        [heads for heads in options if _agrees(heads, hints, index, len(stacks))]
        for index, options in enumerate(possible)
    ]
    possible = told if all(told) else possible
    chosen = [max(options, key=lambda heads: _likeness(heads[1:])) for options in possible]
    sizes = {heads[1:] for options in possible for heads in options}
    if common := [size for size in sizes if _in_all(possible, size)]:
        best = max(common, key=_likeness)
        chosen = [_of_size(options, best) for options in possible]
    if all(len(options) == 1 for options in possible):
        return chosen, []
    words = " ".join(
        f"{flag_name(name)} {shown(once(heads[axis] for heads in chosen))}"
        for axis, name in enumerate(HEAD_FLAGS)
    )
    return chosen, [f"the weights do not tell the number of attention heads: taken as {words}"]


def _in_all(possible: Sequence[Sequence[Heads]], size: tuple[int, ...]) -> bool:
    return all(any(heads[1:] == size for heads in options) for options in possible)


def _of_size(options: Sequence[Heads], size: tuple[int, ...]) -> Heads:
    return next(heads for heads in options if heads[1:] == size)


def _possible_heads(stack: HeadChannels) -> list[Heads]:
    most = gcd(stack.query, stack.value, stack.position)
    return [
        Heads(num, stack.query // num, stack.value // num, stack.position // num)
        for num in range(1, most + 1)
        if most % num == 0
    ]


def _agrees(heads: Heads, hints: Mapping[str, Any], index: int, num_stacks: int) -> bool:
    """Say whether nothing that is known of the heads of one stack is against a choice."""
    for value, name in zip(heads, HEAD_FLAGS, strict=True):
        known = hints.get(name, ())
        if len(known) in (1, num_stacks) and known[index % len(known)] != value:
            return False
    return True


def _likeness(size: tuple[int, ...]) -> tuple[int, ...]:
    """Rank sizes of heads: those of published models first, then what comes close."""
    same = [int(value == usual) for value, usual in zip(size, PUBLISHED_HEAD, strict=True)]
    return (sum(same), same[2], -abs(size[0] - PUBLISHED_HEAD[0]))


def once(values: Iterable[int]) -> tuple[int, ...]:
    """Write a value for each stack once when it is always the same."""
    every = tuple(values)
    return every[:1] if len({*every}) == 1 else every
