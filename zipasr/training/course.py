"""Where a run is in its data: how the epoch is cut into batches, and which parts of it are done."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zipasr.base.distributed import World, all_gather
from zipasr.base.errors import CheckpointError, DataError
from zipasr.data.cuts import DataIdentity
from zipasr.data.epoch_plan import BatchingConfig, EpochSegment
from zipasr.training.state import TrainState


@dataclass(slots=True)
class Course:
    """The layout in use, and what earlier ones have done of the epoch in progress.

    A change of the world size or of the budget, between two runs or within one, closes a leg; the
    cuts that are left of the epoch are planned anew, so none is trained twice.

    Attributes:
        layout: of the steps to come.
        data: what tells the training data from others; None before they are known.
        legs: parts of the epoch in progress that were trained in other layouts, in order.
    """

    layout: BatchingConfig
    data: DataIdentity | None = None
    legs: tuple[EpochSegment, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint."""
        return {
            "layout": self.layout.to_dict(),
            "data": None if self.data is None else self.data.to_dict(),
            "legs": [{"layout": leg.layout.to_dict(), "steps": leg.steps} for leg in self.legs],
        }

    def change_layout(self, layout: BatchingConfig, batches_done: int) -> None:
        """Cut what is left of the epoch in another way.

        All ranks must do so after the same step.

        Args:
            layout: of the steps to come.
            batches_done: steps of the epoch so far, over all legs.
        """
        steps = batches_done - sum(leg.steps for leg in self.legs)
        if layout != self.layout and steps > 0:
            self.legs = (*self.legs, EpochSegment(self.layout, steps))
        self.layout = layout

    def resume(self, saved: Mapping[str, Any], state: TrainState, *, other_data: bool) -> None:
        """Go on where a checkpoint was; ``state`` starts its epoch again if that cannot be.

        Args:
            saved: what ``to_dict`` gave then.
            state: restored already.
            other_data: go on with other data than before.

        Raises:
            CheckpointError: the training data are not the same, and may not be.
        """
        if "layout" not in saved:
            self._start_again(state, "the checkpoint does not say how its batches were chosen")
            return
        if saved["data"] is not None and self.data is not None:
            different = DataIdentity.from_dict(saved["data"]).differences(self.data)
            if different and not other_data:
                raise _other_data(different)
            if different:
                self._start_again(state, f"the training data differ ({'; '.join(different)})")
                return
        if state.batches_done == 0:
            return
        now, self.layout = self.layout, BatchingConfig.from_dict(saved["layout"])
        self.legs = tuple(
            EpochSegment(BatchingConfig.from_dict(leg["layout"]), leg["steps"])
            for leg in saved["legs"]
        )
        if now != self.layout:
            logging.warning(
                "%s: epoch %d goes on with the utterances that it has not seen yet",
                _change(self.layout, now),
                state.cur_epoch,
            )
            self.change_layout(now, state.batches_done)

    def start_epoch(self) -> None:
        """Forget the epoch before."""
        self.legs = ()

    def _start_again(self, state: TrainState, reason: str) -> None:
        self.start_epoch()
        if state.batches_done:
            logging.warning("%s: epoch %d starts from its beginning", reason, state.cur_epoch)
            state.batches_done = 0


def check_ranks_agree(world: World, course: Course, batches_done: int, plan: str) -> None:
    """Compare over all processes what they are about to do; all must call it.

    Args:
        world: this process and the others.
        course: where this process is.
        batches_done: steps of the epoch so far.
        plan: digest of the plan of what is left.

    Raises:
        DataError: a process would train on other batches than the first one expects.
    """
    mine = (course.to_dict(), batches_done, plan)
    first, *others = all_gather(mine, world)
    for rank, other in enumerate(others, start=1):
        if other == first:
            continue
        reason = "other flags, or another checkpoint"
        if first[0]["data"] and other[0]["data"]:
            data = DataIdentity.from_dict(first[0]["data"])
            found = data.differences(
                DataIdentity.from_dict(other[0]["data"]), ("in the first", "in the other")
            )
            reason = "; ".join(found) or reason
        raise DataError(
            f"processes 0 and {rank} do not plan the same batches: {reason}.",
            "give all processes the same flags, manifests and checkpoints",
        )


def _other_data(different: list[str]) -> CheckpointError:
    return CheckpointError(
        f"the run was begun with other training data: {'; '.join(different)}.",
        "give the manifests and filters of then, or --allow-data-change 1: the epoch in progress "
        "then starts from its beginning, with the data of now",
    )


def _change(before: BatchingConfig, now: BatchingConfig) -> str:
    """Name what is different between two layouts."""
    old, new = before.to_dict(), now.to_dict()
    old |= old.pop("budget")
    new |= new.pop("budget")
    names = [name for name in old if old[name] != new[name]]
    return ", ".join(f"{name} changed from {old[name]} to {new[name]}" for name in names)
