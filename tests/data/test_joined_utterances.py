"""Utterances joined and set apart by pauses: every frame and word once, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.testing.dummies import dummy_cut, dummy_supervision
from torch import Tensor

from zipasr.data.augment import spec_augment
from zipasr.data.config import AugmentConfig
from zipasr.data.dataset import Batch, BatchDataset, FeatureRecipe, SampledBatch
from zipasr.data.joined_utterances import InputsWithPauses, Pauses, pauses_of

BINS = 80
SILENCE = -15.0


class Stored:
    """Input strategy of features that say which utterance and frame they are of."""

    def __init__(self, lens: list[int]) -> None:
        self.lens = lens

    def __call__(self, cuts: CutSet) -> tuple[Tensor, Tensor]:
        numbers = [int(cut.supervisions[0].text[1:]) for cut in cuts]
        lens = torch.tensor([self.lens[number] for number in numbers], dtype=torch.int32)
        features = torch.full((len(numbers), int(lens.max()), BINS), SILENCE)
        for row, number in enumerate(numbers):
            count = int(lens[row])
            features[row, :count, 0] = 1000.0 * (number + 1) + torch.arange(count)
            features[row, :count, 1:] = 5.0
            features[row, :8, 1:] = features[row, count - 8 : count, 1:] = -8.0
        return features, lens

    def supervision_intervals(self, cuts: CutSet) -> dict[str, Tensor]:
        lens = [self.lens[int(cut.supervisions[0].text[1:])] for cut in cuts]
        return {
            "sequence_idx": torch.arange(len(lens), dtype=torch.int32),
            "start_frame": torch.zeros(len(lens), dtype=torch.int32),
            "num_frames": torch.tensor(lens, dtype=torch.int32),
        }


def cuts_of(lens: list[int]) -> list[Cut]:
    """Return cuts whose transcripts are W0, W1, ..."""
    return [
        dummy_cut(
            number,
            duration=num / 100,
            supervisions=[dummy_supervision(number, duration=num / 100, text=f"W{number}")],
        )
        for number, num in enumerate(lens)
    ]


def batch(lens: list[int], pauses: Pauses | None, seed: int = 0) -> Batch:
    recipe = FeatureRecipe(read=Stored(lens), pauses=pauses)  # type: ignore[arg-type]
    made = BatchDataset(cuts_of(lens), recipe, (seed, 1, 0))[
        SampledBatch(0, tuple(range(len(lens))))
    ]
    assert isinstance(made, Batch)
    return made


def frames_of(row: Tensor, number: int) -> list[int]:
    """Return which frames of an utterance are in a row as speech, in order."""
    here = row[(row[:, 1] == 5.0) & (row[:, 0] // 1000 == number + 1), 0]
    return [int(value) % 1000 for value in here]


@settings(max_examples=40, deadline=None)
@given(
    lens=st.lists(st.integers(40, 300), min_size=1, max_size=9),
    join=st.sampled_from([0.0, 0.5, 1.0]),
    silence=st.sampled_from([0.0, 0.5, 1.0]),
    pause=st.floats(0.0, 2.0),
    seed=st.integers(0, 1000),
)
def test_speech_and_words_are_there_once_and_in_order(
    lens: list[int], join: float, silence: float, pause: float, seed: int
) -> None:
    made = batch(lens, Pauses(join, silence, pause, 20.0), seed)
    words = [word for text in made.texts for word in text.split()]
    assert sorted(words) == sorted(f"W{number}" for number in range(len(lens)))
    assert made.feature_lens.tolist() == sorted(made.feature_lens.tolist(), reverse=True)
    assert int(made.feature_lens[0]) == made.features.size(1)
    assert bool(made.features.isfinite().all())
    for text, row, length in zip(made.texts, made.features, made.feature_lens, strict=True):
        members = [int(word[1:]) for word in text.split()]
        assert len(members) <= 4
        assert int(length) <= sum(lens[n] for n in members) + 100 * pause * (len(members) + 1) + 9
        speech = [lens[n] - 16 for n in members]
        assert sum(speech) <= int(length)
        begins = []
        for number in members:
            # The frames of babble in pauses are of other sums, and those of the background quiet.
            found = frames_of(row, number)
            assert found == list(range(8, lens[number] - 8))
            begins.append(int((row[:, 0] == 1000.0 * (number + 1) + 8).nonzero()[0]))
        assert begins == sorted(begins)


@given(
    frames=st.lists(st.tuples(st.integers(1, 4), st.integers(10, 900)), min_size=1, max_size=9),
    silence=st.sampled_from([0.0, 0.4, 1.0]),
    seed=st.integers(0, 1000),
)
def test_no_row_is_longer_than_the_longest_utterances_with_their_pauses(
    frames: list[tuple[int, int]], silence: float, seed: int
) -> None:
    counts, speech = [count for count, _ in frames], [num for _, num in frames]
    pauses = Pauses(1.0, silence, 1.5, 20.0)
    drawn = pauses.of_rows(speech, counts, np.random.default_rng(seed))
    assert [len(row) for row in drawn] == [count + 1 for count in counts]
    assert all(0 <= pause <= 150 for row in drawn for pause in row)
    sizes = [num + sum(row) for num, row in zip(speech, drawn, strict=True)]
    longest = int(np.argmax(speech))
    assert max(sizes) == sizes[longest]


def test_pauses_of_shorter_rows_are_shortened_alike_and_none_is_left_out() -> None:
    shortened = 0
    for seed in range(200):
        pauses = Pauses(1.0, 1.0, 1.5, 20.0)
        longer, shorter = pauses.of_rows([400, 300], [1, 1], np.random.default_rng(seed))
        drawn = np.random.default_rng(seed).uniform(0.0, 150.0, 8)[[1, 3, 5, 7]]
        assert longer == [round(x) for x in drawn[:2].tolist()]
        wanted = [round(x) for x in drawn[2:].tolist()]
        room = 400 + sum(longer) - 300
        shortened += sum(wanted) > room
        factor = min(1.0, room / sum(wanted))
        assert shorter == pytest.approx([x * factor for x in wanted], abs=1.0)
    assert 10 < shortened < 100


def test_without_probabilities_the_batch_is_as_it_was() -> None:
    lens = [300, 250, 200]
    made, plain = batch(lens, Pauses(0.0, 0.0, 1.0, 20.0)), batch(lens, None)
    assert made.texts == plain.texts
    # Silence that utterances begin with may be shorter: it varies.
    assert [int(n) for n in made.feature_lens] != lens or torch.equal(made.features, plain.features)


def test_a_batch_is_the_same_each_time_and_differs_from_others() -> None:
    lens, pauses = [300, 280, 260, 240], Pauses(1.0, 1.0, 1.0, 20.0)
    first, again, other = (batch(lens, pauses, seed) for seed in (1, 1, 2))
    assert torch.equal(first.features, again.features)
    assert first.texts == again.texts
    assert first.features.shape != other.features.shape or not torch.equal(
        first.features, other.features
    )


def test_the_size_of_a_batch_is_told_before_it_is_made() -> None:
    """On average; utterances that are all speech, which lose no silence of their own."""
    draws = np.random.default_rng(0)
    assert Pauses(0.0, 0.0, 1.5, 30.0).padded_size(6, 2.0, draws) == (6, 2.0)
    rows, seconds = Pauses(1.0, 0.0, 0.0, 5.0).padded_size(5, 2.5, draws)
    assert (rows, seconds) == (3, pytest.approx(5.0, abs=0.2))  # short pauses between
    pauses, lens = Pauses(0.5, 0.4, 1.5, 20.0), [200] * 6
    told = [pauses.padded_size(6, 2.0, draws) for _ in range(400)]
    made = [batch(lens, pauses, seed).features for seed in range(100)]
    areas = [rows * seconds for rows, seconds in told]
    frames = [x.size(0) * x.size(1) / 100.0 for x in made]
    assert np.mean(areas) == pytest.approx(np.mean(frames), rel=0.1)


def test_long_utterances_are_not_joined() -> None:
    made = batch([280] * 6, Pauses(1.0, 0.0, 0.5, 5.0))
    assert len(made.texts) == 6
    made = batch([240] * 6, Pauses(1.0, 0.0, 0.5, 5.0))
    assert len(made.texts) == 3


def test_names_and_length_of_joined_utterances() -> None:
    made = batch([240] * 4, Pauses(1.0, 1.0, 1.0, 5.0))
    assert [name.count("+") for name in made.cut_ids] == [1, 1]
    assert made.seconds == pytest.approx(float(made.feature_lens.sum()) * 0.01)


def test_masks_take_joined_utterances() -> None:
    recipe = FeatureRecipe(
        read=Stored([300] * 4),  # type: ignore[arg-type]
        pauses=Pauses(1.0, 1.0, 1.0, 20.0),
        mask=spec_augment(AugmentConfig()),
    )
    made = BatchDataset(cuts_of([300] * 4), recipe, (0, 1, 0))[SampledBatch(0, (0, 1, 2, 3))]
    assert isinstance(made, Batch)
    assert made.features.size(1) == int(made.feature_lens[0])


def test_intervals_are_within_their_rows() -> None:
    lens = [300, 200, 100, 90]
    read = InputsWithPauses(
        Stored(lens),  # type: ignore[arg-type]
        Pauses(1.0, 1.0, 1.0, 20.0),
        np.random.default_rng(0),
    )
    _, sizes, cuts = read(CutSet.from_cuts(cuts_of(lens)))
    spans = read.supervision_intervals(cuts)
    assert len(spans["sequence_idx"]) == len(lens)
    ends = spans["start_frame"] + spans["num_frames"]
    for row, size in enumerate(sizes.tolist()):
        mine = spans["sequence_idx"] == row
        assert spans["start_frame"][mine].tolist() == sorted(spans["start_frame"][mine].tolist())
        assert int(ends[mine].max()) == size
    assert int(spans["start_frame"].min()) >= 0


def test_epochs_before_the_first_have_none() -> None:
    config = AugmentConfig(join_prob=0.5, pause_start_epoch=3)
    assert pauses_of(config, 2, 20.0) is None
    assert pauses_of(config, 3, 20.0) == Pauses(0.5, 0.0, 1.5, 20.0)
    assert pauses_of(AugmentConfig(), 3, 20.0) is None


@pytest.mark.parametrize(
    "values", [{"join_prob": 1.5}, {"silence_prob": -0.1}, {"longest_pause": -1.0}]
)
def test_impossible_settings_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="--"):
        AugmentConfig(**values)  # type: ignore[arg-type]
