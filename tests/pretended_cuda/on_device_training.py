"""Training on a pretended CUDA device; run by test_pretended_cuda.py in a process of its own."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.pretended_cuda import device as pretended
from tests.pretended_cuda.kernels import use_kernels
from tests.pretended_cuda.record import Record, recorded

pretended.install()
use_kernels()

from tests.lm import test_transformer  # noqa: E402
from tests.speaking_model import FIRST, SECOND  # noqa: E402
from tests.training.short import new_batch, new_session  # noqa: E402
from zipasr.base.distributed import World, check_world_size  # noqa: E402
from zipasr.base.errors import ResourceError  # noqa: E402
from zipasr.base.seed import fix_seeds  # noqa: E402
from zipasr.checkpoint import checkpoint_file  # noqa: E402
from zipasr.cli.command_flags import read  # noqa: E402
from zipasr.cli.train import data_source, train_configs  # noqa: E402
from zipasr.cli.training_commands import TRAIN  # noqa: E402
from zipasr.cli.training_plan import dry_run, for_gpus  # noqa: E402
from zipasr.data.augment import spec_augment, two_views  # noqa: E402
from zipasr.data.config import AugmentConfig  # noqa: E402
from zipasr.data.dataset import Batch  # noqa: E402
from zipasr.data.late_augment import FeatureTransform  # noqa: E402
from zipasr.encoder.protocol import EncoderConfig  # noqa: E402
from zipasr.encoder.zapformer.config import ZapformerConfig  # noqa: E402
from zipasr.lm.config import RnnLmConfig  # noqa: E402
from zipasr.lm.ngram_estimation import Sentences  # noqa: E402
from zipasr.model.build import build_model  # noqa: E402
from zipasr.model.config import ModelConfig, TransducerConfig  # noqa: E402
from zipasr.model.transducer import AsrModel  # noqa: E402
from zipasr.nn.schedule import set_batch_count  # noqa: E402
from zipasr.optim.build import build_optimizer, parameter_groups  # noqa: E402
from zipasr.optim.config import OptimizerConfig, OptimizerName  # noqa: E402
from zipasr.optim.named_optimizer import NamedOptimizer  # noqa: E402
from zipasr.training import language_model  # noqa: E402
from zipasr.training.batch_for_memory import gpu_gib  # noqa: E402
from zipasr.training.config import LmTrainConfig, LossConfig  # noqa: E402
from zipasr.training.loop import apply_gradients, begin_update  # noqa: E402
from zipasr.training.metrics import Metrics  # noqa: E402
from zipasr.training.update import compute_gradients, compute_loss, loss_scales  # noqa: E402
from zipasr.training.worker import run  # noqa: E402

GPU = World(0, 1, pretended.DEVICE)
VOCAB_SIZE = 20
#: Of forward and backward in bfloat16.
LAUNCHES_OF_LAYER = {"zipformer": 237, "zapformer": 301}
#: Of a step of the optimizer, for the model of the test: one shape after another.
LAUNCHES_OF_OPTIMIZER: dict[OptimizerName, int] = {"scaled_adam": 8, "rubik": 2080}

SHORT = """
--max-duration 60 --num-workers 0 --log-interval 1 --ctc-only-batches 0 --warm-step 4
--rehearse 0 --enable-spec-aug 0
"""

ZAPFORMER = ZapformerConfig(
    base_dim=8,
    embed_multiple=4,
    encoder_multiple=(3, 4),
    num_encoder_layers=(1, 1),
    downsampling_factor=(1, 2),
    feedforward_multiple=(2,),
    num_heads=(2,),
    query_head_dim=(8,),
    value_head_dim=(6,),
    pos_head_dim=(4,),
    conv_params=(7,),
)
ENCODERS: dict[str, EncoderConfig] = {
    "zipformer": SECOND,
    "zipformer, causal": replace(SECOND, causal=True, chunk_size=(8,), left_context_frames=(16,)),
    "zipformer1": FIRST,
    "zapformer": ZAPFORMER,
    "zapformer, causal": replace(
        ZAPFORMER, causal=True, chunk_size=(16,), left_context_frames=(16,)
    ),
}
SMALL = {"decoder_dim": 16, "joiner_dim": 16}
ATTENTION = {
    "attention_decoder_dim": 16,
    "attention_decoder_num_layers": 1,
    "attention_decoder_attention_dim": 16,
    "attention_decoder_num_heads": 2,
    "attention_decoder_feedforward_dim": 16,
}
HEADS: dict[str, dict[str, Any]] = {
    "transducer": SMALL,
    "CTC": {"use_transducer": False, "use_ctc": True},
    "all": {
        **SMALL,
        **ATTENTION,
        "use_ctc": True,
        "use_cr_ctc": True,
        "use_attention_decoder": True,
    },
}


@pytest.fixture
def here(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(prepared)


@pytest.fixture(autouse=True)
def savable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints compare types, and those of the device have one of their own."""
    monkeypatch.setattr(
        checkpoint_file, "PLAIN_TYPES", (*checkpoint_file.PLAIN_TYPES, pretended.Pretended)
    )


