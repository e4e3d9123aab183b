"""The meaning of the losses, by enumeration of all paths, and the stored numbers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parents[1] / "golden" / "losses"
TYPES = ("regular", "modified", "constrained")
Arc = tuple[str, int, int]


def paths(num_symbols: int, num_frames: int, regular: bool) -> Iterator[list[Arc]]:
    """All paths from (0, 0) to (num_symbols, num_frames), as arcs (kind, s, t)."""

    def walk(s: int, t: int) -> Iterator[list[Arc]]:
        if (s, t) == (num_symbols, num_frames):
            yield []
        if t == num_frames:
            return
        for rest in walk(s, t + 1):
            yield [("blank", s, t), *rest]
        if s < num_symbols:
            for rest in walk(s + 1, t if regular else t + 1):
                yield [("symbol", s, t), *rest]

    return walk(0, 0)


def enumerated_loss(
    log_prob: Callable[[int, int, int], Tensor | None],
    symbols: list[int],
    num_frames: int,
    blank: int,
    rnnt_type: str,
    delay_penalty: float = 0.0,
) -> Tensor:
    """Minus the log of the summed probability of all paths.

    Args:
        log_prob: log-probability of symbol v at (s, t); none where the band has no such cell.
    """

    def weight(arc: Arc) -> Tensor | None:
        kind, s, t = arc
        if kind == "blank":
            return log_prob(s, t, blank)
        result = log_prob(s, t, symbols[s])
        if result is not None and rnnt_type == "constrained":
            forced = log_prob(s + 1, t, blank)
            result = None if forced is None else result + forced
        bonus = delay_penalty * ((num_frames - 1) / 2 - t)
        return None if result is None else result + bonus

    totals = []
    for path in paths(len(symbols), num_frames, rnnt_type == "regular"):
        weights = [weight(arc) for arc in path]
        if all(w is not None for w in weights):
            totals.append(torch.stack(weights).sum())  # type: ignore[arg-type]
    return -torch.stack(totals).logsumexp(0) if totals else torch.tensor(torch.inf)


def band_loss(
    logits: Tensor, symbols: Tensor, starts: list[int], blank: int, rnnt_type: str, **kwargs: Any
) -> Tensor:
    """``enumerated_loss`` of one utterance from (T, R, V) logits on a band."""
    log_probs = logits.log_softmax(2)

    def log_prob(s: int, t: int, v: int) -> Tensor | None:
        lane = s - starts[t]
        return log_probs[t, lane, v] if 0 <= lane < logits.shape[1] else None

    return enumerated_loss(log_prob, symbols.tolist(), logits.shape[0], blank, rnnt_type, **kwargs)


class Golden:
    """One file of stored arrays, as tensors: floats in ``dtype``, integers in int64."""

    def __init__(self, name: str, dtype: torch.dtype = torch.float64) -> None:
        self.arrays = np.load(GOLDEN / f"{name}.npz")
        self.info: dict[str, Any] = json.loads((GOLDEN / "index.json").read_text())[name]
        self.dtype = dtype

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def __getitem__(self, key: str) -> Tensor:
        values = torch.from_numpy(self.arrays[key])
        return values.to(self.dtype) if values.is_floating_point() else values.long()

    def of_run(self, run: int, key: str) -> Tensor:
        """The array of a run, of the run that has its inputs, or of the file."""
        source = self.info["runs"][run].get("inputs_of", run)
        names = (f"{run}.{key}", f"{source}.{key}", key)
        return self[next(name for name in names if name in self)]

    def boundary(self) -> Tensor | None:
        has_one = "boundary" in self
        return self["boundary"] if has_one else None


class Batch:
    """A random batch in float64: logits of both sides, labels, and a ragged boundary."""

    def __init__(
        self,
        seed: int = 0,
        sizes: tuple[int, int, int] = (3, 6, 4),
        vocab: int = 5,
        rnnt_type: str = "regular",
    ) -> None:
        g = torch.Generator().manual_seed(seed)
        self.n, self.t, self.s = sizes
        if rnnt_type != "regular":
            self.s = min(self.s, self.t)
        self.v = vocab
        self.generator = g
        self.am = self.randn(self.n, self.t, vocab)
        self.lm = self.randn(self.n, self.s + 1, vocab)
        self.symbols = torch.randint(1, vocab, (self.n, self.s), generator=g)
        t_lens = torch.randint(1, self.t + 1, (self.n,), generator=g)
        s_lens = torch.randint(0, self.s + 1, (self.n,), generator=g)
        if rnnt_type != "regular":
            s_lens = torch.minimum(s_lens, t_lens)
        s_lens[0], t_lens[0] = self.s, self.t
        self.boundary = torch.stack([s_lens * 0, s_lens * 0, s_lens, t_lens], 1)

    def randn(self, *shape: int) -> Tensor:
        return 2 * torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def arcs(self, regular: bool) -> tuple[Tensor, Tensor]:
        """Random arc weights px, py; the last column of a regular px is closed."""
        px = self.randn(self.n, self.s, self.t + 1 if regular else self.t)
        if regular:
            px[:, :, -1] = -torch.inf
        return px, self.randn(self.n, self.s + 1, self.t)
