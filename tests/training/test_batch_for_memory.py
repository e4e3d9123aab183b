"""Batches that are chosen for the memory of a GPU."""

from __future__ import annotations

import json
import re
import types
from pathlib import Path

import pytest
import torch

from tests import tones
from tests.cli.conftest import Call
from tests.training.short import SHORT
from zipasr.base.errors import ResourceError, UserError
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.cli import train, training_plan
from zipasr.cli.command_flags import read
from zipasr.cli.training_commands import TRAIN
from zipasr.cli.training_plan import for_gpus
from zipasr.text.tokenizer import Tokenizer
from zipasr.training import batch_for_memory
from zipasr.training.batch_for_memory import gpu_gib, seconds_that_fit, sized_for
from zipasr.training.dry_run import stand_in
from zipasr.training.session import TrainConfigs

CR_CTC = "--use-cr-ctc 1 --use-ctc 1 --enable-spec-aug 0"


def configs_of(flags: str, recipe: str = "librispeech") -> TrainConfigs:
    return train.train_configs(read(TRAIN, ["--recipe", recipe, *flags.split()]))


def tokenizer() -> Tokenizer:
    return stand_in(read(TRAIN, ["--recipe", "librispeech"]).recipe)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What a batch may have, in place of what is counted; one number to change."""
    seconds = [777.0]
    monkeypatch.setattr(batch_for_memory, "seconds_that_fit", lambda *_: seconds[0])
    return seconds


@pytest.mark.usefixtures("here")
def test_more_fits_in_more_memory_and_less_of_a_larger_model() -> None:
    def fits(gib: float, flags: str = "") -> float:
        configs = configs_of(f"{SHORT} {flags}", "./tones")
        return seconds_that_fit(
            configs, gib, Tokenizer.from_file(Path("data/tones/lang_bpe/bpe.model"))
        )

    usual = fits(8)
    assert fits(8) == usual  # a run that is resumed cuts the same batches
    assert fits(8, "--use-bf16 1") == usual
    assert 1.9 * usual < fits(16) < 2.1 * usual
    assert fits(8, "--encoder-dim 64 --feedforward-dim 256") < 0.9 * usual
    assert fits(8, CR_CTC) < 0.7 * usual
    assert fits(0.001) == 0.0


@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
@pytest.mark.parametrize("fits", [134.9, 317.0, 777.0, 2130.0])
@pytest.mark.parametrize(
    ("flags", "update"),
    [
        ("--preset small", 2 * 1500),
        ("", 4 * 1000),
        (f"--preset large {CR_CTC}", 2 * 1400),
        ("--encoder-type zapformer --preset base-64", 4 * 1200),
    ],
)
def test_the_update_is_that_of_the_published_training(
    flags: str, update: int, fits: float, gpus: int, room: list[float]
) -> None:
    room[0] = fits
    found, said = sized_for(configs_of(flags), 24, gpus, (), tokenizer())
    seconds = float(found.data.max_duration)
    assert seconds <= fits
    assert gpus * found.train.accumulate * seconds == pytest.approx(update, rel=0.01)
    # With one batch less, an update would be smaller.
    assert gpus * (found.train.accumulate - 1) * fits < update
    assert found.train.world_size == gpus
    assert said.startswith(
        f"{gpus} x 24 GiB: --max-duration {seconds:g} --accumulate {found.train.accumulate} ("
    )


@pytest.mark.parametrize(
    ("flags", "typed", "batch"),
    [
        ("--max-duration 200", {"max_duration"}, (200, 10, 2)),
        ("--accumulate 4", {"accumulate"}, (500, 4, 2)),
        ("--accumulate 2", {"accumulate"}, (777, 2, 2)),  # more would not fit
        ("--max-duration 200 --accumulate 3", {"max_duration", "accumulate"}, (200, 3, 2)),
        ("--world-size 3", {"world_size"}, (666, 2, 3)),
    ],
)
@pytest.mark.usefixtures("room")
def test_what_is_typed_stays(
    flags: str, typed: set[str], batch: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_plan, "gpu_gib", lambda: [40, 24])
    run = read(TRAIN, f"--recipe librispeech --gpu-memory auto {flags}".split())
    found, said = for_gpus(run, train.train_configs(run), train.data_source(run))
    assert (found.data.max_duration, found.train.accumulate, found.train.world_size) == batch
    assert said.startswith(f"{batch[2]} x 24 GiB: ")  # the smaller of the two
    assert "published 4 x 1000 s" in said
    assert typed == {
        name for name in ("max_duration", "accumulate", "world_size") if run.is_typed(name)
    }


@pytest.mark.usefixtures("room")
def test_torchrun_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_plan, "gpu_gib", lambda: [24])
    monkeypatch.setenv("WORLD_SIZE", "4")
    run = read(TRAIN, ["--recipe", "librispeech", "--gpu-memory", "auto"])
    found, _ = for_gpus(run, train.train_configs(run), train.data_source(run))
    assert (found.data.max_duration, found.train.accumulate, found.train.world_size) == (500, 2, 4)


def test_nothing_changes_without_a_gpu_a_published_size_or_the_flag(
    room: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for flags, why in (
        ("", ""),
        ("--gpu-memory auto", "there is no GPU"),
        (
            "--gpu-memory 24 --num-encoder-layers 1",
            "no training of a model of these sizes",
        ),
    ):
        run = read(TRAIN, f"--recipe librispeech {flags}".split())
        configs = train.train_configs(run)
        found, said = for_gpus(run, configs, train.data_source(run))
        assert found == configs
        assert why in said
        assert bool(why) == bool(said)
    # A GPU that is not here can be planned for.
    run = read(TRAIN, ["--recipe", "librispeech", "--gpu-memory", "24"])
    found, _ = for_gpus(run, train.train_configs(run), train.data_source(run))
    assert (found.data.max_duration, found.train.accumulate) == (666, 6)
    room[0] = 99.0
    with pytest.raises(ResourceError, match=r"does not fit into 24 GiB\..*--preset small"):
        for_gpus(run, train.train_configs(run), train.data_source(run))


def test_memory_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [int(23.6 * 2**30), int(79.2 * 2**30)]
    cuda = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "max_memory_reserved": lambda device: 0,
        "get_device_properties": lambda device: types.SimpleNamespace(
            total_memory=sizes[device.index]
        ),
    }
    for name, answer in cuda.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    assert gpu_gib() == [24, 79]


@pytest.mark.parametrize("word", ["none at all", "-3", "0", "nan", "inf", "24GB"])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(UserError, match="--gpu-memory must be auto or a number of GiB"):
        read(TRAIN, ["--recipe", "librispeech", "--gpu-memory", word])


def test_a_run_writes_down_what_was_chosen(
    workdir: Path, call: Call, room: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    room[0] = 8.0
    monkeypatch.setattr(batch_for_memory, "SMALLEST", 1)
    monkeypatch.setattr(batch_for_memory, "published_batch", lambda _: (2, 12))
    recipe = workdir / "tones/recipe.toml"
    recipe.write_text(recipe.read_text().replace("[flags]", "[flags]\ngpu-memory = 24"))
    words = ("--num-epochs", "1", "--world-size", "1")
    said = call(train.main, workdir, *words)
    assert said.status == 0, said.err
    chosen = "1 x 24 GiB: --max-duration 8 --accumulate 3 (24 s an update; published 2 x 12 s)"
    assert said.err.startswith(f"--gpu-memory 24: {chosen}\n")
    of_run = json.loads((workdir / "exp/run.json").read_text())["sessions"][0]["config"]
    of_checkpoint = load_checkpoint(workdir / "exp/epoch-1.pt")["configs"]
    for configs in (of_run, of_checkpoint):
        assert configs["DataConfig"]["max_duration"] == 8.0
        assert configs["TrainConfig"]["accumulate"] == 3
    said = call(train.main, workdir, "--dry-run", *words)
    lines = said.out.splitlines()
    place = lines.index(f"machine    {chosen}")
    assert lines[place + 1].startswith("update     24 s of speech")


@pytest.mark.slow
def test_the_table_in_the_documents_is_what_is_counted() -> None:
    page = (tones.ROOT / "docs/training.md").read_text(encoding="utf-8")
    rows = re.findall(r"^ *\| (\d+) GiB \| (\d+) s \|", page, re.MULTILINE)
    assert len(rows) == 7
    for gib, seconds in rows[::3]:
        counted = seconds_that_fit(configs_of("--preset small"), float(gib), tokenizer())
        assert float(seconds) == pytest.approx(counted, rel=0.1)