def make_model(encoder: EncoderConfig, heads: dict[str, Any]) -> AsrModel:
    fix_seeds(1)
    model = build_model(encoder, ModelConfig(**heads), VOCAB_SIZE)
    set_batch_count(model, 0.0)
    return model


def make_batch(two_views: bool) -> Batch:
    batch = new_batch(1.6, 1.2, 0.9)
    return replace(batch, second_view=batch.features.flip(2) if two_views else None)


def losses_of(
    model: AsrModel, encoder: EncoderConfig, heads: dict[str, Any]
) -> tuple[Tensor, Metrics]:
    config = ModelConfig(**heads)
    scales = loss_scales(LossConfig(cr_loss_scale=0.1), config, 5000)
    batch = make_batch(config.use_cr_ctc).to(next(model.parameters()).device)
    tokens = [[3, 5, 5], [7], [9, 2]]
    fix_seeds(3)
    return compute_loss(model, batch, tokens, scales, TransducerConfig(), encoder.geometry)


def step(
    model: AsrModel, encoder: EncoderConfig, heads: dict[str, Any], optimizer: NamedOptimizer
) -> None:
    """Make a step in bfloat16, as ``training.update`` does."""
    with torch.autocast("cuda", torch.bfloat16):
        loss, metrics = losses_of(model, encoder, heads)
    loss.backward()
    optimizer.measure()
    assert all(math.isfinite(value) for value in metrics.sums.values())
    optimizer.step()
    optimizer.zero_grad()


def make_optimizer(model: nn.Module, name: OptimizerName) -> NamedOptimizer:
    config = OptimizerConfig(optimizer=name)
    return build_optimizer(config, parameter_groups(model, 0.045, ()), torch.bfloat16)


CASES = [
    *((name, "transducer") for name in ENCODERS),
    *(("zipformer", name) for name in HEADS if name != "transducer"),
]


@pytest.mark.parametrize(("name", "head"), CASES)
def test_a_step_gives_what_it_gives_on_a_cpu_and_waits_once(name: str, head: str) -> None:
    """Values without what is drawn by the device, whose generator is another one."""
    encoder, heads = ENCODERS[name], HEADS[head]
    losses, gradients = [], []
    for place in ("cpu", "cuda"):
        model = make_model(encoder, heads).eval().to(place)
        loss, metrics = losses_of(model, encoder, heads)
        loss.backward()
        losses.append(metrics.sums)
        named = {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}
        gradients.append(named)
    assert losses[1] == pytest.approx(losses[0], rel=2e-4)
    largest = max(float(grad.abs().max()) for grad in gradients[0].values())
    for key, grad in gradients[1].items():
        torch.testing.assert_close(grad, gradients[0][key], rtol=2e-3, atol=1e-5 * largest, msg=key)

    model.train()
    published: OptimizerName = "rubik" if name.startswith("zapformer") else "scaled_adam"
    optimizer = make_optimizer(model, published)
    step(model, encoder, heads, optimizer)  # makes tables and state
    with recorded() as record:
        step(model, encoder, heads, optimizer)
    assert record.num_waits == 1, record.told()
    assert record.num_copies <= 17, record.told()
    launches = sum(c.launches for place, c in record.costs.items() if place.phase == "optimizer")
    assert launches <= LAUNCHES_OF_OPTIMIZER[published], record.told(40)


