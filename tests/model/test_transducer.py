from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from tests.encoder.published import fill
from tests.encoder.sizes import small_config
from tests.peers import needed
from zipasr.losses.ctc import consistency_loss
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig, TransducerConfig
from zipasr.model.transducer import AsrLosses, AsrModel
from zipasr.nn.schedule import set_batch_count

LATTICE_HEADS = ModelConfig(decoder_dim=12, joiner_dim=16, use_ctc=True)
HEADS = dataclasses.replace(
    LATTICE_HEADS,
    use_attention_decoder=True,
    attention_decoder_dim=12,
    attention_decoder_num_layers=2,
    attention_decoder_attention_dim=8,
    attention_decoder_num_heads=2,
    attention_decoder_feedforward_dim=16,
)
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


def parts(losses: AsrLosses) -> dict[str, Tensor]:
    return {name: loss for name, loss in losses._asdict().items() if loss is not None}


def total(losses: AsrLosses) -> Tensor:
    return torch.stack(list(parts(losses).values())).sum()


@torch.no_grad()
@pytest.mark.parametrize("rnnt_type", LATTICES)
def test_a_batch_is_the_sum_of_its_utterances(
    model: AsrModel, features: Tensor, rnnt_type: str
) -> None:
    config = TransducerConfig(rnnt_type=rnnt_type, prune_range=3)
    together = model(features, full(3), TOKENS, config)
    alone = [model(features[i : i + 1], full(1), [TOKENS[i]], config) for i in range(3)]
    assert list(parts(together)) == ["simple", "pruned", "ctc", "attention_decoder"]
    for name, loss in parts(together).items():
        expected = sum(getattr(losses, name) for losses in alone)
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_an_unpruned_band_gives_the_loss_of_torchaudio(model: AsrModel, features: Tensor) -> None:
    pruned = model(features, full(3), TOKENS, TransducerConfig(prune_range=6)).pruned
    frames, lens = model.encode(features, full(3))
    assert model.decoder is not None
    assert model.joiner is not None
    padded = torch.tensor([[*ids, *[0] * (5 - len(ids))] for ids in TOKENS])
    history = torch.cat([torch.zeros(3, 1, dtype=torch.int64), padded], dim=1)
    logits = model.joiner(frames[:, :, None], model.decoder(history)[:, None])
    expected = needed("torchaudio.functional").rnnt_loss(
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
    losses = model(features, full(3), TOKENS, TransducerConfig(), ctc_only=True)
    assert list(parts(losses)) == ["ctc"]
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


def test_nothing_but_impossible_utterances(features: Tensor) -> None:
    model = make_model(LATTICE_HEADS)
    config = TransducerConfig(rnnt_type="modified")
    losses = model(features, full(3), [[1, 2] * 20] * 3, config)
    assert [loss.item() for loss in parts(losses).values()] == [0.0, 0.0, 0.0]
    total(losses).backward()
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


@torch.no_grad()
def test_empty_transcripts(model: AsrModel, features: Tensor) -> None:
    losses = model(features, full(3), [[], [], []], TransducerConfig())
    assert len(parts(losses)) == 4
    assert all(loss.isfinite() for loss in parts(losses).values())


@pytest.mark.parametrize("is_bf16", [False, True])
def test_gradients_reach_all_parameters_but_one_in_each_layer(
    features: Tensor, is_bf16: bool
) -> None:
    model = make_model()
    set_batch_count(model, 10000.0)
    random.seed(0)
    lens = torch.tensor([61, 40, 57])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_bf16):
        config = TransducerConfig(rnnt_type="modified")
        losses = model(features, lens, TOKENS, config, second_view=features.flip(2))
        assert len(parts(losses)) == 5
        assert all(loss.dtype == torch.float32 for loss in parts(losses).values())
        loss = total(losses)
    loss.backward()
    without = {key for key, p in model.named_parameters() if p.grad is None}
    modules = dict(model.encoder.named_modules(prefix="encoder"))
    layers = [key for key in modules if key.split(".")[-2:-1] == ["layers"]]
    assert without == {f"{layer}.bypass_scale" for layer in layers}
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@torch.no_grad()
def test_mixed_precision_is_near_full_precision(model: AsrModel, features: Tensor) -> None:
    exact = model(features, full(3), TOKENS, TransducerConfig())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(features, full(3), TOKENS, TransducerConfig())
    for name, loss in parts(rough).items():
        torch.testing.assert_close(loss, getattr(exact, name), rtol=0.02, atol=0.0)


