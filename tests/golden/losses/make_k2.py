"""Record what k2 1.23.2 computes: k2.npz and k2.json, golden data of the transducer losses.

Its wheel for the CPU needs Python 3.9 and torch 1.12.1, so this file runs apart from the project:

    python3.9 -m venv k2env
    k2env/bin/pip install torch==1.12.1 'numpy<2' graphviz
    k2env/bin/pip install --no-deps k2==1.23.2
    k2env/bin/python tests/golden/losses/make_k2.py

k2.json lists the batches and the runs. k2.npz holds the inputs, "<batch>.<name>", and the outputs
of all runs one after another in two long vectors, ``float64`` and ``float32``, named for the
precision in which k2 computed them. All inputs are multiples of 1/64 or 1/1024 below 8, hence the
same numbers in any precision, and in storage half precision or 16 bits.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import k2
import numpy as np
import torch
from torch import Tensor

HERE = Path(__file__).parent
TYPES = ("regular", "modified", "constrained")
# Exact in float32, in which k2 computes the penalty even for float64 arc weights.
DELAY_PENALTIES = (0.0, 0.125)
SCALES = ((0.25, 0.0), (0.1, 0.1))

# N, T, S, V, then (s_len, t_len) of each utterance: none for no boundary at all. Types with one
# symbol per frame get at most as many symbols as frames. "begin" moves the start of the lattice.
BATCHES: dict[str, dict[str, Any]] = {
    "whole": {"seed": 1, "sizes": (2, 7, 4, 6), "blank": 0},
    "ragged": {
        "seed": 2,
        "sizes": (5, 8, 5, 5),
        "blank": 4,
        "lens": [(5, 8), (0, 6), (1, 1), (3, 2), (2, 7)],
    },
    "begin": {
        "seed": 3,
        "sizes": (2, 7, 4, 5),
        "blank": 1,
        "lens": [(4, 7), (3, 6)],
        "begin": [(0, 2), (1, 0)],
    },
    "long": {"seed": 4, "sizes": (3, 28, 11, 4), "blank": 0, "lens": [(11, 28), (9, 25), (11, 21)]},
}
# Bands start at 0, so "begin" has none. The second width is that of the pruned loss.
# k2 1.23.2 does not widen a band that is too narrow for the symbols per frame, as we do.
WIDTHS = {"whole": (2, 3, 9), "ragged": (3, 4), "long": (2, 5)}


def main() -> None:
    """Write both files."""
    runs: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    outputs: dict[torch.dtype, list[np.ndarray]] = {torch.float64: [], torch.float32: []}
    for name, batch in BATCHES.items():
        inputs = make_inputs(**batch)
        arrays.update({f"{name}.{key}": compact(value) for key, value in inputs.items()})
        for settings in list_runs(name):
            run: dict[str, Any] = {"batch": name, **settings}
            for dtype, values in outputs.items():
                results = compute(inputs, batch["blank"], settings, dtype)
                run["outputs"] = {key: list(value.shape) for key, value in results.items()}
                values.extend(value.detach().numpy().ravel() for value in results.values())
            runs.append(run)
    arrays["float64"] = np.concatenate(outputs[torch.float64]).astype(np.float64)
    arrays["float32"] = np.concatenate(outputs[torch.float32]).astype(np.float32)
    np.savez_compressed(os.fspath(HERE / "k2.npz"), **arrays)
    lines = ",\n  ".join(json.dumps(run, separators=(",", ":")) for run in runs)
    blanks = json.dumps({name: batch["blank"] for name, batch in BATCHES.items()})
    (HERE / "k2.json").write_text(f'{{"blanks": {blanks},\n "runs": [\n  {lines}\n]}}\n')


def make_inputs(
    seed: int,
    sizes: tuple[int, int, int, int],
    blank: int,
    lens: list[tuple[int, int]] | None = None,
    begin: list[tuple[int, int]] | None = None,
) -> dict[str, Tensor]:
    """Draw logits, arc weights, labels and boundaries; occupations come from k2 itself."""
    draw = np.random.RandomState(seed)
    n, t, s, v = sizes

    def logits(*shape: int) -> Tensor:
        return torch.from_numpy((128 * draw.randn(*shape)).round().clip(-500, 500) / 64)

    inputs = {
        "am": logits(n, t, v),
        "lm": logits(n, s + 1, v),
        "logits": logits(n, t, s + 1, v),
        # Symbols may even be emitted on the frame past the last one, if their arcs are not closed.
        "px": logits(n, s, t + 1) - 2,
        "py": logits(n, s + 1, t) - 1,
        "symbols": torch.from_numpy((blank + draw.randint(1, v, (n, s))) % v),
    }
    for kind in ("regular", "other"):
        if lens is not None:
            first = torch.tensor(begin if begin is not None else [(0, 0)] * n)
            last = torch.tensor(lens)
            if kind == "other":
                last[:, 0] = torch.minimum(last[:, 0], last[:, 1])
            inputs[f"boundary_{kind}"] = torch.cat([first, last], 1)
        _, occupations = k2.rnnt_loss_simple(
            inputs["lm"],
            inputs["am"],
            inputs["symbols"],
            blank,
            boundary=inputs.get(f"boundary_{kind}"),
            rnnt_type="regular" if kind == "regular" else "modified",
            return_grad=True,
        )
        for key, value in zip(("px_grad", "py_grad"), occupations):  # noqa: B905 - Python 3.9
            inputs[f"{key}_{kind}"] = (1024 * value).round() / 1024
    return inputs


def compact(values: Tensor) -> np.ndarray:
    """Store in 16 bits, which must lose nothing."""
    dtype = np.float16 if values.is_floating_point() else np.int16
    stored = values.numpy().astype(dtype)
    assert (stored.astype(values.numpy().dtype) == values.numpy()).all()
    return stored


def list_runs(batch: str) -> list[dict[str, Any]]:
    """Return the settings of all runs on a batch; the long one has few."""
    runs: list[dict[str, Any]] = [{"function": "recursion", "rnnt_type": x} for x in TYPES[:2]]
    runs += [run for x in TYPES for penalty in DELAY_PENALTIES for run in loss_runs(x, penalty)]
    if batch not in WIDTHS:
        return [run for run in runs if run["function"] in ("recursion", "simple", "smoothed")]
    for run in runs:
        if run["function"] == "pruned":
            run["s_range"] = WIDTHS[batch][1]
    for width in WIDTHS[batch]:
        runs += [{"function": "ranges", "rnnt_type": x, "s_range": width} for x in TYPES[:2]]
    runs.append({"function": "pruning", "rnnt_type": "regular", "s_range": WIDTHS[batch][0]})
    if batch == "long":
        runs = [run for run in runs if run["function"] == "ranges" or is_usual(run)]
    return runs


def loss_runs(rnnt_type: str, delay_penalty: float) -> list[dict[str, Any]]:
    """Return one run of each loss; of the smoothed one several without a penalty."""
    runs: list[dict[str, Any]] = [{"function": name} for name in ("simple", "pruned", "full")]
    scales = SCALES[:1] if delay_penalty else SCALES
    runs += [{"function": "smoothed", "scales": pair} for pair in scales]
    return [{**run, "rnnt_type": rnnt_type, "delay_penalty": delay_penalty} for run in runs]


def is_usual(run: dict[str, Any]) -> bool:
    """Tell whether a run has the settings of training."""
    scales = run.get("scales", SCALES[0])
    usual = run.get("delay_penalty", 0.0) == 0.0 and scales == SCALES[0]
    functions = ("recursion", "smoothed", "pruned")
    return usual and run["function"] in functions and run["rnnt_type"] == "regular"


def compute(
    inputs: dict[str, Tensor], blank: int, run: dict[str, Any], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return the losses of the utterances, and the gradients of the sum of the losses."""
    tensors = {key: x.to(dtype) if x.is_floating_point() else x for key, x in inputs.items()}
    leaves: dict[str, Tensor] = {}

    def leaf(key: str, value: Tensor | None = None) -> Tensor:
        leaves[key] = (tensors[key] if value is None else value).detach().clone().requires_grad_()
        return leaves[key]

    results = FUNCTIONS[run["function"]](tensors, leaf, blank, run)
    if leaves:
        first = next(iter(results.values()))
        first.sum().backward()
        results.update({f"grad_{key}": leaf.grad for key, leaf in leaves.items()})
    return results


