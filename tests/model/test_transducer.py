from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from tests.encoder.sizes import small_config
from zipasr.model.build import ModelConfig, build_model
from zipasr.model.transducer import AsrModel, TransducerConfig, TransducerLosses
from zipasr.nn.schedule import set_batch_count

HEADS = ModelConfig(decoder_dim=12, joiner_dim=16, use_ctc=True)
TOKENS = [[3, 3, 5], [1], [2, 4, 6, 1, 2]]
LATTICES = ["regular", "modified", "constrained"]


def make_model(heads: ModelConfig = HEADS) -> AsrModel:
    torch.manual_seed(0)
    return build_model(small_config(), heads, vocab_size=7)


@pytest.fixture
def model() -> AsrModel:
    return make_model().eval()


@pytest.fixture
def features() -> Tensor:
    return torch.randn(3, 61, 80, generator=torch.Generator().manual_seed(1))


def full(num_utterances: int) -> Tensor:
    return torch.full((num_utterances,), 61)


def total(losses: TransducerLosses) -> Tensor:
    parts = [loss for loss in losses if loss is not None]
    return torch.stack(parts).sum()


@torch.no_grad()
@pytest.mark.parametrize("rnnt_type", LATTICES)
def test_a_batch_is_the_sum_of_its_utterances(
    model: AsrModel, features: Tensor, rnnt_type: str
) -> None:
    config = TransducerConfig(rnnt_type=rnnt_type, prune_range=3)
    together = model(features, full(3), TOKENS, config)
    alone = [model(features[i : i + 1], full(1), [TOKENS[i]], config) for i in range(3)]
    for name in TransducerLosses._fields:
        expected = sum(getattr(losses, name) for losses in alone)
        torch.testing.assert_close(getattr(together, name), expected, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_an_unpruned_band_gives_the_loss_of_torchaudio(model: AsrModel, features: Tensor) -> None:
    torchaudio = pytest.importorskip("torchaudio")
    pruned = model(features, full(3), TOKENS, TransducerConfig(prune_range=6)).pruned
    frames, lens = model.encode(features, full(3))
    assert model.decoder is not None
    assert model.joiner is not None
    padded = torch.tensor([[*ids, *[0] * (5 - len(ids))] for ids in TOKENS])
    history = torch.cat([torch.zeros(3, 1, dtype=torch.int64), padded], dim=1)
    logits = model.joiner(frames[:, :, None], model.decoder(history)[:, None])
    expected = torchaudio.functional.rnnt_loss(
        logits,
        padded.int(),
        lens.int(),
        torch.tensor([len(ids) for ids in TOKENS], dtype=torch.int32),
        blank=0,
        reduction="sum",
    )
    torch.testing.assert_close(pruned, expected, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_ctc_equals_torch(model: AsrModel, features: Tensor) -> None:
    losses = model(features, full(3), TOKENS, TransducerConfig(), with_transducer=False)
    assert losses.simple is None
    assert losses.pruned is None
    frames, lens = model.encode(features, full(3))
    expected = torch.nn.functional.ctc_loss(
        model.ctc_log_probs(frames).transpose(0, 1),
        torch.tensor([token for ids in TOKENS for token in ids]),
        lens,
        torch.tensor([len(ids) for ids in TOKENS]),
        reduction="sum",
    )
    torch.testing.assert_close(losses.ctc, expected)


@pytest.mark.parametrize("rnnt_type", LATTICES)
def test_an_utterance_without_enough_frames_counts_nothing(
    model: AsrModel, features: Tensor, rnnt_type: str
) -> None:
    config = TransducerConfig(rnnt_type=rnnt_type)
    impossible = [*TOKENS[:2], [1, 2] * 20]
    losses = model(features, full(3), impossible, config)
    expected = model(features[:2], full(2), TOKENS[:2], config)
    torch.testing.assert_close(losses.ctc, expected.ctc)
    if rnnt_type != "regular":
        torch.testing.assert_close(losses.simple, expected.simple, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(losses.pruned, expected.pruned, rtol=1e-4, atol=1e-3)
    total(losses).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_nothing_but_impossible_utterances(model: AsrModel, features: Tensor) -> None:
    config = TransducerConfig(rnnt_type="modified")
    losses = model(features, full(3), [[1, 2] * 20] * 3, config)
    assert [loss.item() for loss in losses if loss is not None] == [0.0, 0.0, 0.0]
    total(losses).backward()
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


@torch.no_grad()
def test_empty_transcripts(model: AsrModel, features: Tensor) -> None:
    losses = model(features, full(3), [[], [], []], TransducerConfig())
    assert all(loss is not None and loss.isfinite() for loss in losses)


@pytest.mark.parametrize("is_bf16", [False, True])
def test_gradients_reach_all_parameters_but_one_in_each_layer(
    features: Tensor, is_bf16: bool
) -> None:
    model = make_model()
    set_batch_count(model, 10000.0)
    random.seed(0)
    lens = torch.tensor([61, 40, 57])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_bf16):
        losses = model(features, lens, TOKENS, TransducerConfig(rnnt_type="modified"))
        assert all(loss is not None and loss.dtype == torch.float32 for loss in losses)
        loss = total(losses)
    loss.backward()
    without = {key for key, p in model.named_parameters() if p.grad is None}
    layers = [key for key in dict(model.named_modules()) if key.split(".")[-2:-1] == ["layers"]]
    assert without == {f"{layer}.bypass_scale" for layer in layers}
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@torch.no_grad()
def test_mixed_precision_is_near_full_precision(model: AsrModel, features: Tensor) -> None:
    exact = model(features, full(3), TOKENS, TransducerConfig())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(features, full(3), TOKENS, TransducerConfig())
    for name in TransducerLosses._fields:
        torch.testing.assert_close(getattr(rough, name), getattr(exact, name), rtol=0.02, atol=0.0)


@pytest.mark.parametrize(
    ("lens", "tokens", "words"),
    [
        ([61, 8, 61], TOKENS, "an utterance has 8 feature frames, .* at least 9"),
        ([61, 61, 62], TOKENS, "a length of 62 was given for features with 61 frames"),
        ([61, 61, 61], TOKENS[:2], "2 transcripts were given for 3 utterances"),
        ([61, 61, 61], [[1], [7], [2]], "token 7 does not fit a vocabulary of 7"),
    ],
)
def test_bad_input(
    model: AsrModel, features: Tensor, lens: list[int], tokens: list[list[int]], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        model(features, torch.tensor(lens), tokens, TransducerConfig())


def test_a_model_without_ctc_says_so(features: Tensor) -> None:
    model = make_model(ModelConfig(decoder_dim=12, joiner_dim=16))
    losses = model(features, full(3), TOKENS, TransducerConfig())
    assert losses.ctc is None
    with pytest.raises(ValueError, match="no CTC head"):
        model.ctc_log_probs(torch.zeros(1, 2, 24))


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
# Of 1x1 convolutions, on some numbers of threads; their gradients are the same in either format.
@pytest.mark.filterwarnings("ignore:Grad strides do not match")
@pytest.mark.parametrize("with_transducer", [True, False])
def test_distributed_training(features: Tensor, with_transducer: bool) -> None:
    model = make_model()
    wrapped = DistributedDataParallel(model, find_unused_parameters=True)
    for _ in range(2):
        config = TransducerConfig()
        losses = wrapped(features, full(3), TOKENS, config, with_transducer=with_transducer)
        total(losses).backward()
    grads = [param.grad for param in model.parameters() if param.grad is not None]
    assert model.encoder_embed.out.weight.grad is not None
    assert all(torch.isfinite(grad).all() for grad in grads)
