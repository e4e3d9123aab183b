"""Going on with a run that icefall began, from the entries that its checkpoints have."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.plain_scaled_adam import PERIOD, PlainScaledAdam
from tests.captured_output import Call
from tests.training.short import new_session, train
from tests.training.test_resume_checks import SAME_SHAPES
from tests.training.test_update import a_batch, steady
from zipasr.base.config import shown
from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.cli import average, decode
from zipasr.cli import train as train_command
from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.training.icefall_state import settings_of_reference
from zipasr.training.loop import StopRequest, train_one_epoch
from zipasr.training.session import Session
from zipasr.training.update import compute_gradients
from zipasr.training.worker import choose_checkpoint, restore

NUM_NORMS = 100
LENGTHS = (1.6, 1.4, 1.0)
# Beside tensors and counters, what makes an entry of a file from a flag or a constant.
FLAGS = {
    "exp_dir": Path("zipformer/exp"),
    "dtype": torch.float32,
    "use_autocast": False,
    "use_bf16": False,
    "world_size": 1,
    "env_info": {"torch-version": "2.1.0", "hostname": "somewhere"},
    "use_transducer": True,
    "use_ctc": True,
    "num_heads": "2",
    "query_head_dim": "8",
    "value_head_dim": "8",
    "pos_head_dim": "4",
    "encoder_dim": "32,40",
    "encoder_unmasked_dim": "24,32",
    "chunk_size": "16,32,64,-1",
    "causal": False,
    "blank_id": 0,
}
# Of lhotse's sampler, as icefall saves it.
SAMPLER = {
    "epoch": 0,
    "drop_last": True,
    "world_size": 1,
    "rank": 0,
    "seed": 0,
    "shuffle": True,
    "diagnostics": {"current_epoch": 0, "stats_per_epoch": {0: {"epoch": 0, "kept_cuts": 10}}},
    "max_duration": 25.0,
    "max_cuts": None,
    "buffer_size": 20000,
}
OPTIONS = {
    "clipping_scale": 2.0,
    "betas": (0.9, 0.98),
    "scalar_lr_scale": 0.1,
    "eps": 1e-8,
    "param_min_rms": 1e-5,
    "param_max_rms": 3.0,
    "scalar_max": 10.0,
    "size_update_period": 4,
    "clipping_update_period": NUM_NORMS,
}


@dataclass
class PlainLoop:
    """icefall's loop, one formula after another; only model and losses are those of a session."""

    session: Session
    max_duration: float
    ref_duration: float
    period: int = 2
    batch: int = 0
    average: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.params = dict(self.session.model.named_parameters())
        self.adam = PlainScaledAdam([*self.params.values()], 0.0, OPTIONS["clipping_scale"])
        self.average = {n: t.clone() for n, t in self.session.model.state_dict().items()}

    def lr(self, epoch: int) -> float:
        """Eden with the flags of the recipe ``tones``."""
        falls = ((self.batch**2 + 100**2) / 100**2) ** -0.25
        falls *= (((epoch - 1) ** 2 + 3.5**2) / 3.5**2) ** -0.25
        return float(0.045 * falls * (1.0 if self.batch >= 5 else 0.1 + 0.9 * self.batch / 5))

    def update(self, epoch: int) -> None:
        self.batch += 1
        self.session.state.batch_idx_train = self.batch
        compute_gradients(self.session, [batch_of(self.batch)])
        self.adam.lr = self.lr(epoch)
        self.adam.step()
        if self.batch % self.period == 0:
            share = self.period / self.batch
            for name, value in self.session.model.state_dict().items():
                self.average[name] = self.average[name] * (1 - share) + value * share

    def names(self) -> list[str]:
        """The weights in another order of modules than ours."""
        names = [*self.session.model.state_dict()]
        tops = [*dict.fromkeys(name.split(".")[0] for name in names)]
        return [n for top in reversed(tops) for n in names if n.split(".")[0] == top]

    def checkpoint(self, epoch: int) -> dict[str, Any]:
        model = self.session.model.state_dict()
        return {
            "model": {name: model[name] for name in self.names()},
            "model_avg": {name: self.average[name].float() for name in self.names()},
            "optimizer": self.optimizer(epoch),
            "scheduler": {"epoch": epoch - 1, "batch": self.batch},
            "grad_scaler": {},
            "sampler": SAMPLER,
            "batch_idx_train": self.batch,
            "cur_epoch": epoch,
            "best_train_loss": 0.25,
            "best_valid_loss": float("inf"),
            "best_train_epoch": 1,
            "best_valid_epoch": -1,
            "average_period": self.period,
            "max_duration": self.max_duration,
            "ref_duration": self.ref_duration,
            "base_lr": 0.045,
            **FLAGS,
        }

    def optimizer(self, epoch: int) -> dict[str, Any]:
        """Entries under the first parameter of each shape; names are nowhere."""
        names = [name for name in self.names() if name in self.params]
        moments = dict(zip(self.params, self.adam.state, strict=True))
        buckets: dict[tuple[Any, ...], list[int]] = {}
        for index, name in enumerate(names):
            param = self.params[name]
            buckets.setdefault((str(param.dtype), *param.shape), []).append(index)
        state: dict[int, dict[str, Any]] = {}
        for key in sorted(buckets):
            inside = [moments[names[index]] for index in buckets[key]]
            entry = {
                "step": self.adam.t,
                "exp_avg_sq": torch.stack([each.v for each in inside]),
                "delta": torch.stack([each.m for each in inside]),
            }
            if entry["delta"][0].numel() > 1:
                shape = (len(inside), *(1 for _ in key[1:]))
                entry["param_rms"] = torch.stack([each.r for each in inside]).view(shape)
                grads = torch.stack([each.s for each in inside], dim=1)
                entry["scale_grads"] = grads.view(PERIOD, *shape)
                entry["scale_exp_avg_sq"] = torch.stack([each.w for each in inside]).view(shape)
            if not state:
                norms = torch.zeros(NUM_NORMS)
                norms[1 : 1 + len(self.adam.norms)] = torch.tensor(self.adam.norms)
                entry |= {"model_norms": norms, "num_clipped": 0}
                entry["model_norm_threshold"] = self.adam.threshold
            state[buckets[key][0]] = entry
        group = {**OPTIONS, "lr": self.lr(epoch), "base_lr": 0.045}
        group["params"] = [*range(len(names))]
        return {"state": state, "param_groups": [group]}


