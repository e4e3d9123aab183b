"""Whether loading keeps up, and batches that are copied to a device ahead of time."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data._utils.pin_memory import pin_memory

from tests.training.short import ALONE, new_batch, new_session
from zipasr.cli.command_flags import TRAIN, read
from zipasr.cli.train import data_source
from zipasr.data.worker_processes import Fault
from zipasr.training import feeding
from zipasr.training.data_setup import TrainData, load_sets
from zipasr.training.feeding import (
    Feed,
    choose_workers,
    copied_ahead,
    device_pace,
    loading_cores,
    loading_pace,
)


@given(st.floats(1, 1e5), st.floats(1, 1e4), st.integers(1, 64))
def test_workers_are_as_many_as_are_needed_and_as_there_are_cores(
    taken: float, given_: float, cores: int
) -> None:
    feed = Feed(taken, given_, cores)
    assert feed.needed * given_ >= 1.3 * taken > (feed.needed - 1) * given_
    assert feed.workers == max(1, min(feed.needed, cores))
    text = feed.text("GPU")
    assert (f"--num-workers {feed.needed}" in text) == (feed.needed <= cores)


def test_what_the_cores_cannot_feed_is_said() -> None:
    assert Feed(8500.0, 2000.0, 3).text("GPU") == (
        "a process gives 2000 s of speech a second, a GPU takes 8500: 6 are needed, and 3 cores "
        "feed 71% of it"
    )


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert (loading_cores(1, cpu), loading_cores(4, cpu), loading_cores(32, cpu)) == (16, 4, 1)
    # One core of each GPU's share is its own process's; a plan for more GPUs is for other machines.
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert (loading_cores(1, gpu), loading_cores(4, gpu), loading_cores(64, gpu)) == (15, 3, 3)


def training_data(flags: str = "", *, verbose: bool = False) -> TrainData:
    session = new_session(flags)
    source = data_source(read(TRAIN, ["--recipe", "./tones"]))
    return load_sets(source, session.configs, session.tokenizer, verbose=verbose, writes=False)


@pytest.mark.usefixtures("here")
def test_paces_are_measured_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    session, data = new_session(), training_data()
    ticks = iter(range(0, 1000, 2))
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))
    monkeypatch.setattr(feeding, "time", clock)
    before = {name: value.clone() for name, value in session.model.state_dict().items()}
    own, drawn = session.own_state(), torch.get_rng_state()
    # Two seconds for what --max-duration 25 lets be tried: two utterances of ten.
    assert device_pace(session) == 10.0
    assert 0 < loading_pace(session, data) <= 25 / 2
    assert session.own_state() == own
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(p.grad is None for p in session.model.parameters())
    for name, value in session.model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.usefixtures("here")
def test_a_gpu_gets_as_many_workers_as_it_needs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    session = new_session("")
    session.configs = replace(session.configs, data=replace(session.configs.data, num_workers=-1))
    data: Any = None  # not looked at: what is measured is given here
    assert choose_workers(session, data).workers == 2  # beside a CPU
    session.world = replace(ALONE, device=torch.device("cuda"))
    monkeypatch.setattr(feeding, "measured_feed", lambda *_: Feed(9000.0, 2000.0, 8))
    assert choose_workers(session, data).workers == 6
    assert "too few cores" not in caplog.text
    monkeypatch.setattr(feeding, "measured_feed", lambda *_: Feed(9000.0, 2000.0, 3))
    assert choose_workers(session, data).workers == 3
    assert "too few cores" in caplog.text
    session.configs = replace(session.configs, data=replace(session.configs.data, num_workers=1))
    assert choose_workers(session, data).workers == 1


def test_a_batch_is_copied_before_the_one_before_it_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    class Stream:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...
        def record_event(self) -> int:
            return len([word for word in done if word.startswith("copy")]) - 1

        def wait_event(self, number: int) -> None:
            done.append(f"{self.name} waits for copy {number}")

    def copied(x: torch.Tensor, device: torch.device) -> torch.Tensor:
        done.append(f"copy {len([word for word in done if word.startswith('copy')])}")
        return x

    monkeypatch.setattr(torch.cuda, "Stream", lambda _: Stream("side"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: Stream("main"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: None)
    monkeypatch.setattr("zipasr.data.dataset.to_device", copied)
    given_batches = [new_batch(0.5, seed=seed) for seed in range(3)]
    for number, batch in enumerate(copied_ahead(given_batches, torch.device("cuda"))):
        assert torch.equal(batch.features, given_batches[number].features)
        done.append(f"compute {number}")
    assert done == [
        "copy 0", "copy 1", "main waits for copy 0", "compute 0",
        "copy 2", "main waits for copy 1", "compute 1",
        "main waits for copy 2", "compute 2",
    ]  # fmt: skip
    cpu = torch.device("cpu")
    assert [*copied_ahead(given_batches, cpu)] == given_batches


def test_the_loader_of_torch_pins_batches_and_leaves_faults_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self, *_: self + 1)
    batch = new_batch(0.5)
    for second in (None, batch.features):
        pinned = pin_memory(replace(batch, second_view=second))
        assert torch.equal(pinned.features, batch.features + 1)
        assert (pinned.second_view is None) == (second is None)
        assert (pinned.texts, pinned.feature_lens) == (batch.texts, batch.feature_lens)
    fault = Fault(None, "what", "fix")
    assert pin_memory(fault) == fault


@pytest.mark.usefixtures("here")
def test_utterances_longer_than_a_batch_are_told(caplog: pytest.LogCaptureFixture) -> None:
    whole = training_data()
    longest = float(whole.train.lengths.seconds.max())
    training_data(f"--max-duration {longest}", verbose=True)
    assert "longer than --max-duration" not in caplog.text
    training_data("--max-duration 0.2", verbose=True)
    num = len(whole.train.lengths)
    said = f"{num} of {num} utterances are longer than --max-duration 0.2 s: each is a batch"
    assert said in caplog.text
