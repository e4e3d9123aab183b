"""What ``benchmarks.gpu`` checks, times and counts, each part in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import peer_server, transducer_loss
from benchmarks.decoding import FRAMES_PER_SECOND
from benchmarks.device_decoding import Bench, Case, cases
from benchmarks.noise_corpus import make_corpus
from benchmarks.optimizer import small_model_parameters
from benchmarks.training_step import Step
from zipasr.data.config import AugmentConfig, DataConfig
from zipasr.data.dataset import Batch
from zipasr.data.loaders import EpochPosition, batching_of, train_loader
from zipasr.encoder import triton_attention
from zipasr.encoder.protocol import EncoderConfig
from zipasr.encoder.zapformer.config import ZapformerConfig
from zipasr.encoder.zipformer.config import PresetName, ZipformerConfig
from zipasr.kernels import elementwise
from zipasr.losses import ctc, triton_backend
from zipasr.nn import triton_bias_norm
from zipasr.optim import compiled_update
from zipasr.optim.rubik import BatchedRubik
from zipasr.optim.scaled_adam import ScaledAdam
from zipasr.search import triton_steps
from zipasr.search.protocol import Utterance

#: Runs before one is timed or counted: tables are made, kernels compiled, graphs recorded.
WARM_UP = 3
TIMED = 10


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part runs: a device of torch, and whether everything is small."""

    device: str
    tiny: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Something to do on a device.

    Attributes:
        name: in the table.
        run: does it once; what is timed and counted. None: values alone are checked.
        difference: from what the CPU finds.
        tolerance: the largest difference that counts as the same.
        speech: seconds of speech that a run takes in.
        cost: bytes and operations, where they are known without counting.
    """

    name: str
    run: Callable[[], object] | None
    difference: Callable[[], float]
    tolerance: float
    speech: float = 0.0
    cost: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What became of a work; ``error`` says in a line why there is nothing."""

    name: str
    difference: float = 0.0
    tolerance: float = 0.0
    milliseconds: float = 0.0
    speech: float = 0.0
    cost: tuple[float, float] | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Counted:
    """What a run of a work launches, moves and multiplies."""

    name: str
    launches: int
    cost: tuple[float, float]


Works = Callable[[Place], Iterator[Work]]


def measure(works: Works, place: Place, answers: Connection) -> None:
    """Send a ``Measured`` for each work, as soon as it is there."""
    for work in works(place):
        try:
            found = Measured(
                name=work.name,
                difference=work.difference(),
                tolerance=work.tolerance,
                milliseconds=0.0 if work.run is None else _milliseconds(work.run, place),
                speech=work.speech,
                cost=work.cost,
            )
        except Exception as error:
            traceback.print_exc()
            said = (str(error).strip().splitlines() or [""])[0]
            found = Measured(name=work.name, error=f"{type(error).__name__}: {said}")
        answers.send(found)