def recursion(x: dict[str, Tensor], _: Any, __: int, run: dict[str, Any]) -> dict[str, Tensor]:
    """Scores and occupations, which are the gradients as well."""
    px = x["px"] if run["rnnt_type"] == "regular" else x["px"][:, :, :-1]
    scores, (px_grad, py_grad) = k2.mutual_information_recursion(
        px, x["py"], boundary_of(x, run), return_grad=True
    )
    return {"scores": scores, "px_grad": px_grad, "py_grad": py_grad}


def simple(x: dict[str, Tensor], leaf: Any, blank: int, run: dict[str, Any]) -> dict[str, Tensor]:
    """Simple or smoothed loss, occupations and gradients."""
    function, scales = k2.rnnt_loss_simple, {}
    if run["function"] == "smoothed":
        function = k2.rnnt_loss_smoothed
        scales = {"lm_only_scale": run["scales"][0], "am_only_scale": run["scales"][1]}
    loss, (px_grad, py_grad) = function(
        leaf("lm"), leaf("am"), x["symbols"], blank, **scales, **options(x, run), return_grad=True
    )
    return {"loss": loss, "px_grad": px_grad, "py_grad": py_grad}


def ranges(x: dict[str, Tensor], _: Any, __: int, run: dict[str, Any]) -> dict[str, Tensor]:
    """Bands from the stored occupations."""
    kind = "regular" if run["rnnt_type"] == "regular" else "other"
    boundary = boundary_of(x, run)
    if boundary is None:  # these functions of k2 want one
        n, s, t = x["py_grad_regular"].shape
        boundary = torch.tensor([[0, 0, s - 1, t]] * n)
    # A band wider than the lattice is as wide as the lattice.
    result = k2.get_rnnt_prune_ranges(
        x[f"px_grad_{kind}"], x[f"py_grad_{kind}"], boundary, run["s_range"]
    )
    return {"ranges": result}