def batch_of(number: int) -> Any:
    return a_batch(*LENGTHS, seed=number)


def close(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-9, atol=1e-9, msg=name)


def as_icefall(path: Path, **other: Any) -> dict[str, Any]:
    """Rewrite a checkpoint of ours with nothing but the entries of icefall's; None drops one."""
    ours = load_checkpoint(path)
    kept = ("model", "optimizer", "scheduler", "grad_scaler", "batch_idx_train", "cur_epoch")
    best = [f"best_{kind}_{what}" for kind in ("train", "valid") for what in ("loss", "epoch")]
    found = {name: ours[name] for name in (*kept, *best, "vocab_size", "average_period")}
    found["model_avg"] = {
        name: value.float() if value.is_floating_point() else value
        for name, value in ours["model_avg"].items()
    }
    found |= {"sampler": SAMPLER, "max_duration": 10, "ref_duration": 0.4, **FLAGS, **other}
    found = {name: value for name, value in found.items() if value is not None}
    path.unlink()
    torch.save(found, path)
    return found


def log_of(exp_dir: Path) -> str:
    return "".join(path.read_text() for path in sorted((exp_dir / "log").iterdir()))


@pytest.mark.usefixtures("here")
def test_updates_after_a_checkpoint_of_icefall_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    # Of the updates to come, the third takes a step of the sizes, the fourth a new threshold.
    loop = PlainLoop(steady(new_session()), max_duration=25.0, ref_duration=0.4)
    for _ in range(17):
        loop.update(epoch=1)
    torch.save(loop.checkpoint(epoch=1), tmp_path / "epoch-1.pt")
    flags = f"--exp-dir {tmp_path} --seed 7 --start-epoch 2 --num-epochs 2"
    resumed = steady(new_session(flags))
    found = choose_checkpoint(resumed.configs)
    assert found is not None
    assert restore(resumed, *found) == 2
    resumed.start_epoch(2)
    resumed.scheduler.step_epoch(1)
    assert resumed.average is not None
    close(resumed.average, {n: t.float().double() for n, t in loop.average.items()})
    assert resumed.state.models_averaged == 8
    assert (resumed.state.best_train_loss, resumed.state.best_train_epoch) == (0.25, 1)
    for number in range(18, 22):
        with StopRequest() as stop:
            train_one_epoch(resumed, [batch_of(number)], None, stop, lambda: None)
        loop.update(epoch=2)
        close(dict(resumed.model.named_parameters()), loop.params)
        assert resumed.scheduler.get_last_lr() == pytest.approx([loop.adam.lr])
        assert resumed.state.schedule_count == pytest.approx(number * 25.0 * 1 / 0.4)
    assert resumed.state.shown_schedule_count == pytest.approx(17 * 25.0 * 1 / 0.4)
    assert (resumed.state.batch_idx_train, resumed.state.models_averaged) == (21, 10)
    for name, value in loop.average.items():
        torch.testing.assert_close(resumed.average[name], value, rtol=1e-6, atol=1e-6)


