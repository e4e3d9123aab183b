"""decode.py and average.py --auto-avg: the average that is best on dev, and only on dev."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests import tones
from tests.cli.conftest import Call
from zipasr.base.errors import CheckpointError
from zipasr.checkpoint.averaging import LoadedWeights
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.cli import average, decode, export, transcribe
from zipasr.data.config import cuts_path
from zipasr.recognition import best_average

HERE = ("--num-workers", "0", "--use-averaged-model", "0")
AUTO = (*HERE, "--auto-avg", "1")
CHOICE = re.compile(r"--auto-avg chose --(\w+) (\d+) --avg (\d+): WER ([\d.]+) % on dev, ")


def table_of(out: str) -> dict[tuple[int, int], str]:
    """Return the rates in a printed table by epoch and avg; the rows must be sorted by them."""
    rows = [line.split() for line in out.splitlines() if re.fullmatch(r"[\d. ]+", line)]
    rates = [float(row[2]) for row in rows]
    assert rates == sorted(rates)
    return {(int(number), int(avg)): rate for number, avg, rate in rows}


def test_each_average_is_scored_on_dev_and_the_best_decodes(run_folder: Path, call: Call) -> None:
    said = call(decode.main, run_folder, *AUTO)
    assert said.status == 0, said.err
    rates = table_of(said.out)
    assert rates.keys() == {(2, 1), (2, 2), (1, 1)}
    for (epoch, avg), rate in rates.items():
        words = ("--epoch", str(epoch), "--avg", str(avg), "--test-sets", "dev")
        alone = call(decode.main, run_folder, *HERE, *words)
        assert alone.out.splitlines()[2].split()[2] == rate
    style, number, chosen_avg, rate = CHOICE.search(said.out).groups()
    assert style == "epoch"
    assert rate == rates[int(number), int(chosen_avg)] == min(rates.values(), key=float)
    (result,) = (run_folder / "exp" / "greedy_search").glob("wer-summary-test-*")
    assert result.name.startswith(f"wer-summary-test-epoch-{number}_avg-{chosen_avg}_")
    # export.py takes the same, and tells the error rates of no other.
    said = call(export.main, run_folder, *AUTO, "--format", "pretrained")
    assert said.status == 0, said.err
    assert CHOICE.search(said.err).groups()[1:3] == (number, chosen_avg)
    folder = run_folder / "exp" / f"export-epoch-{number}-avg-{chosen_avg}"
    assert f"./transcribe.py --checkpoint {folder.relative_to(run_folder)}/" in said.out
    about, *rows = (folder / "RESULTS.txt").read_text().strip().split("\n")
    assert about.startswith(f"epoch-{number}-avg-{chosen_avg}, ")
    assert {tuple(row.split()[:2]) for row in rows[3:]} == {
        ("dev", "greedy_search"),
        ("test", "greedy_search"),
    }
    assert len(rows) == 5


def test_the_record_names_the_sets_and_saves_the_work_the_next_time(
    run_folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*AUTO, "--auto-avg-cuts", "3")
    first = call(decode.main, run_folder, *words)
    (search,) = json.loads((run_folder / "exp" / "auto-avg.json").read_text())["searches"]
    assert search["settings"]["sets"] == ["dev"]
    assert search["settings"]["method"] == "greedy_search"
    assert len(search["scores"]) == 3
    _, number, avg, rate = CHOICE.search(first.out.replace(" (3 utterances)", "")).groups()
    assert search["best"] == {"epoch": int(number), "avg": int(avg), "wer": float(rate)}

    scored = []
    real = best_average.score
    monkeypatch.setattr(best_average, "score", lambda *given: scored.append(given) or real(*given))
    again = call(decode.main, run_folder, *words)
    assert again.out.splitlines()[:6] == first.out.splitlines()[:6]
    assert not scored
    # A file that changed is scored again, with all averages that it is in.
    (run_folder / "exp" / "epoch-1.pt").touch()
    assert call(decode.main, run_folder, *words).status == 0
    assert len(scored) == 2
    # Another search stands beside the first; a damaged file is made again.
    assert call(decode.main, run_folder, *AUTO).status == 0
    path = run_folder / "exp" / "auto-avg.json"
    assert len(json.loads(path.read_text())["searches"]) == 2
    path.write_text("{")
    said = call(decode.main, run_folder, *words)
    assert said.status == 0
    assert "auto-avg.json is damaged; it is made again" in said.err


def test_a_recipe_may_say_that_the_average_is_chosen(run_folder: Path, call: Call) -> None:
    recipe = run_folder / "tones" / "recipe.toml"
    lines = recipe.read_text().replace("epoch = 2\navg = 1\n", "avg = 2\n")
    recipe.write_text(f"{lines}\nauto-avg = 1\n")
    samples = tones.audio_of([*tones.TONES], np.random.default_rng(1))
    soundfile.write(run_folder / "sound.wav", samples, tones.RATE)
    words = ["sound.wav"]
    before = call(transcribe.main, run_folder, *words)
    assert before.status == 0, before.err
    assert "no dev set: ./decode.py --auto-avg 1 chooses the average." in before.err
    assert "using --epoch 2 --avg 1" in before.err
    said = call(decode.main, run_folder, "--num-workers", "0")
    assert said.status == 0, said.err
    _, number, avg, _ = CHOICE.search(said.out).groups()
    after = call(transcribe.main, run_folder, *words)
    assert f"using epoch {number} avg {avg}, the best on dev in auto-avg.json." in after.err
    # What is typed counts; of one epoch there is nothing to choose.
    typed = call(decode.main, run_folder, "--num-workers", "0", "--avg", "1")
    assert "--auto-avg chose" not in typed.out
    assert "using --epoch 2 --avg 1" in typed.err
    (run_folder / "exp" / "epoch-1.pt").unlink()
    alone = call(decode.main, run_folder, "--num-workers", "0")
    assert alone.status == 0, alone.err
    assert "using --epoch 2 --avg" in alone.err
    changed = call(transcribe.main, run_folder, *words)
    assert "the best on dev" not in changed.err


def test_average_writes_the_best_of_the_iterations(run_folder: Path, call: Call) -> None:
    said = call(average.main, run_folder, *AUTO, "--iter", "16")
    assert said.status == 0, said.err
    assert table_of(said.err).keys() == {(16, 1), (16, 2), (12, 1)}
    style, number, avg, _ = CHOICE.search(said.err).groups()
    assert (style, said.out) == ("iter", f"exp/iter-{number}-avg-{avg}.pt\n")
    assert (run_folder / said.out.strip()).is_file()


def test_a_damaged_checkpoint_is_left_out(run_folder: Path, call: Call) -> None:
    path = run_folder / "exp" / "epoch-2.pt"
    path.write_bytes(path.read_bytes()[:-1000])
    said = call(decode.main, run_folder, *AUTO)
    assert said.status == 0, said.err
    assert table_of(said.out).keys() == {(1, 1)}
    assert "epoch 2 avg 1 is left out: exp/epoch-2.pt is cut" in said.err
    (run_folder / "exp" / "epoch-1.pt").write_bytes(b"")
    said = call(decode.main, run_folder, *AUTO)
    assert said.status == 4
    assert "error: exp/epoch-2.pt is cut" in said.err


def test_where_no_average_can_be_made_the_last_epoch_is_used(
    run_folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(exp_dir: Path, choose: ChooseCheckpoint) -> LoadedWeights:
        raise CheckpointError(f"There is nothing to average in {exp_dir} for {choose.number}.")

    monkeypatch.setattr(best_average, "read_chosen", refuse)
    said = call(decode.main, run_folder, "--num-workers", "0", "--auto-avg", "1")
    assert said.status == 0, said.err
    assert (
        "using epoch 2 avg 1, not averaged: There is nothing to average in exp for 2." in said.out
    )


@pytest.mark.parametrize(
    ("main", "words"), [(decode.main, ()), (export.main, ("--format", "pretrained"))]
)
def test_where_the_last_epoch_is_cut_the_one_before_it_is_used(
    main: Callable[[list[str]], int], words: tuple[str, ...], run_folder: Path, call: Call
) -> None:
    path = run_folder / "exp" / "epoch-2.pt"
    path.write_bytes(path.read_bytes()[:-1000])
    said = call(main, run_folder, "--num-workers", "0", "--auto-avg", "1", *words)
    assert said.status == 0, said.err
    passed_over, used = (
        line
        for line in (said.out + said.err).splitlines()
        if line.startswith(("epoch 2 is passed over", "using"))
    )
    assert passed_over.startswith("epoch 2 is passed over: exp/epoch-2.pt is cut: ")
    assert used.startswith("using epoch 1 avg 1, not averaged: exp/epoch-2.pt is cut: ")
    (run_folder / "exp" / "epoch-1.pt").write_bytes(b"")
    said = call(main, run_folder, "--num-workers", "0", "--auto-avg", "1", *words)
    assert said.status == 4
    assert "there is no complete epoch to use: epoch 2 is passed over: " in said.err


def test_the_utterances_that_were_decoded_are_counted(run_folder: Path, call: Call) -> None:
    for asked, told in (("3", " (3 utterances)"), ("500", " (8 utterances)")):
        said = call(decode.main, run_folder, *AUTO, "--auto-avg-cuts", asked)
        assert said.status == 0, said.err
        assert f" on dev{told}, greedy_search; see " in said.out


def test_what_cannot_be_chosen_on_is_one_line(run_folder: Path, call: Call) -> None:
    said = call(decode.main, run_folder, *AUTO, "--checkpoint", "exp/epoch-2.pt")
    assert said.status == 2
    assert "--auto-avg 1 has nothing to choose from in one file" in said.error
    cuts_path(run_folder / "data" / "tones" / "fbank", "manifests", "dev").unlink()
    said = call(decode.main, run_folder, *AUTO)
    assert said.status == 3
    assert "--auto-avg 1 needs the dev set: " in said.error
    recipe = run_folder / "tones" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('valid = ["dev"]', 'valid = ["test"]'))
    said = call(decode.main, run_folder, *AUTO)
    assert said.status == 2
    assert "test of tones is a test set, not to be chosen on" in said.error
