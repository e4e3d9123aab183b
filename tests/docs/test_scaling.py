"""The page about many machines shows what its script computes."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml

from docs import refresh, scaling
from zipasr.cli.command_flags import COMMANDS, read
from zipasr.data.config import FbankConfig

PAGE = refresh.SCALING_PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", scaling.printed())
def test_tables_are_those_of_the_script(name: str) -> None:
    found = refresh.block(name, PAGE)[1].strip()
    assert found == scaling.printed()[name].strip(), "run: python -m docs.refresh"


def test_a_row_by_hand() -> None:
    run = scaling.Run(8, 10_000)
    # 10 000 hours at three speeds, eight batches of 1000 s in an update.
    assert run.steps == 10_000 * 3600 * 3 / 8000 == 13_500
    # Each of eight sends seven eighths of the gradients twice.
    assert scaling.sent_in_step(8) == pytest.approx(65.5e6 * 4 * 1.75)
    # 168 GB for 840 s, at 40 % of 4.8 TB/s.
    assert scaling.speed_of_one() == pytest.approx(840 / (168 / (0.4 * 4800)))
    assert run.time == pytest.approx(20 * 30_000 / (8 * 0.95 * scaling.speed_of_one()))


def test_the_text_has_no_figures_of_its_own() -> None:
    text = re.sub(
        r"<!-- (\w+): begin -->.*?<!-- \1: end -->|^```.*?^```|`[^`]*`", "", PAGE, flags=re.S | re.M
    )
    assert re.findall(r"\d+", text) == []


def test_flags_of_the_commands_exist() -> None:
    commands = {command.name: command for command in COMMANDS}
    joined = PAGE.replace("\\\n", " ")
    seen = 0
    for program, flags in re.findall(r"(train\.py|train_lm\.py) (--[^\n'`#]+)", joined):
        read(commands[program], shlex.split(flags))
        seen += 1
    assert seen == 5
    toml = re.search(r"```toml\n(.*?)```", PAGE, re.S)
    assert toml is not None
    features = FbankConfig(**dict(re.findall(r'^(\w+) = "(.*)"$', toml[1], re.M)))
    assert (features.storage, features.executor) == ("shar", "dask")


def test_the_job_for_kubernetes_is_yaml() -> None:
    found = re.search(r"```yaml\n(.*?)```", PAGE, re.S)
    assert found is not None
    job = yaml.safe_load(found[1])
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert replicas["Worker"]["template"] == replicas["Master"]["template"]