def pruning(x: dict[str, Tensor], leaf: Any, _: int, run: dict[str, Any]) -> dict[str, Tensor]:
    """Rows of both sides on a band, weighted with the logits there and added up."""
    band = ranges(x, leaf, 0, run)["ranges"]
    am, lm = k2.do_rnnt_pruning(leaf("am"), leaf("lm"), band)
    weights = on_band(x["logits"], band)
    return {"loss": (weights * am + 2 * weights * lm).sum((1, 2, 3))}


def pruned(x: dict[str, Tensor], leaf: Any, blank: int, run: dict[str, Any]) -> dict[str, Tensor]:
    """Pruned loss of the full logits on the band of the stored occupations."""
    band = ranges(x, leaf, 0, run)["ranges"]
    logits = leaf("logits", on_band(x["logits"], band))
    return {"loss": k2.rnnt_loss_pruned(logits, x["symbols"], band, blank, **options(x, run))}


def full(x: dict[str, Tensor], leaf: Any, blank: int, run: dict[str, Any]) -> dict[str, Tensor]:
    """Loss of the full logits."""
    return {"loss": k2.rnnt_loss(leaf("logits"), x["symbols"], blank, **options(x, run))}


def on_band(logits: Tensor, band: Tensor) -> Tensor:
    """Take the (N, T, R, V) logits of a band from (N, T, S + 1, V)."""
    return logits.gather(2, band[..., None].expand(-1, -1, -1, logits.shape[3]))


def boundary_of(x: dict[str, Tensor], run: dict[str, Any]) -> Tensor | None:
    """Return the boundary for the type of a run, if the batch has one."""
    return x.get("boundary_regular" if run["rnnt_type"] == "regular" else "boundary_other")


def options(x: dict[str, Tensor], run: dict[str, Any]) -> dict[str, Any]:
    """Return what all losses take."""
    return {
        "boundary": boundary_of(x, run),
        "rnnt_type": run["rnnt_type"],
        "delay_penalty": run["delay_penalty"],
        "reduction": "none",
    }


FUNCTIONS = {
    "recursion": recursion,
    "simple": simple,
    "smoothed": simple,
    "ranges": ranges,
    "pruning": pruning,
    "pruned": pruned,
    "full": full,
}

if __name__ == "__main__":
    main()
