"""The small modules of the ground floor: masks, errors, progress, log, environment."""

import logging
import os
from pathlib import Path

import pytest
import torch

from zipasr.base.distributed import World, all_reduce_sum, check_world_size, launch
from zipasr.base.environment import environment_report
from zipasr.base.errors import DataError, ResourceError, UserError, nearest
from zipasr.base.log import setup_logging
from zipasr.base.progress import Progress, clock
from zipasr.nn.masks import make_pad_mask


def test_mask_marks_padding() -> None:
    mask = make_pad_mask(torch.tensor([3, 1]), 4)
    assert mask.tolist() == [[False, False, False, True], [False, True, True, True]]


def test_errors_are_one_line_and_know_their_status() -> None:
    assert str(DataError("bad file.", "mend it.")) == "bad file. Fix: mend it."
    assert (UserError("x").exit_code, DataError("x").exit_code) == (2, 3)
    assert nearest("greedy", ["greedy_search", "beam"]) == "did you mean 'greedy_search'?"
    assert nearest("zzz", ["greedy_search"]) == ""


@pytest.mark.parametrize(("seconds", "text"), [(45, "45s"), (725.2, "12m05s"), (11040, "3h04m")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_progress_line_counts_from_where_it_started() -> None:
    progress = Progress("epoch 1", 100, start=50, visible=False)
    progress.step(count=25)
    line = progress.line(progress._begun + 5.0, "loss 1.0")
    assert line == "epoch 1 75/100, 5.00 a second, 5s to go, loss 1.0"


def test_progress_without_terminal_writes_plain_lines(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), Progress("reading", None) as progress:
        progress.seconds_between_lines = 0.0  # type: ignore[misc]
        progress.step()
    assert "reading 1/?" in caplog.text
    assert "\r" not in caplog.text


def test_only_the_first_process_writes_to_the_screen(tmp_path: Path) -> None:
    setup_logging(tmp_path / "log" / "log-train", rank=1, world_size=2)
    logging.info("hello")
    (path,) = (tmp_path / "log").iterdir()
    assert path.name.startswith("log-train-")
    assert path.name.endswith("-1")
    assert "INFO hello" in path.read_text()
    setup_logging()


def test_environment_names_versions_and_nothing_private() -> None:
    report = environment_report()
    assert report["torch"].startswith("2.")
    assert not any("/" in value for name, value in report.items() if name != "revision")


def test_more_processes_than_devices_are_refused() -> None:
    with pytest.raises(ResourceError, match=r"--world-size 9999.*Fix: --world-size \d"):
        check_world_size(9999)
    have = os.cpu_count() or 1 if not torch.cuda.is_available() else torch.cuda.device_count()
    # An update of as many batches as before, at least.
    with pytest.raises(ResourceError, match=rf"Fix: --world-size {have} --accumulate 15$"):
        check_world_size(4 * have + 1, 3)
    with pytest.raises(UserError, match="at least 1"):
        check_world_size(0)


def test_one_process_needs_no_group() -> None:
    seen: list[World] = []
    launch(seen.append, 1, 12354)
    assert (seen[0].rank, seen[0].size, seen[0].is_main) == (0, 1, True)
    assert float(all_reduce_sum(torch.tensor(3.0), seen[0])) == 3.0