def test_a_run_folder_goes_on_from_the_command_line_and_is_decoded_across(
    run_folder: Path, call: Call
) -> None:
    exp = run_folder / "exp"
    for path in exp.glob("*.pt"):
        if path.name != "epoch-1.pt":
            path.unlink()
    as_icefall(exp / "epoch-1.pt")
    alone = ("--epoch", "1", "--avg", "1", "--use-averaged-model", "0")
    assert call(decode.main, run_folder, *alone).status == 0
    said = call(train_command.main, run_folder, "--start-epoch", "2", "--base-lr", "0.03")
    assert said.status == 0, said.err
    # Eight batches of --max-duration 10, at a --ref-duration of 0.4.
    assert (
        "exp/epoch-1.pt was written by icefall; taken over: weights, the average of 4 models, the "
        "optimizer after 8 batches, the learning rate's epoch 0 and batch 8, the schedules inside "
        "the model at 200.0"
    ) in said.err
    assert "--bpe-model must be the one that it was trained with" in said.err
    assert "sampler is not taken over: epoch 2 starts from its beginning\n" in said.err
    assert "continuing from exp/epoch-1.pt: epoch 2, 0 of its batches done, 8 in all" in said.err
    last = load_checkpoint(exp / "epoch-2.pt")
    assert (last["batch_idx_train"], last["models_averaged"]) == (16, 8)
    assert last["schedule_count"] == pytest.approx(400.0)
    assert last["sampler"]["layout"]["world_size"] == 1
    # The window of the average begins in the file of icefall.
    across = ("--epoch", "2", "--avg", "1")
    assert call(decode.main, run_folder, *across).status == 0
    assert call(average.main, run_folder, *across).status == 0
    # The same command finds the newest file, ours, and has nothing to do.
    assert call(train_command.main, run_folder).status == 0


@pytest.mark.usefixtures("here")
def test_an_epoch_that_icefall_had_begun_starts_again(trained: Path, tmp_path: Path) -> None:
    shutil.copy(trained / "exp" / "checkpoint-12.pt", tmp_path)
    as_icefall(tmp_path / "checkpoint-12.pt")
    flags = "--max-duration 10 --num-epochs 2 --rehearse 0 --start-batch 12"
    last = train(tmp_path, flags)
    assert (last["cur_epoch"], last["batch_idx_train"], last["batches_done"]) == (2, 20, 8)
    again = "epoch 2 starts from its beginning, and trains again on what it has seen already"
    assert again in log_of(tmp_path)


@pytest.mark.usefixtures("here")
def test_without_an_average_it_begins_anew_and_frozen_modules_are_left_out(
    trained: Path, tmp_path: Path
) -> None:
    shutil.copy(trained / "exp" / "epoch-1.pt", tmp_path)
    first = as_icefall(tmp_path / "epoch-1.pt", model_avg=None, do_finetune=False)
    flags = "--max-duration 10 --num-epochs 2 --rehearse 0 --average-period 8 --freeze decoder"
    last = train(tmp_path, flags)
    assert (last["models_averaged"], last["schedule_start"]) == (1, 100_000.0)
    for name, value in last["model"].items():
        torch.testing.assert_close(last["model_avg"][name].to(value), value, rtol=0, atol=0)
    frozen = [name for name in first["model"] if name.startswith("decoder.")]
    assert all(torch.equal(first["model"][name], last["model"][name]) for name in frozen)
    log = log_of(tmp_path)
    assert "no average of models" in log
    assert "the optimizer begins anew" not in log


