from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.encoder.sizes import small_config
from zipasr.encoder.zipformer.config import PRESETS, ZipformerConfig
from zipasr.encoder.zipformer.model import Zipformer2
from zipasr.encoder.zipformer.stack import LayerSkipSchedule, fit_channels, widest_output
from zipasr.nn.masks import make_pad_mask
from zipasr.nn.schedule import set_batch_count


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_heads": (2, 2)}, "--num-heads has 2 values, but --downsampling-factor has 3"),
        ({"cnn_module_kernel": (4,)}, "--cnn-module-kernel must be odd"),
        ({"encoder_dim": (16, 0, 20)}, "--encoder-dim must be positive"),
        ({"encoder_unmasked_dim": (17,)}, "--encoder-unmasked-dim"),
        ({"pos_dim": 7}, "--pos-dim must be even"),
        ({"embed_channels": (2, 4)}, "--embed-channels needs 3 values"),
        ({"dropout": 1.0}, "--dropout"),
    ],
)
def test_a_wrong_shape_is_refused_in_the_words_of_its_flag(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        small_config(**changes)
    assert "\n" not in str(raised.value)


def test_presets_have_six_stacks() -> None:
    assert {name: config.output_dim for name, config in PRESETS.items()} == {
        "small": 256,
        "medium": 512,
        "large": 768,
    }
    assert all(config.num_stacks == 6 for config in PRESETS.values())
    assert PRESETS["medium"] == ZipformerConfig()


@pytest.fixture(scope="module")
def encoder() -> Zipformer2:
    torch.manual_seed(0)
    return Zipformer2(small_config()).eval()


@torch.no_grad()
@pytest.mark.parametrize("num_frames", [1, 2, 3, 7, 8, 13])
def test_every_length_works(encoder: Zipformer2, num_frames: int) -> None:
    y, lens = encoder(torch.randn(num_frames, 2, 16), torch.tensor([num_frames, 1]))
    assert y.shape == ((num_frames + 1) // 2, 2, 24)
    assert lens.tolist() == [y.size(0), 1]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(0, 15), st.integers(0, 2**31))
@torch.no_grad()
def test_padding_does_not_matter(
    encoder: Zipformer2, num_groups: int, padding: int, seed: int
) -> None:
    # Frames are joined in groups of up to 4. A group that is not filled up depends on what
    # follows the utterance, by the design of the model: so lengths are multiples of 4.
    num_frames = 4 * num_groups
    x = torch.randn(num_frames + padding, 2, 16, generator=torch.Generator().manual_seed(seed))
    lens = torch.tensor([num_frames + padding, num_frames])
    together, out_lens = encoder(x, lens, make_pad_mask(lens))
    alone, _ = encoder(x[:num_frames, 1:], lens[1:])
    valid = int(out_lens[1])
    assert valid == alone.size(0)
    torch.testing.assert_close(together[:valid, 1:], alone, rtol=0, atol=1e-5)


def test_channels_come_from_the_latest_stack_that_has_them() -> None:
    outputs = [torch.full((1, 1, dim), float(dim)) for dim in (3, 6, 4, 2)]
    assert widest_output(outputs).flatten().tolist() == [2, 2, 4, 4, 6, 6]


def test_fit_channels() -> None:
    x = torch.arange(1.0, 4.0).view(1, 1, 3)
    assert fit_channels(x, 2).flatten().tolist() == [1, 2]
    assert fit_channels(x, 5).flatten().tolist() == [1, 2, 3, 0, 0]


def test_feature_masks() -> None:
    encoder = Zipformer2(small_config())
    torch.manual_seed(0)
    first, second, third = encoder._feature_masks(torch.zeros(1, 2000, 16))
    assert third is None  # all channels of this stack are unmasked
    assert first is not None
    assert second is not None
    assert first.shape == (1, 2000, 16)
    assert first[..., :8].eq(1).all()
    middle, last = first[0, :, 8], first[0, :, 15]
    assert torch.equal(second[0, :, 12], middle)
    assert torch.equal(second[0, :, 23], last)
    assert last[middle == 0].eq(0).all()
    assert middle.mean().item() == pytest.approx(7 / 8, abs=0.03)
    assert last.mean().item() == pytest.approx(49 / 64, abs=0.03)


def test_layers_of_medium_come_into_use_one_after_the_other() -> None:
    share = 4000 / 7
    first = LayerSkipSchedule(begin=share, end=2 * share, final_rate=0.035).of_layer(0, 2)
    (begin, half), (end, rate) = first.schedule.points
    assert (half, rate) == (0.5, 0.035)
    assert (begin, end) == (pytest.approx(571.43, abs=0.01), pytest.approx(857.14, abs=0.01))


def test_skip_schedules_end_with_warm_up() -> None:
    encoder = Zipformer2(small_config())
    rates = [
        module.bypass.skip_rate.schedule.points
        for name, module in encoder.named_modules()
        if name.split(".")[-2:-1] == ["layers"]
    ]
    assert [points[0][0] for points in rates] == [1000.0, 2000.0, 2500.0, 3000.0]
    assert rates[-1][1] == (4000.0, pytest.approx(0.035 * math.sqrt(2)))


def test_layers_of_a_stack_start_alike(encoder: Zipformer2) -> None:
    first, second = encoder.encoders[1].encoder.layers
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key])
        assert value.data_ptr() != second.state_dict()[key].data_ptr()


def test_training_is_repeatable_and_random() -> None:
    encoder = Zipformer2(small_config())
    set_batch_count(encoder, 0.0)
    x, lens = torch.randn(12, 3, 16), torch.tensor([12, 12, 12])

    def run(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        random.seed(seed)
        return encoder(x, lens)[0].detach()

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