@pytest.mark.parametrize(
    ("lens", "tokens", "words"),
    [
        ([61, 8, 61], TOKENS, "an utterance has 8 feature frames, .* at least 9"),
        # A row of nothing but padding would leave attention nothing to look at.
        ([61, 0, 61], TOKENS, "an utterance has 0 feature frames, .* at least 9"),
        ([61, 61, 62], TOKENS, "a length of 62 was given for features with 61 frames"),
        ([61, 61, 61], TOKENS[:2], "2 transcripts were given for 3 utterances"),
        ([61, 61, 61], [[1], [7], [2]], "token 7 does not fit a vocabulary of 7"),
        ([61, 61, 61], [[1], [-1], [2]], "token -1 does not fit a vocabulary of 7"),
        ([61, 61], TOKENS, "features of 3 utterances need as many lengths, .* shape .2,."),
    ],
)
def test_bad_input(
    model: AsrModel, features: Tensor, lens: list[int], tokens: list[list[int]], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        model(features, torch.tensor(lens), tokens, TransducerConfig())


@pytest.mark.parametrize("shape", [(3, 61, 40), (3, 61), (3, 1, 61, 80)])
def test_features_of_another_shape_are_refused(model: AsrModel, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"features must be \(N, T, 80\), got \(3, "):
        model(torch.zeros(shape), full(3), TOKENS, TransducerConfig())


def test_an_empty_batch_is_refused(model: AsrModel) -> None:
    nothing, no_lens = torch.zeros(0, 61, 80), torch.zeros(0, dtype=torch.int64)
    for call in (
        lambda: model.encode(nothing, no_lens),
        lambda: model(nothing, no_lens, [], TransducerConfig()),
        lambda: model(nothing, no_lens, [], TransducerConfig(), second_view=nothing),
    ):
        with pytest.raises(ValueError, match="the batch has no utterance"):
            call()


def test_a_model_without_ctc_says_so(features: Tensor) -> None:
    model = make_model(ModelConfig(decoder_dim=12, joiner_dim=16))
    losses = model(features, full(3), TOKENS, TransducerConfig())
    assert list(parts(losses)) == ["simple", "pruned"]
    with pytest.raises(ValueError, match="no CTC head"):
        model.ctc_log_probs(torch.zeros(1, 2, 24))
    with pytest.raises(ValueError, match="no CTC head"):
        model(features, full(3), TOKENS, TransducerConfig(), second_view=features)


@pytest.mark.parametrize("transducer", [True, False])
@pytest.mark.parametrize("attention", [True, False])
def test_a_state_dict_goes_into_a_model_with_the_same_heads(
    features: Tensor, transducer: bool, attention: bool
) -> None:
    heads = dataclasses.replace(HEADS, use_transducer=transducer, use_attention_decoder=attention)
    torch.manual_seed(5)
    first, second = (build_model(small_config(), heads, vocab_size=7).eval() for _ in range(2))
    keys = first.state_dict().keys()
    assert any(key.startswith("attention_decoder.decoder.") for key in keys) == attention
    assert any(key.startswith("joiner.") for key in keys) == transducer
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        losses = [m(features, full(3), TOKENS, TransducerConfig()) for m in (first, second)]
    assert losses[0] == losses[1]


# ----------------------------------------------------------------------------------- two views


@torch.no_grad()
def test_two_equal_views_cost_what_one_does(model: AsrModel, features: Tensor) -> None:
    lens = torch.tensor([61, 40, 57])
    one = model(features, lens, TOKENS, TransducerConfig())
    two = model(features, lens, TOKENS, TransducerConfig(), second_view=features)
    assert abs(float(two.cr)) < 1e-5
    for name, loss in parts(one).items():
        torch.testing.assert_close(getattr(two, name), loss, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_losses_of_two_views_are_their_mean_and_consistency_is_halved(
    model: AsrModel, features: Tensor
) -> None:
    lens, config = torch.tensor([61, 40, 57]), TransducerConfig(prune_range=3)
    fill(model)  # fresh weights hardly tell features apart
    views = features, features.roll(7, dims=2)
    alone = [model(view, lens, TOKENS, config) for view in views]
    both = model(views[0], lens, TOKENS, config, second_view=views[1])
    for name, loss in parts(alone[0]).items():
        expected = 0.5 * (loss + getattr(alone[1], name))
        torch.testing.assert_close(getattr(both, name), expected, rtol=1e-4, atol=1e-3)
    encoded = [model.encode(view, lens) for view in views]
    log_probs = torch.cat([model.ctc_log_probs(output.frames) for output in encoded])
    expected = 0.5 * consistency_loss(log_probs, encoded[0].lens.repeat(2))
    assert float(expected) > 0.01
    torch.testing.assert_close(both.cr, expected, rtol=1e-4, atol=1e-5)


def test_views_of_different_length_are_refused(model: AsrModel, features: Tensor) -> None:
    with pytest.raises(ValueError, match="two views of a batch have the same shape"):
        model(features, full(3), TOKENS, TransducerConfig(), second_view=features[:, :60])


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.filterwarnings("error:Grad strides do not match")
@pytest.mark.parametrize("ctc_only", [True, False])
def test_distributed_training(features: Tensor, ctc_only: bool) -> None:
    model = make_model()
    wrapped = DistributedDataParallel(model, find_unused_parameters=True)
    for _ in range(2):
        config = TransducerConfig()
        losses = wrapped(features, full(3), TOKENS, config, ctc_only, features.flip(2))
        total(losses).backward()
    grads = [param.grad for param in model.parameters() if param.grad is not None]
    assert model.encoder_embed.out.weight.grad is not None
    assert all(torch.isfinite(grad).all() for grad in grads)