@pytest.mark.usefixtures("here")
def test_the_gradient_scale_is_that_of_icefall(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "epoch-1.pt"
    shutil.copy(trained / "exp" / "epoch-1.pt", path)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(torch.ones(()))
    as_icefall(path, grad_scaler=scaler.state_dict())
    session = new_session(f"--exp-dir {tmp_path}")
    session.precision.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    restore(session, path, load_checkpoint(path))
    assert session.precision.scaler.get_scale() == 8.0


def _fewer(checkpoint: dict[str, Any]) -> None:
    checkpoint["optimizer"]["param_groups"][0]["params"].pop()


def _of_adam(checkpoint: dict[str, Any]) -> None:
    for entry in checkpoint["optimizer"]["state"].values():
        entry["exp_avg_sq"] = entry["exp_avg_sq"][0]


def _without_epoch(checkpoint: dict[str, Any]) -> None:
    del checkpoint["cur_epoch"]


def _other_schedule(checkpoint: dict[str, Any]) -> None:
    checkpoint["scheduler"] = {"last_epoch": 3}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_fewer, r"optimizer state is of groups of \[\d+\] parameters, the model has \[\d+\]"),
        (_of_adam, r"optimizer state has exp_avg_sq of shape \(.*\) where the model needs \(\d"),
        (_without_epoch, r"epoch-1.pt cannot be continued: it lacks cur_epoch\. Fix: begin a new"),
        (_other_schedule, r"it lacks scheduler\['epoch'\], scheduler\['batch'\]"),
    ],
)
def test_what_cannot_be_continued_is_refused_before_anything_is_trained(
    trained: Path, tmp_path: Path, damage: Callable[[dict[str, Any]], None], words: str
) -> None:
    shutil.copy(trained / "exp" / "epoch-1.pt", tmp_path)
    checkpoint = as_icefall(tmp_path / "epoch-1.pt")
    damage(checkpoint)
    torch.save(checkpoint, tmp_path / "epoch-1.pt")
    with pytest.raises(CheckpointError, match=words) as raised:
        train(tmp_path, "--num-epochs 2 --start-epoch 2")
    assert "--finetune-ckpt" in str(raised.value)


@pytest.mark.usefixtures("here")
def test_flags_in_the_file_are_compared(trained: Path, tmp_path: Path) -> None:
    shutil.copy(trained / "exp" / "epoch-1.pt", tmp_path)
    as_icefall(tmp_path / "epoch-1.pt", lr_batches=7500.0)
    with pytest.raises(CheckpointError, match=r"epoch-1\.pt was trained with --num-heads 2 "):
        train(tmp_path, f"--num-epochs 2 {SAME_SHAPES}")
    train(tmp_path, "--num-epochs 2 --rehearse 0 --encoder-unmasked-dim 16,32")
    (line,) = [line for line in log_of(tmp_path).splitlines() if "changed since" in line]
    assert "--encoder-unmasked-dim 24,32 -> 16,32" in line
    assert "--lr-batches 7500.0 -> 100.0" in line


@pytest.mark.parametrize("streaming", [False, True])
def test_flags_of_the_streaming_recipe_tell_what_weights_do_not(streaming: bool) -> None:
    published = Zipformer1Config()
    flags = {"encoder_dims": shown(published.encoder_dims), "nhead": "8,8,8,8,8"}
    if streaming:
        flags |= {"short_chunk_size": 50, "num_left_chunks": 4, "decode_chunk_len": 32}
    found = settings_of_reference(flags, [Zipformer1Config])
    assert found["zipformer1"]["encoder_dims"] == [384] * 5
    assert found["zipformer1"]["causal"] is streaming
    assert found["OptimizerConfig"] == {"optimizer": "scaled_adam_v1"}