@pytest.mark.parametrize("name", LAUNCHES_OF_LAYER)
def test_launches_of_a_layer_do_not_grow(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models differ by a layer; without Balancers and Whitens, which act now and then."""
    monkeypatch.setattr(random, "random", lambda: 1.0)
    counts = []
    for layers in (1, 1, 2):  # kernels are compared with their definitions at first
        encoder = replace(ENCODERS[name], num_encoder_layers=(layers, 1))  # type: ignore[call-arg]
        model = make_model(encoder, SMALL).to("cuda")
        with recorded() as record, torch.autocast("cuda", torch.bfloat16):
            losses_of(model, encoder, SMALL)[0].backward()
        counts.append(record.total.launches)
    assert counts[2] - counts[1] <= LAUNCHES_OF_LAYER[name], record.told(40)


@pytest.mark.parametrize("kind", ["standard", "alternating"])
@pytest.mark.parametrize("make", [spec_augment, two_views])
def test_what_loading_draws_is_applied_on_the_device(
    kind: Any, make: Callable[[AugmentConfig], FeatureTransform | None]
) -> None:
    transform = make(AugmentConfig(spec_augment=kind))
    assert transform is not None
    batch = replace(
        new_batch(3.0, 2.5), drawn=transform.draw((2, 300, 80), [(0, 0, 300), (1, 0, 250)])
    )
    with recorded() as record:
        found = batch.to("cuda")
    assert record.num_waits == 0, record.told()
    assert record.total.launches <= 60, record.told()
    wanted = batch.to("cpu")
    torch.testing.assert_close(found.features.cpu(), wanted.features, rtol=1e-4, atol=1e-4)
    assert (found.second_view is None) == (make is spec_augment)


@pytest.mark.usefixtures("here")
def test_training_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Epochs, validation, averages, checkpoints: on the device and back."""

    def train(epochs: int) -> dict[str, Any]:
        words = f"--exp-dir {tmp_path} {SHORT} --enable-spec-aug 1 --num-epochs {epochs}"
        parsed = read(TRAIN, f"--recipe ./tones {words}".split())
        run(GPU, train_configs(parsed), data_source(parsed))
        return checkpoint_file.load_checkpoint(tmp_path / f"epoch-{epochs}.pt")

    first, second = train(1), train(2)
    assert second["batch_idx_train"] == 2 * first["batch_idx_train"] > 0
    assert second["skipped_steps"] == 0
    assert "SpecAugment: loading draws" in capsys.readouterr().err
    assert not torch.equal(
        first["model"]["joiner.output_linear.bias"], second["model"]["joiner.output_linear.bias"]
    )


def test_a_batch_is_chosen_for_the_memory_of_the_device() -> None:
    assert gpu_gib() == [131]
    run = read(TRAIN, ["--recipe", "librispeech", "--preset", "small", "--gpu-memory", "auto"])
    configs, said = for_gpus(run, train_configs(run), data_source(run))
    assert said.startswith("1 x 131 GiB: --max-duration 3000 --accumulate 1 ")
    assert (configs.data.max_duration, configs.train.world_size) == (3000.0, 1)


@pytest.mark.usefixtures("here")
def test_other_programs_on_the_device_are_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def free(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (count, pretended.MEMORY.total))

    new_session("", GPU)
    assert "other programs" not in caplog.text
    free(3 * 2**30)
    new_session("", GPU)
    assert "GPU 0: 3.0 of 131.3 GiB free: other programs hold the rest" in caplog.text
    with pytest.raises(ResourceError, match=r"has 1 GPUs \(0: 3.0 of 131.3 GiB free\)"):
        check_world_size(2)
    free(1000)
    with pytest.raises(ResourceError, match="Fix: end the programs that hold memory of GPU 0"):
        new_session("", GPU)


@pytest.mark.usefixtures("here")
def test_a_dry_run_looks_at_the_memory_of_the_device(tmp_path: Path) -> None:
    run = read(TRAIN, f"--recipe ./tones --exp-dir {tmp_path} {SHORT}".split())
    said = dry_run(train_configs(run), data_source(run), run.recipe)
    assert re.search(r"^ +fits here: 130 GiB are free for a batch$", said, re.MULTILINE)
    assert " GPU-hours" in said


@pytest.mark.usefixtures("here")
def test_an_update_waits_once_and_halves_what_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = new_session("--use-ctc 0 --use-bf16 1 --rnnt-type regular --enable-spec-aug 0", GPU)
    batches = [new_batch(1.2, 0.8)]

    def update() -> tuple[int, Record]:
        begin_update(session, batches)
        with recorded() as record:
            gradients = compute_gradients(session, batches)
            apply_gradients(session, gradients, batches)
        return gradients.splits, record

    update()
    before = pretended.MEMORY.now
    pretended.MEMORY.peak = before
    splits, record = update()
    assert (splits, record.num_waits) == (0, 1), record.told()
    needed = pretended.MEMORY.peak - before
    monkeypatch.setattr(pretended.MEMORY, "total", before + int(0.8 * needed))
    splits, record = update()
    assert (splits, record.num_waits) == (1, 1), record.told()


@pytest.mark.parametrize("kind", ["rnn", "transformer"])
def test_a_language_model_waits_once_in_an_update(kind: Any, tmp_path: Path) -> None:
    sizes = {
        "rnn": RnnLmConfig(rnn_lm_embedding_dim=8, rnn_lm_hidden_dim=8, rnn_lm_num_layers=1),
        "transformer": test_transformer.SIZES,
    }
    config = LmTrainConfig(lm_type=kind, exp_dir=tmp_path, num_epochs=1, batch_size=4)
    text = Sentences.of([[2, 3, 4], [2, 3], [], [5, 3, 4]] * 2)
    about = {"vocab_size": 6, "token_table": "abc"}
    language_model.train_lm(config, sizes[kind], text, text, about, GPU)
    training = language_model._Training(
        replace(config, num_epochs=2), sizes[kind], text, text, about, GPU
    )
    assert training.restored() == (2, 0)
    with recorded() as record:
        loss, count = training._update([[2, 3], [4]], 5)
    assert loss / count < 3.0
    assert record.num_waits == 1, record.told()