def count(works: Works, place: Place, answers: Connection) -> None:
    """Send a ``Counted`` for each work that can be counted on a pretended device."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from torch.utils.flop_counter import FlopCounterMode

    from tests.pretended_cuda.device import install
    from tests.pretended_cuda.kernels import use_kernels
    from tests.pretended_cuda.record import recorded

    # What a search does depends on what it has found; the losses check the lengths they are given.
    install(values=works in (searches, loss))
    use_kernels()
    for work in works(replace(place, device="cuda")):
        if work.run is None:
            continue
        for _ in range(1 if place.tiny else WARM_UP):
            work.run()
        with recorded() as record, FlopCounterMode(display=False) as flops:
            work.run()
        total = record.total
        cost = (float(total.moved), float(flops.get_total_flops()))
        answers.send(Counted(work.name, total.launches, cost))


def _milliseconds(run: Callable[[], object], place: Place) -> float:
    """Return the least time of several runs."""
    times = []
    for number in range(2 if place.tiny else WARM_UP + TIMED):
        begun = time.perf_counter()
        run()
        if place.device == "cuda":
            torch.cuda.synchronize()
        if number > 0 and (place.tiny or number >= WARM_UP):
            times.append(time.perf_counter() - begun)
    return 1e3 * min(times)


def device(place: Place) -> Iterator[Work]:
    """Yield what memory and multipliers reach: one copy, one product of matrices."""
    side = 256 if place.tiny else 8192
    size = side * side
    source = torch.arange(size, dtype=torch.float32).to(place.device)
    target = torch.zeros_like(source)

    def copy_difference() -> float:
        target.copy_(source)
        return float((target.cpu() - torch.arange(size, dtype=torch.float32)).abs().max())

    yield Work(
        name="copy",
        run=lambda: target.copy_(source),
        difference=copy_difference,
        tolerance=0.0,
        cost=(8.0 * size, 0.0),
    )
    generator = torch.Generator().manual_seed(0)
    host = torch.randint(-2, 3, (side, side), generator=generator).to(_half(place))
    one = host.to(place.device)

    def product_difference() -> float:
        # Sums of small whole numbers, which every order of summation gives alike.
        some = host[:64].double() @ host[:, :64].double()
        return float(((one[:64] @ one[:, :64]).cpu() - some.to(host.dtype)).abs().max())

    yield Work(
        name="product of matrices",
        run=lambda: one @ one,
        difference=product_difference,
        tolerance=0.0,
        cost=(3.0 * size * one.element_size(), 2.0 * side**3),
    )


def _half(place: Place) -> torch.dtype:
    return torch.float32 if place.device == "cpu" else torch.bfloat16


def kernels(place: Place) -> Iterator[Work]:
    """Yield the checks of the library's kernels against their definitions."""
    losses = (triton_backend, ctc)
    modules = (*losses, compiled_update, triton_steps, triton_bias_norm, triton_attention)
    checks: dict[str, Callable[[torch.device], str | None]]
    checks = {elementwise.__name__: elementwise.self_check}
    checks |= {module.__name__: module.KERNELS.fault for module in modules}
    for module, check in checks.items():
        where = partial(_refuse, check, torch.device(place.device, 0))
        name = module.removeprefix("zipasr.")
        yield Work(name=f"kernels of {name}", run=None, difference=where, tolerance=0.0)


def _refuse(check: Callable[[torch.device], str | None], where: torch.device) -> float:
    problem = check(where)
    if problem is not None:
        raise RuntimeError(problem)
    return 0.0


def device_tests(_place: Place) -> Iterator[Work]:
    """Yield the tests that need a GPU; their failures are what differs."""

    def failures() -> float:
        command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda"]
        folders = [f"tests/{name}" for name in ("losses", "optim", "nn", "search", "encoder")]
        return float(subprocess.run([*command, *folders], check=False).returncode)

    yield Work(name="tests that need a GPU", run=None, difference=failures, tolerance=0.0)


def steps(encoder: EncoderConfig, name: str, place: Place) -> Iterator[Work]:
    """Yield a training step in bfloat16; values are those in float32."""
    rows, frames = (2, 120) if place.tiny else (100, 1000)
    step = Step(encoder, rows, frames, late=True, device=place.device)

    def difference() -> float:
        shape = (2, 120 if place.tiny else 300)
        (sums, grads), (wanted_sums, wanted_grads) = (
            Step(encoder, *shape, late=True, device=where).gradients()
            for where in (place.device, "cpu")
        )
        losses = max(abs(sums[key] / value - 1) for key, value in wanted_sums.items())
        return max(losses, float((grads - wanted_grads).norm() / wanted_grads.norm()))

    yield Work(
        name=f"step, {name}",
        run=step.run,
        difference=difference,
        tolerance=2e-3,
        speech=step.seconds,
    )


def loss(place: Place) -> Iterator[Work]:
    """Yield the losses of a transducer from the encoder's output on, with all gradients."""
    size = peer_server.Size(2, 20, 5) if place.tiny else peer_server.SIZES["C"]
    inputs = peer_server.Inputs(size, place.device)
    run = transducer_loss.make_run("ours", "step", inputs)

    def difference() -> float:
        plain = transducer_loss.make_run("torch", "step", peer_server.Inputs(size, "cpu"))
        wanted = float(plain())
        return abs(float(run()) / wanted - 1)

    yield Work(name="transducer loss", run=run, difference=difference, tolerance=1e-4)


Optimizer = ScaledAdam | BatchedRubik


def optimizers(place: Place) -> Iterator[Work]:
    """Yield steps of the optimizers on the parameters of the small model."""
    # Rubik multiplies in bfloat16 where a GPU has it: its steps are those of other roundings.
    makers = (("ScaledAdam", _scaled_adam, 1e-4), ("BatchedRubik", _rubik, 0.1))
    for name, make, tolerance in makers:
        params = _parameters(place)
        yield Work(
            name=name,
            run=make(params, plain=False).step,
            difference=partial(_difference_of_moves, make, place),
            tolerance=tolerance,
        )


