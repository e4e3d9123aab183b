"""Non-finite updates: skipped, recorded, rolled back; the first module concerned."""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from zipasr.audio.quarantine import FILE_NAME
from zipasr.base.errors import NumericError, ResourceError
from zipasr.base.files import write_text
from zipasr.checkpoint.checkpoint_file import save_checkpoint
from zipasr.data.dataset import Batch
from zipasr.training.session import Session
from zipasr.training.update import Gradients

logger = logging.getLogger(__name__)


def first_non_finite(model: nn.Module, run: Callable[[], None]) -> str | None:
    """Run forward and backward and name what was not finite first.

    Args:
        model: its modules are watched while ``run`` calls it.
        run: computes a loss with the model and its gradients.

    Returns:
        A parameter that is not finite already, else the first module whose output is not, else
        the first whose gradient is not; ``None`` if all were finite.
    """
    for name, parameter in model.named_parameters():
        if not _is_finite(parameter):
            return f"parameter {name}"
    found: list[str] = []
    handles = watch_modules(model, found.append)
    try:
        with warnings.catch_warnings():
            # Features need no gradients: torch says so of the first module.
            warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
            run()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def warn_of_non_finite(model: nn.Module) -> list[RemovableHandle]:
    """Log a warning whenever an output or a gradient is not finite (``--inf-check``)."""
    return watch_modules(model, lambda what: logger.warning("not finite: %s", what))


def watch_modules(model: nn.Module, report: Callable[[str], None]) -> list[RemovableHandle]:
    """Call ``report`` with each output and gradient of a module or parameter that is not finite."""

    def check(what: str, values: Any) -> None:
        if not all(_is_finite(x) for x in _tensors(values)):
            report(what)

    handles = []
    for path, module in model.named_modules():
        name = f"{path or 'the model'} ({type(module).__name__})"
        forward = _checks_last(check, f"output of {name}")
        backward = _checks_last(check, f"gradient of the output of {name}")
        handles.append(module.register_forward_hook(forward))
        handles.append(module.register_full_backward_hook(backward))
    for path, parameter in model.named_parameters():
        hook = _checks_last(check, f"gradient of parameter {path}")
        handles.append(parameter.register_hook(hook))  # type: ignore[no-untyped-call]
    return handles


def _checks_last(check: Callable[[str, Any], None], what: str) -> Callable[..., None]:
    """Make a hook of any kind: all of them are given the values that count as last argument."""

    def hook(*arguments: Any) -> None:
        check(what, arguments[-1])

    return hook


def _is_finite(x: Tensor) -> bool:
    return bool(torch.isfinite(x.detach().float().sum()))


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)


MAX_IN_A_ROW = 3  # skipped updates
MAX_SHARE = 0.01  # of skipped updates, smoothed over the last ones
SMOOTHED_OVER = 500  # updates
MAX_ROLLBACKS = 3
LR_FACTOR = 0.7  # on the learning rate, each time


class RollBack(Exception):  # noqa: N818 - a request, not an error
    """Request to go back to the last good checkpoint with a lower learning rate."""

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.batch = batch


