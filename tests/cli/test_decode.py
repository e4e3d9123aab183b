"""From checkpoints to result files: what a user types after the training."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lhotse import CutSet, MonoCut, SupervisionSet
from torch import Tensor

from tests import margins, speaking_model, tones
from tests.cli.conftest import Call
from tests.margins import Scorer
from zipasr.checkpoint.checkpoint_file import load_checkpoint, save_checkpoint
from zipasr.cli import average, decode, export, transcribe
from zipasr.cli.command_flags import read
from zipasr.cli.recognition_commands import DECODE, recognition_config
from zipasr.data.config import cuts_path
from zipasr.encoder.protocol import Geometry
from zipasr.nn.numerics import has_bfloat16
from zipasr.recognition.acoustic_model import AcousticModel
from zipasr.recognition.method_sweep import warnings_about
from zipasr.recognition.recogniser import load_recogniser
from zipasr.scoring.result_files import ResultRow
from zipasr.scoring.word_errors import WordErrors

NAMES = {
    "greedy_search": "epoch-2_avg-1_context-2_max-sym-per-frame-1_use-averaged-model",
    "modified_beam_search": "epoch-2_avg-1__modified_beam_search__beam-size-4_use-averaged-model",
    "ctc_greedy_search": "epoch-2_avg-1_use-averaged-model",
    "ctc-greedy-search": "epoch-2_avg-1_use-averaged-model",
    "ctc-decoding": "epoch-2_avg-1_use-averaged-model",
    "ctc-prefix-beam-search": "epoch-2_avg-1__ctc-prefix-beam-search__beam-size-4"
    "_use-averaged-model",
    "beam_search": "epoch-2_avg-1__beam_search__beam-size-4_use-averaged-model",
    "fast_beam_search": "epoch-2_avg-1_beam-20.0_max-contexts-8_max-states-64_use-averaged-model",
}
KEYS = {
    "modified_beam_search": "modified_beam_search_beam-size-4",
    "ctc-prefix-beam-search": "ctc-prefix-beam-search_beam-size-4",
    "beam_search": "beam_search_beam-size-4",
    "fast_beam_search": "fast_beam_search_beam-20.0_max-contexts-8_max-states-64",
}
# Reading in this process: starting another one takes longer than the work.
HERE = ("--num-workers", "0")


def edit_distance(ref: list[str], hyp: list[str]) -> int:
    costs = list(range(len(hyp) + 1))
    for row, word in enumerate(ref, start=1):
        before, costs[0] = costs[0], row
        for column, other in enumerate(hyp, start=1):
            best = min(costs[column] + 1, costs[column - 1] + 1, before + (word != other))
            before, costs[column] = costs[column], best
    return costs[-1]


def read_recogs(path: Path) -> list[tuple[str, list[str], list[str]]]:
    lines = [line.split(":\t") for line in path.read_text().splitlines()]
    assert all(ref[0] == hyp[0] for ref, hyp in zip(lines[::2], lines[1::2], strict=True))
    return [
        (ref[0], ast.literal_eval(ref[1].removeprefix("ref=")), ast.literal_eval(hyp[1][4:]))
        for ref, hyp in zip(lines[::2], lines[1::2], strict=True)
    ]


@pytest.mark.parametrize("method", NAMES)
def test_a_method_writes_icefalls_files_and_prints_a_table(
    method: str, run_folder: Path, call: Call
) -> None:
    said = call(decode.main, run_folder, *HERE, "--decoding-method", method)
    assert said.status == 0, said.err
    folder = run_folder / "exp" / method
    suffix = f"test-{NAMES[method]}"
    recogs = read_recogs(folder / f"recogs-{suffix}.txt")
    texts = SupervisionSet.from_file(run_folder / "source" / "test_supervisions.jsonl.gz")
    assert {cut_id.split("-0")[0] for cut_id, _, _ in recogs} == {"test"}
    assert [ref for _, ref, _ in recogs] == [one.text.split() for one in texts]
    assert [cut_id for cut_id, _, _ in recogs] == sorted(cut_id for cut_id, _, _ in recogs)

    errors = sum(edit_distance(ref, hyp) for _, ref, hyp in recogs)
    words = sum(len(ref) for _, ref, _ in recogs)
    rate = f"{100 * errors / words:.2f}"
    assert (folder / f"errs-{suffix}.txt").read_text().startswith(f"%WER = {rate}\nErrors: ")
    summary = (folder / f"wer-summary-{suffix}.txt").read_text()
    assert summary == f"settings\tWER\n{KEYS.get(method, method)}\t{rate}\n"

    head, _, row = said.out.splitlines()
    assert re.split(r"  +", head) == [
        "set", "method", "WER %", "ins", "del", "sub", "ref words", "RTF",
    ]  # fmt: skip
    name, shown, wer, ins, dels, subs, ref_words, rtf = row.split()
    assert (name, shown, wer, int(ref_words)) == ("test", method, rate, words)
    assert int(ins) + int(dels) + int(subs) == errors
    assert float(rtf) > 0

    (log,) = folder.glob(f"log-decode-{NAMES[method]}-20*")
    assert f"%WER {rate}% [{errors} / {words}, {ins} ins, {dels} del, {subs} sub ]" in (
        log.read_text()
    )
    (records,) = folder.glob("utterances-test-*.jsonl")
    first = json.loads(records.read_text().splitlines()[0])
    assert first["duration"] > 0
    assert len(first["tokens"]) == len(first["times"])
    assert Path(first["audio"]).is_file()
    report = (run_folder / "exp" / "report.html").read_text()
    assert f"<strong>{rate}</strong>" in report


def test_hot_words_are_read_and_name_the_files(run_folder: Path, call: Call) -> None:
    words = ("--decoding-method", "modified_beam_search", "--context-file", "hot.txt")
    (run_folder / "hot.txt").write_text("TOP :20\n\nHIGH LOW\nMÜNCHEN\n", encoding="utf-8")
    said = call(decode.main, run_folder, *HERE, *words, "--blank-penalty", "3")
    assert said.status == 0, said.err
    folder = run_folder / "exp" / "modified_beam_search"
    search = "__modified_beam_search__beam-size-4-context-score-2.0_blank-penalty-3.0"
    name = f"epoch-2_avg-1{search}_use-averaged-model"
    assert read_recogs(folder / f"recogs-test-{name}.txt")
    setting = json.loads((folder / f"setting-test-{name}.json").read_text())
    assert setting["hot_words"] == ["TOP", "HIGH", "LOW", "MÜNCHEN"]
    (log,) = folder.glob(f"log-decode-{name}-*")
    assert re.search(
        r"\[test\] B-WER \d+[.]\d\d% [(]\d+ words of the hot-words[)]", log.read_text()
    )
    assert (
        "modified_beam_search_beam-size-4_context-score-2.0\t"
        in (folder / f"wer-summary-test-{name}.txt").read_text()
    )
    (run_folder / "hot.txt").unlink()
    said = call(decode.main, run_folder, *HERE, *words)
    assert (said.status, "--context-file hot.txt does not exist" in said.error) == (3, True)


def test_methods_are_compared_on_dev_and_the_best_decodes_test(
    run_folder: Path, call: Call
) -> None:
    methods = "greedy_search,ctc-greedy-search,modified_beam_search_lm_rescore"
    said = call(decode.main, run_folder, *HERE, "--methods", methods, "--blank-penalty", "1")
    assert said.status == 0, said.err
    lines = said.out.splitlines()
    assert [line.split()[:2] for line in lines[2:4]] == [
        ["dev", "greedy_search"],
        ["dev", "ctc-greedy-search"],
    ]
    best = min(lines[2:4], key=lambda line: float(line.split()[2])).split()[1]
    assert lines[4].startswith(f"--methods chose {best}: WER ")
    assert lines[7].split()[:2] == ["test", best]
    (table,) = (run_folder / "exp").glob("methods-dev-*.txt")
    assert table.read_text().splitlines() == lines[:5]
    assert [path.name for path in (run_folder / "exp").glob("*search")] == [best]


def test_a_beam_that_is_worse_than_greedy_is_told() -> None:
    def row(method: str, ins: int, dels: int, subs: int) -> ResultRow:
        return ResultRow("dev", method, WordErrors(ins, dels, subs, 100), 0.1)

    rows = {
        "greedy_search": row("greedy_search", 5, 5, 90),
        "fast_beam_search": row("fast_beam_search", 5, 5, 92),
        "modified_beam_search": row("modified_beam_search", 5, 8, 90),
        "ctc-prefix-beam-search": row("ctc-prefix-beam-search", 50, 80, 90),
    }
    (line,) = warnings_about(rows)
    assert line.startswith("modified_beam_search makes 103 errors, greedy search 100: more words")
    assert "--blank-penalty 1" in line


def test_the_command_as_a_user_types_it(run_folder: Path) -> None:
    # Tokenizer and recipe's model flags are not needed: the checkpoint has them.
    shutil.rmtree(run_folder / "data" / "tones" / "lang_bpe")
    recipe = run_folder / "tones" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('encoder-dim = "32,40"', 'encoder-dim = "64,64"'))
    done = tones.run(run_folder, "decode.py", "--test-sets", "test,dev")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == ["test", "dev"]
    assert all(
        " INFO " in line or "WER" in line or "\t" in line for line in done.stderr.splitlines()
    )
    assert len(list((run_folder / "exp" / "greedy_search").glob("recogs-*"))) == 2


@pytest.mark.skipif(
    not has_bfloat16(torch.device("cpu")), reason="this processor is slow at bfloat16"
)
def test_half_precision_finds_the_same_words_and_keeps_results_apart(
    run_folder: Path, call: Call
) -> None:
    speaking_model.make_talkative(run_folder)
    # Each utterance alone, as it is judged.
    flags = (*HERE, "--use-averaged-model", "0", "--max-duration", "0.1")
    assert call(decode.main, run_folder, *flags).status == 0
    assert call(decode.main, run_folder, *flags, "--use-bf16", "1").status == 0
    folder = run_folder / "exp" / "greedy_search"
    paths = sorted(folder.glob("utterances-test-*"), key=lambda path: "_bf16" in path.name)
    assert ["_bf16" in path.name for path in paths] == [False, True]
    words = ["--recipe", "./tones", *flags, "--use-bf16"]
    exact, half = (
        load_recogniser(recognition_config(read(DECODE, [*words, value]))) for value in "01"
    )
    cuts = {cut.id: cut for cut in load(cuts_path(Path("data/tones/fbank"), "manifests", "test"))}

    def scorers(name: str) -> tuple[Scorer, Scorer]:
        features = torch.from_numpy(cuts[name].load_features())
        return margins.in_float64(exact.acoustics.model, features), margins.of_recogniser(
            half, features
        )

    pieces = exact.tokenizer.pieces()
    ours, theirs = (margins.found_by_decode(path, pieces) for path in paths)
    assert all(found.tokens for found in ours.values())
    margins.check_agree(ours, theirs, scorers, "greedy_search")


def test_without_scoring_only_transcripts_are_written(run_folder: Path, call: Call) -> None:
    said = call(decode.main, run_folder, *HERE, "--skip-scoring", "1")
    assert (said.status, said.out) == (0, "")
    folder = run_folder / "exp" / "greedy_search"
    assert {path.name.split("-")[0] for path in folder.iterdir()} == {"recogs", "log"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--encoder-dim", "32,48"], "--encoder-dim 32,48 was asked for"),
        (
            ["--encoder-dim", "32,48"],
            "exp/epoch-2.pt was trained with 32,40. The flags describe a ",
        ),
        (["--encoder-dim", "32,48"], "bypass_scale is (40,) in the file and (48,) by the flags"),
        (
            ["--encoder-dim", "32,48", "--use-ctc", "0"],
            "--encoder-dim 32,48 --use-ctc 0 were asked for, but exp/epoch-2.pt was trained with "
            "--encoder-dim 32,40 --use-ctc 1.",
        ),
        (
            ["--num-heads", "4"],
            "--num-heads 4 was asked for, but exp/epoch-2.pt was trained with 2.",
        ),
        (
            ["--chunk-size", "16"],
            "--chunk-size 16 is for streaming models, which exp/epoch-2.pt is",
        ),
        (["--use-ctc", "0"], "--use-ctc 0 was asked for, but exp/epoch-2.pt was trained with 1."),
        (["--context-size", "1"], "--context-size 1 was asked for"),
        (["--context-size", "1"], "was trained with 2. "),
        (["--context-size", "1"], "Fix: leave --context-size out"),
    ],
)
def test_a_flag_that_contradicts_the_checkpoint_is_an_error(
    words: list[str], message: str, run_folder: Path, call: Call
) -> None:
    said = call(decode.main, run_folder, *HERE, *words)
    assert said.status == 4
    assert message in said.error


def test_a_flag_that_agrees_with_the_checkpoint_is_accepted(run_folder: Path, call: Call) -> None:
    words = ["--encoder-dim", "32,40", "--use-ctc", "true", "--num-heads", "2,2"]
    assert call(decode.main, run_folder, *HERE, *words).status == 0


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--decoding-method", "modifed_beam_search"], 2, "did you mean 'modified_beam_search'?"),
        (["--decoding-method", "zzz"], 2, "choose one of: greedy_search, beam_search, "),
        (["--decoding-method", "nbest"], 3, "there is no word n-gram: no G_3_gram.arpa in data/lm"),
        (["--context-file", "no.txt"], 2, "greedy_search cannot use the hot-words"),
        (["--beam", "0"], 2, "--beam must be above 0"),
        (["--test-sets", "tset"], 2, "--test-sets tset: tones has no such split."),
        (["--test-sets", "tset"], 2, "did you mean 'test'?"),
        (["--epoch", "9"], 4, "exp/epoch-9.pt does not exist; exp has epoch-1.pt, epoch-2.pt"),
        (["--epoch", "1", "--avg", "1"], 4, "--epoch 1 --avg 1 needs a checkpoint before"),
        (["--iter", "2"], 4, "up to --iter 2 are needed, exp has none"),
        (["--exp-dir", "nosuch"], 4, "the folder nosuch does not exist either"),
    ],
)
def test_what_cannot_be_decoded_is_one_line(
    words: list[str], status: int, message: str, run_folder: Path, call: Call
) -> None:
    said = call(decode.main, run_folder, *HERE, *words)
    assert said.status == status
    assert message in said.error
    # Nothing is begun, so nothing is left behind.
    assert not (run_folder / "nosuch").exists()
    assert not [path for path in (run_folder / "exp").iterdir() if path.name.endswith("_search")]


def change(path: Path, **entries: Any) -> None:
    save_checkpoint(path, load_checkpoint(path) | entries)


def without_last_kilobyte(exp: Path) -> None:
    path = exp / "epoch-2.pt"
    path.write_bytes(path.read_bytes()[:-1000])


def of_another_architecture(exp: Path) -> None:
    path = exp / "epoch-2.pt"
    configs = load_checkpoint(path)["configs"]
    configs["zipformer"]["encoder_dim"] = [32, 48]
    change(path, configs=configs)


def mixed_with_another_run(exp: Path) -> None:
    path = exp / "epoch-1.pt"
    wider = load_checkpoint(path)["model_avg"]
    wider["joiner.output_linear.weight"] = torch.zeros(18, 64, dtype=torch.float64)
    change(path, model_avg=wider)


def of_a_newer_version(exp: Path) -> None:
    path = exp / "epoch-2.pt"
    configs = load_checkpoint(path)["configs"]
    configs["heads"]["use_telepathy"] = True
    change(path, configs=configs)


def pointer(exp: Path) -> None:
    (exp / "epoch-2.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_last_kilobyte, "exp/epoch-2.pt is cut"),
        (of_another_architecture, "exp/epoch-2.pt holds another model than the flags describe"),
        (mixed_with_another_run, "joiner.output_linear.weight"),
        (of_a_newer_version, "exp/epoch-2.pt was written by another version"),
        (pointer, "run git lfs pull"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_one_line(
    damage: Any, message: str, run_folder: Path, call: Call
) -> None:
    damage(run_folder / "exp")
    said = call(decode.main, run_folder, *HERE)
    assert said.status == 4
    assert message in said.error


@pytest.mark.parametrize(
    ("words", "suffix"),
    [
        (["--use-averaged-model", "0"], "epoch-2_avg-1_"),
        (["--use-averaged-model", "0", "--avg", "2"], "epoch-2_avg-2_"),
        (["--iter", "16"], "iter-16_avg-1_"),
        (["--iter", "16", "--avg", "2", "--use-averaged-model", "0"], "iter-16_avg-2_"),
    ],
)
def test_checkpoints_are_chosen_as_in_icefall(
    words: list[str], suffix: str, run_folder: Path, call: Call
) -> None:
    said = call(decode.main, run_folder, *HERE, *words)
    assert said.status == 0, said.err
    (recogs,) = (run_folder / "exp" / "greedy_search").glob("recogs-*")
    assert recogs.name.startswith(f"recogs-test-{suffix}")
    assert recogs.name.endswith("use-averaged-model.txt") == ("--use-averaged-model" not in words)


def without_epoch(folder: Path, avg: int) -> None:
    """Let the recipe not say which epoch is used."""
    path = folder / "tones" / "recipe.toml"
    lines = (
        path.read_text().replace("\nepoch = 2\n", "\n").replace("\navg = 1\n", f"\navg = {avg}\n")
    )
    assert lines != path.read_text()
    path.write_text(lines)


def test_without_epoch_the_last_complete_one_decodes(run_folder: Path, call: Call) -> None:
    without_epoch(run_folder, avg=1)
    exp = run_folder / "exp"
    (exp / "epoch-3.pt").write_bytes((exp / "epoch-2.pt").read_bytes()[:-1000])
    assert call(decode.main, run_folder, *HERE, "--epoch", "2").status == 0
    (expected,) = (exp / "greedy_search").glob("recogs-*")
    before = expected.read_text()
    expected.unlink()
    said = call(decode.main, run_folder, *HERE)
    assert said.status == 0, said.err
    lines = said.err.splitlines()
    assert "using --epoch 2 --avg 1: exp ends with epoch 2." in lines
    assert [line for line in lines if line.startswith("epoch 3 is passed over: exp/epoch-3.pt is")]
    assert expected.read_text() == before


@pytest.mark.parametrize(
    ("main", "words", "written"),
    [
        (decode.main, HERE, f"greedy_search/recogs-test-{NAMES['greedy_search']}.txt"),
        (average.main, (), "epoch-2-avg-1.pt"),
        (export.main, ("--format", "pretrained"), "export-epoch-2-avg-1/pretrained.pt"),
    ],
)
def test_a_typed_epoch_is_kept_and_later_ones_are_told(
    main: Callable[[list[str]], int],
    words: tuple[str, ...],
    written: str,
    run_folder: Path,
    call: Call,
) -> None:
    shutil.copy(run_folder / "exp" / "epoch-2.pt", run_folder / "exp" / "epoch-3.pt")
    said = call(main, run_folder, *words)
    assert said.status == 0, said.err
    told = [line for line in said.err.splitlines() if "later epochs" in line]
    assert told == ["--epoch 2 is used, though exp has later epochs, up to 3."]
    assert (run_folder / "exp" / written).exists()


@pytest.mark.parametrize(
    ("main", "words", "written"),
    [
        (decode.main, HERE, "greedy_search/recogs-test-epoch-1_avg-1_*-frame-1.txt"),
        (average.main, (), "epoch-1-avg-1.pt"),
        (export.main, ("--format", "pretrained"), "export-epoch-1-avg-1/pretrained.pt"),
        (transcribe.main, ("source/test/test-000.flac",), "epoch-1.pt"),
    ],
)
def test_a_run_shorter_than_avg_can_be_used(
    main: Callable[[list[str]], int],
    words: tuple[str, ...],
    written: str,
    run_folder: Path,
    call: Call,
) -> None:
    without_epoch(run_folder, avg=2)
    (run_folder / "exp" / "epoch-2.pt").unlink()
    said = call(main, run_folder, *words)
    assert said.status == 0, said.err
    flags = "--epoch 1 --avg 1 --use-averaged-model 0"
    line = f"using {flags}: exp ends with epoch 1, too few for --avg 2."
    assert line in said.err.splitlines()
    assert [*(run_folder / "exp").glob(written)]


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (decode.main, HERE),
        (average.main, ()),
        (transcribe.main, ("source/test/test-000.flac",)),
    ],
)
def test_a_typed_epoch_lowers_the_avg_of_the_recipe_and_not_a_typed_one(
    main: Callable[[list[str]], int], words: tuple[str, ...], run_folder: Path, call: Call
) -> None:
    without_epoch(run_folder, avg=17)
    said = call(main, run_folder, *words, "--epoch", "2")
    assert said.status == 0, said.err
    line = "using --epoch 2 --avg 1: exp is used up to epoch 2, too few for --avg 17."
    assert line in said.err.splitlines()
    said = call(main, run_folder, *words, "--epoch", "2", "--avg", "17")
    assert said.status == 4
    assert "--epoch 2 --avg 17 needs a checkpoint before the first epoch" in said.error


def test_an_average_that_was_written_to_a_file_decodes_the_same(
    run_folder: Path, call: Call
) -> None:
    exp = run_folder / "exp"
    assert call(decode.main, run_folder, *HERE).status == 0
    (expected,) = (exp / "greedy_search").glob("recogs-*")
    said = call(average.main, run_folder)
    assert (said.status, said.out) == (0, "exp/epoch-2-avg-1.pt\n")
    (exp / "epoch-2-avg-1.pt").rename(exp / "epoch-99.pt")
    words = ["--epoch", "99", "--avg", "1", "--use-averaged-model", "0"]
    assert call(decode.main, run_folder, *HERE, *words).status == 0
    (found,) = (exp / "greedy_search").glob("recogs-test-epoch-99_avg-1_*")
    assert found.read_text() == expected.read_text()


def test_an_average_beside_the_checkpoints_does_not_stop_the_training(
    run_folder: Path, call: Call
) -> None:
    exp = run_folder / "exp"
    for name in ("epoch-2-avg-15.pt", "epoch-99.pt"):
        assert call(average.main, run_folder).status == 0
        (exp / "epoch-2-avg-1.pt").rename(exp / name)
    done = tones.run(run_folder, "train.py")
    assert done.returncode == 0, done.stderr
    assert "exp/epoch-99.pt is a model alone, training cannot go on from it" in done.stderr
    assert "continuing from exp/epoch-2.pt" in done.stderr


@pytest.mark.parametrize("alone", [True, False])
def test_an_utterance_too_short_for_the_encoder_is_decoded(
    alone: bool, run_folder: Path, call: Call
) -> None:
    path = cuts_path(run_folder / "data" / "tones" / "fbank", "manifests", "test")
    cuts = list(CutSet.from_file(path))
    short = cuts[0].truncate(duration=0.05, preserve_id=True)
    short.supervisions[0].duration = short.duration
    assert short.num_frames < Geometry().min_frames
    others = [] if alone else cuts[1:]
    CutSet.from_cuts([short, *others]).to_file(path)
    for method in NAMES:
        said = call(decode.main, run_folder, *HERE, "--decoding-method", method)
        assert said.status == 0, said.err
        recogs = read_recogs(run_folder / "exp" / method / f"recogs-test-{NAMES[method]}.txt")
        assert len(recogs) == 1 + len(others)
        assert short.id in [cut_id for cut_id, _, _ in recogs]


def test_missing_features_are_told_before_anything_is_decoded(run_folder: Path, call: Call) -> None:
    cuts_path(run_folder / "data" / "tones" / "fbank", "manifests", "dev").unlink()
    said = call(decode.main, run_folder, *HERE, "--test-sets", "test,dev")
    assert said.status == 3
    assert "cuts_dev.jsonl.gz does not exist. Fix: run ./prepare.sh" in said.error
    assert not (run_folder / "exp" / "greedy_search").exists()


def test_words_can_be_compared_in_one_spelling(run_folder: Path, call: Call) -> None:
    said = call(decode.main, run_folder, *HERE)
    assert "words are compared as they are written" in said.err
    counts = said.out.splitlines()[-1].split()[2:-1]
    path = cuts_path(run_folder / "data" / "tones" / "fbank", "manifests", "test")
    cuts = [change_text(cut, lambda text: text.lower().replace(" ", ", ")) for cut in load(path)]
    CutSet.from_cuts(cuts).to_file(path)
    said = call(decode.main, run_folder, *HERE, "--score-normalised", "1")
    assert "words are compared in upper case and without punctuation" in said.err
    assert said.out.splitlines()[-1].split()[2:-1] == counts


def test_what_is_case_and_punctuation_is_told(run_folder: Path, call: Call) -> None:
    speaking_model.make_talkative(run_folder)
    flags = (*HERE, "--use-averaged-model", "0")
    call(decode.main, run_folder, *flags)
    (recogs,) = (run_folder / "exp" / "greedy_search").glob("recogs-test-*")
    pattern = r"(\S+):\thyp=\[(.*)\]"
    heard = {
        name: re.findall("'(.*?)'", words)
        for name, words in re.findall(pattern, recogs.read_text())
    }
    path = cuts_path(run_folder / "data" / "tones" / "fbank", "manifests", "test")
    cuts = [
        change_text(cut, lambda _, c=cut: " ".join([*heard[c.id], "x."]).lower())
        for cut in load(path)
    ]
    CutSet.from_cuts(cuts).to_file(path)
    said = call(decode.main, run_folder, *flags)
    (told,) = [line for line in said.err.splitlines() if "case and punctuation" in line]
    assert "WARNING test: " in told
    assert "100.00 % as written" in told
    assert "% in one spelling, which --score-normalised 1 scores" in told
    said = call(decode.main, run_folder, *flags, "--score-normalised", "1")
    assert "case and punctuation" not in said.err


def test_scores_that_are_no_numbers_name_the_model(
    run_folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of weights that are finite and too large for what is computed with them."""

    def overflowed(model: AcousticModel, features: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        frames, found = encode(model, features, lens)
        return frames * torch.inf, found

    encode = AcousticModel.encode
    monkeypatch.setattr(AcousticModel, "encode", overflowed)
    said = call(decode.main, run_folder, *HERE)
    assert said.status == 6
    assert "epoch-2.pt" in said.error_after_logs
    assert ": the model gives scores that are not finite numbers" in said.error_after_logs
    said = call(transcribe.main, run_folder, "source/test/test-000.flac")
    assert "epoch-2.pt" in said.error_after_logs
    assert ": the model gives scores that are not finite numbers" in said.error_after_logs


def load(path: Path) -> list[MonoCut]:
    return list(CutSet.from_file(path))


def change_text(cut: MonoCut, change: Callable[[str], str]) -> MonoCut:
    cut.supervisions[0].text = change(cut.supervisions[0].text)
    return cut


def test_rates_of_a_part_do_not_pass_for_those_of_the_whole(run_folder: Path, call: Call) -> None:
    path = cuts_path(run_folder / "data/tones/fbank", "manifests", "test")
    cuts = list(CutSet.from_file(path))
    cuts[0].features.storage_path = "gone"
    CutSet.from_cuts(cuts).to_file(path)
    said = call(decode.main, run_folder, *HERE)
    assert said.status == 3
    assert said.out.startswith("set ")
    assert (
        f"the results lack utterances that could not be read: 1 of test ({cuts[0].id})" in said.err
    )
    assert f"cut {cuts[0].id} is left out of its batch" in said.err

    cuts[1].supervisions = []
    CutSet.from_cuts(cuts).to_file(path)
    said = call(decode.main, run_folder, *HERE)
    assert said.status == 3
    assert f"cut {cuts[1].id} has 0 transcripts, not one" in said.error_after_logs