def _parameters(place: Place) -> list[torch.nn.Parameter]:
    every = small_model_parameters(torch.device(place.device))
    return every[:40] if place.tiny else every


def _scaled_adam(params: list[torch.nn.Parameter], *, plain: bool) -> Optimizer:
    return ScaledAdam(params, lr=0.045, clipping_scale=2.0, backend="torch" if plain else "auto")


def _rubik(params: list[torch.nn.Parameter], *, plain: bool) -> Optimizer:
    return BatchedRubik(params, lr=0.02, work_dtype=torch.float32 if plain else None)


def _difference_of_moves(make: Callable[..., Optimizer], place: Place) -> float:
    found, wanted = (
        _moved_by(make, where, plain=plain)
        for where, plain in ((place, False), (replace(place, device="cpu"), True))
    )
    return float((found - wanted).norm() / wanted.norm())


def _moved_by(make: Callable[..., Optimizer], place: Place, *, plain: bool) -> Tensor:
    params = _parameters(place)
    before = [p.detach().cpu().clone() for p in params]
    optimizer = make(params, plain=plain)
    for _ in range(4):
        optimizer.step()
    pairs = zip(params, before, strict=True)
    return torch.cat([(p.detach().cpu() - old).flatten() for p, old in pairs])


def searches(place: Place) -> Iterator[Work]:
    """Yield the searches; what differs is the share of utterances with other tokens."""
    rows, frames = (3, 12) if place.tiny else (128, 250)
    here, there = Bench(rows, frames, place.device), Bench(rows, frames, "cpu")
    for case in cases(""):
        if place.tiny and ", " in case.name:  # with hot-words or a language model
            continue
        search = here.search(case)
        yield Work(
            name=case.name,
            run=partial(here.run, search),
            difference=partial(_share_of_others, partial(here.run, search), there, case),
            tolerance=0.02,  # two hypotheses may be equal up to rounding
            speech=int(here.lens.sum()) / FRAMES_PER_SECOND,
        )


def _share_of_others(run: Callable[[], list[Utterance]], there: Bench, case: Case) -> float:
    # As it is, recorded as a CUDA graph, and replayed.
    found = [run() for _ in range(WARM_UP)][-1]
    wanted = there.run(there.search(case))
    same = [one.tokens == two.tokens for one, two in zip(found, wanted, strict=True)]
    return 1 - sum(same) / len(same)


def loading(place: Place) -> Iterator[Work]:
    """Yield an epoch of stored features, read in all cores but one, masked on the device."""
    with tempfile.TemporaryDirectory() as folder:
        cuts = make_corpus(Path(folder), *((6, 2.0) if place.tiny else (300, 12.0)))
        workers = 1 if place.tiny else max(1, (os.cpu_count() or 1) - 1)
        data = DataConfig(max_duration=6 if place.tiny else 600, num_workers=workers)
        where = EpochPosition(layout=batching_of(data, 1), seed=1, epoch=1)
        loader = train_loader(cuts, data, AugmentConfig(enable_musan=False), where, late=True)
        yield Work(
            name=f"loading, {workers} workers",
            run=lambda: [batch.to(place.device) for batch in loader],
            difference=lambda: max(_difference_of_masks(batch, place.device) for batch in loader),
            tolerance=1e-3,
            speech=sum(batch.seconds for batch in loader),
        )


def _difference_of_masks(batch: Batch, device: str) -> float:
    found, wanted = (batch.to(where).features.cpu() for where in (device, "cpu"))
    return float((found - wanted).abs().max())


TINY = ZipformerConfig(
    downsampling_factor=(1, 2),
    encoder_dim=(16, 24),
    num_encoder_layers=(1, 1),
    encoder_unmasked_dim=(16, 16),
    num_heads=(2, 2),
    feedforward_dim=(32, 32),
    query_head_dim=(8, 8),
    value_head_dim=(6, 6),
    pos_head_dim=(4, 4),
    cnn_module_kernel=(7, 7),
)


def zipformer(preset: PresetName, place: Place) -> Iterator[Work]:
    """Yield the step of a Zipformer."""
    encoder = TINY if place.tiny else ZipformerConfig.from_preset(preset)
    return steps(encoder, preset, place)


def zapformer(place: Place) -> Iterator[Work]:
    """Yield the step of the Zapformer of the size that is most like the medium Zipformer."""
    encoder = ZapformerConfig.from_preset("base-32")
    if place.tiny:
        encoder = replace(encoder, base_dim=8, num_encoder_layers=(1,))
    return steps(encoder, "Zapformer", place)