class NonFiniteGuard:
    """Count non-finite updates of one process, and decide when to go back.

    An update is left out, in all processes alike, when the loss of a part is not finite, or when
    the gradient is not (the optimizer sees that). The process that caused it writes down the cuts
    of the part; where the losses are finite and the gradient is not, each writes down its cuts.

    When the gradient scale of float16 is small for the first time in an epoch, the model is kept
    and watched from there on, as with --inf-check.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known = session.optimizer.num_skipped
        self._handles: list[RemovableHandle] | None = None

    def check(self, gradients: Gradients) -> None:
        """Check the update that was just made or skipped.

        Raises:
            RollBack: too many updates were left out, in a row or of the last ones.
        """
        if self._session.precision.is_scale_small and self._handles is None:
            save_bad_model(self._session, "bad-model-first-warning")
            is_watched = self._session.configs.train.inf_check
            self._handles = [] if is_watched else warn_of_non_finite(self._session.model)
        loss = gradients.metrics.per_frame().get("loss", math.nan)
        self._session.last_losses.append(loss)
        skipped_by_optimizer = self._session.optimizer.num_skipped > self._known
        self._known = self._session.optimizer.num_skipped
        bad = [part for part in gradients.parts if not part.is_finite]
        for part in bad:
            self._write_down(part.metrics.sums["loss"], part.batch)
        if skipped_by_optimizer and gradients.not_finite == 0:
            for part in gradients.parts:
                self._write_down(part.metrics.sums["loss"], part.batch)
        state = self._session.state
        skipped = skipped_by_optimizer or gradients.not_finite > 0
        state.skipped_share += (skipped - state.skipped_share) / SMOOTHED_OVER
        if not skipped:
            state.skipped_in_a_row = 0
            return
        state.skipped_steps += 1
        state.skipped_in_a_row += 1
        if state.skipped_in_a_row >= MAX_IN_A_ROW or state.skipped_share > MAX_SHARE:
            raise RollBack((bad or gradients.parts)[0].batch)

    def close(self) -> None:
        """Stop watching the model: the epoch is over."""
        for handle in self._handles or ():
            handle.remove()

    def _write_down(self, loss: float, batch: Batch) -> None:
        state, world = self._session.state, self._session.world
        entry = {
            "epoch": state.cur_epoch,
            "batch": state.batch_idx_train,
            "loss": str(loss),
            "cuts": batch.cut_ids,
        }
        path = self._session.configs.train.exp_dir / f"not-finite-{world.rank}.jsonl"
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        logger.warning(
            "the loss is %s%s; update skipped; cuts, also in %s: %s",
            loss,
            ", its gradient is not finite" if math.isfinite(loss) else "",
            path.name,
            " ".join(batch.cut_ids),
        )


def save_bad_model(session: Session, name: str) -> None:
    """Write the parameters as they are to ``{name}-{rank}.pt``, to be looked at later."""
    train, rank = session.configs.train, session.world.rank
    content = {
        "model": session.model.state_dict(),
        "batch_idx_train": session.state.batch_idx_train,
        "grad_scaler": session.precision.scaler.state_dict(),
    }
    try:
        save_checkpoint(train.exp_dir / f"{name}-{rank}.pt", content)
    except ResourceError as problem:
        logger.warning("%s", problem)


def lower_learning_rate(session: Session, rollbacks: int) -> None:
    """Make the session that goes on after a roll-back take smaller steps."""
    state = session.state
    state.rollbacks, state.skipped_in_a_row, state.skipped_share = rollbacks, 0, 0.0
    state.lr_factor = LR_FACTOR**rollbacks
    logger.warning(
        "too many updates were not finite: going back to batch %d, learning rate times %g",
        state.batch_idx_train,
        state.lr_factor,
    )


def final_error(session: Session, culprit: str | None) -> NumericError:
    """Write a page on what happened and return the error that names it."""
    exp_dir, state = session.configs.train.exp_dir, session.state
    base = session.configs.eden.base_lr
    page = exp_dir / "not-finite.md"
    if session.world.is_main:
        write_text(page, _report_page(session, culprit))
    return NumericError(
        f"the loss stays not finite: {state.skipped_steps} updates were skipped and going back "
        f"{MAX_ROLLBACKS} times did not help; see {page}.",
        f"--base-lr {LR_FACTOR * base:.2g} in place of {base:g}; the page has two more ways.",
    )


def _fixes(session: Session) -> list[str]:
    """Return what to try, with values, in this order."""
    configs, data = session.configs, session.configs.data
    base = configs.eden.base_lr
    in_float = "--inf-check 1 names every module concerned (this is float32 already)"
    precision = {
        torch.float16: "--use-fp16 0 --use-bf16 1 has the range of float32",
        torch.bfloat16: "--use-bf16 0 is more exact, in float32",
    }
    cuts = len(bad_cuts(configs.train.exp_dir))
    return [
        f"--base-lr {LR_FACTOR * base:.2g} in place of {base:g}",
        precision.get(session.precision.dtype, in_float),
        f"listen to the {cuts} cuts of not-finite-*.jsonl, put bad ones into "
        f"{data.manifest_dir / FILE_NAME}, and add --allow-data-change 1",
    ]


def bad_cuts(exp_dir: Path) -> list[str]:
    """Return the ids of the cuts in batches of a run that were not finite, each once."""
    found: dict[str, None] = {}
    for path in sorted(exp_dir.glob("not-finite-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):  # half a line of a process that was killed
                found |= dict.fromkeys(json.loads(line)["cuts"])
    return [*found]


def _report_page(session: Session, culprit: str | None) -> str:
    state, base = session.state, session.configs.eden.base_lr
    rate = max(group["lr"] for group in session.optimizer.param_groups)
    scaler = session.precision.scaler
    scale = f", gradient scale {scaler.get_scale():.1e}" if scaler.is_enabled() else ""
    lines = [
        "# Training stopped: the loss is not finite",
        "",
        f"- Epoch {state.cur_epoch}, batch {state.batch_idx_train}; "
        f"{state.skipped_steps} updates skipped, {MAX_ROLLBACKS} times back to what was saved.",
        f"- Last losses: {' '.join(f'{loss:.2g}' for loss in session.last_losses)}.",
        f"- Learning rate: {rate:.2g} in the last update; --base-lr {base:g}, lowered to "
        f"{base * LR_FACTOR**MAX_ROLLBACKS:g} by going back.",
        f"- Precision: {str(session.precision.dtype).removeprefix('torch.')}{scale}.",
        f"- First module that was not finite: {culprit or 'none when asked again'}.",
        "- The cuts of these batches, one line each: `not-finite-*.jsonl` beside this page.",
        "",
        "What to try, in this order:",
        "",
        *(f"{number}. {fix}" for number, fix in enumerate(_fixes(session), start=1)),
        "",
    ]
    return "\n".join(lines)
