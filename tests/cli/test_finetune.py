"""Fine-tuning from the command line: what is taken from the file, what is told, what is refused."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from lhotse import CutSet
from lhotse.utils import fastcopy

from tests.cli.conftest import Call
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.checkpoint.weights import model_state
from zipasr.cli import average, decode, export, train
from zipasr.cli.train import read_training
from zipasr.model.config import TransducerConfig
from zipasr.nn.lora import is_adapter
from zipasr.text.bpe import train_bpe
from zipasr.text.config import BpeConfig
from zipasr.text.tokenizer import Tokenizer
from zipasr.training.metrics import metric_series
from zipasr.training.state import SCHEDULES_DONE

START = ("--do-finetune", "1", "--finetune-ckpt", "exp/epoch-2.pt", "--exp-dir", "fine")
SHORT = ("--num-epochs", "1", "--num-workers", "0", "--rehearse", "0", "--max-duration", "30")
# So small that the weights are those of the start.
STILL = ("--base-lr", "1e-12")


def log_of(exp: Path) -> str:
    return "".join(path.read_text() for path in sorted((exp / "log").iterdir()))


def config_of(exp: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = load_checkpoint(exp / "epoch-1.pt")["configs"][name]
    return found


def assert_close(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], rtol=1e-6, atol=1e-6)


def test_it_begins_with_the_file_and_says_how_good_that_is(run_folder: Path, call: Call) -> None:
    said = call(train.main, run_folder, *START, *SHORT, *STILL)
    assert said.status == 0, said.err
    exp = run_folder / "fine"
    first, last = (
        load_checkpoint(run_folder / "exp/epoch-2.pt"),
        load_checkpoint(exp / "epoch-1.pt"),
    )
    assert_close(first["model"], last["model"])
    # The model is what it was, but in training mode it now has the schedules of a trained one.
    assert last["schedule_start"] == SCHEDULES_DONE
    assert last["shown_schedule_count"] >= SCHEDULES_DONE
    steps, rates = metric_series(exp / "metrics.jsonl", "wer", "valid")
    assert (steps[0], rates[0]) == (0, last["start_wer"])
    assert rates[0] == pytest.approx(first["best_wer"]) or first["best_wer_epoch"] == 1
    (session,) = json.loads((exp / "run.json").read_text())["sessions"]
    assert session["start"]["wer"] == rates[0]
    log = log_of(exp)
    assert f"before fine-tuning, greedy search on dev: WER {rates[0]:.2f} %" in log
    assert f", {rates[0]:.2f} % before fine-tuning" in log
    assert "module " in log
    assert "begins anew" in log


def test_rates_are_low_and_typed_ones_win(run_folder: Path, call: Call) -> None:
    call(train.main, run_folder, *START, *SHORT, "--lr-epochs", "7")
    eden = config_of(run_folder / "fine", "EdenConfig")
    assert (eden["base_lr"], eden["lr_batches"], eden["lr_epochs"]) == (0.0045, 100000.0, 7.0)
    assert eden["warmup_start"] == 0.5
    assert config_of(run_folder / "fine", "LossConfig")["ctc_only_batches"] == 0
    # Everything else is the recipe's.
    assert eden["warmup_batches"] == 5
    assert config_of(run_folder / "fine", "LossConfig")["warm_step"] == 10


def test_the_lattice_is_that_of_the_file_unless_one_is_typed(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_folder)
    model = load_checkpoint(run_folder / "exp/epoch-2.pt")["model"]
    torch.save({"model": model}, run_folder / "pretrained.pt")

    def lattice(file: str, *words: str) -> str:
        start = ["--recipe", "./tones", *START, "--finetune-ckpt", file, *words]
        return read_training(start)[0][TransducerConfig].rnnt_type

    assert lattice("pretrained.pt") == "regular"
    recipe = run_folder / "tones" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('rnnt-type = "constrained"', ""))
    assert lattice("exp/epoch-2.pt") == "constrained"
    assert lattice("exp/epoch-2.pt", "--rnnt-type", "modified") == "modified"


def other_tokens(folder: Path) -> tuple[str, ...]:
    """Make another tokenizer, of fewer tokens."""
    lang = folder / "other"
    train_bpe(["LOW HIGH", "MID TOP", "TOP LOW"], BpeConfig(vocab_size=14, lang_dir=lang))
    return ("--bpe-model", "other/bpe.model")


def test_new_tokens_keep_the_rows_that_both_know(run_folder: Path, call: Call) -> None:
    words = other_tokens(run_folder)
    new = ("--finetune-tokenizer", "new")
    said = call(train.main, run_folder, *START, *SHORT, *STILL, *words, *new)
    assert said.status == 0, said.err
    old, last = (load_checkpoint(run_folder / p) for p in ("exp/epoch-2.pt", "fine/epoch-1.pt"))
    pieces = [Tokenizer.from_bytes(bytes(c["tokenizer"].tolist())).pieces() for c in (old, last)]
    both = [piece for piece in pieces[1] if piece in pieces[0]]
    assert 3 < len(both) < len(pieces[0])
    assert len(pieces[1]) == last["vocab_size"] != old["vocab_size"]
    for name in ("decoder.embedding.weight", "joiner.output_linear.bias", "ctc_output.1.weight"):
        before, after = old["model"][name], last["model"][name]
        assert len(after) == last["vocab_size"]
        for piece in both:
            row = after[pieces[1].index(piece)]
            torch.testing.assert_close(row, before[pieces[0].index(piece)], rtol=1e-5, atol=1e-6)
    assert f"{len(both)} of {len(pieces[1])} tokens are known to the file" in log_of(
        run_folder / "fine"
    )
    # decode.py finds in the checkpoint all that it needs.
    choose = ("--checkpoint", "fine/epoch-1.pt", "--exp-dir", "fine", "--num-workers", "0")
    assert call(decode.main, run_folder, *choose).status == 0


def test_other_tokens_without_a_word_are_refused(run_folder: Path, call: Call) -> None:
    said = call(train.main, run_folder, *START, *other_tokens(run_folder))
    assert said.status == 4
    assert "is not the tokenizer that exp/epoch-2.pt was trained with" in said.error
    assert said.error.endswith("or add --finetune-tokenizer new.")
    assert not (run_folder / "fine").exists()


def respelt(folder: Path, spell: Callable[[str], str]) -> None:
    """Spell the transcripts of the training set anew."""
    path = folder / "data/tones/fbank/manifests_cuts_train.jsonl.gz"
    cuts = [
        cut.map_supervisions(lambda one: fastcopy(one, text=spell(one.text)))
        for cut in CutSet.from_file(path)
    ]
    CutSet.from_cuts(cuts).to_file(path)


def test_text_that_the_tokens_cannot_write_stops_before_the_first_step(
    run_folder: Path, call: Call
) -> None:
    respelt(run_folder, str.lower)
    for dry in ([], ["--dry-run", "1"]):
        said = call(train.main, run_folder, *START, *SHORT, *dry)
        assert said.status == 3
        assert (
            "the tokens of exp/epoch-2.pt cannot write 100 % of the characters"
            in said.error_after_logs
        )
        assert "in 100 % of the transcripts, such as '" in said.error_after_logs
        assert "with --finetune-tokenizer new; or spell the" in said.error_after_logs
        assert said.error_after_logs.endswith("imported with --normalise upper, 0 % are left.")
        assert not list((run_folder / "fine").glob("*.pt"))
    # A training from the beginning has other ways on.
    said = call(train.main, run_folder, *SHORT, "--exp-dir", "anew")
    assert said.status == 3
    assert "the tokens of --bpe-model cannot write 100 % of the characters" in said.error_after_logs
    assert (
        "make tokens of these transcripts: ./prepare.sh --recipe ./tones --stage 3 --force; or"
        in said.error_after_logs
    )
    assert not list((run_folder / "anew").glob("*.pt"))


def test_a_rare_character_is_told_and_trained_past(run_folder: Path, call: Call) -> None:
    numbers = itertools.count()
    respelt(run_folder, lambda text: f"{text}!" if next(numbers) == 0 else text)
    said = call(train.main, run_folder, *START, *SHORT)
    assert said.status == 0, said.err
    log = log_of(run_folder / "fine")
    assert "training transcripts: the tokenizer cannot write " in log
    assert "such as '!' (1): they become <unk>" in log


def test_a_published_file_needs_its_tokenizer_alone(run_folder: Path, call: Call) -> None:
    model = load_checkpoint(run_folder / "exp/epoch-2.pt")["model"]
    torch.save({"model": model}, run_folder / "pretrained.pt")
    words = [*START, *SHORT, *STILL]
    words[words.index("exp/epoch-2.pt")] = "pretrained.pt"
    said = call(train.main, run_folder, *words)
    assert said.status == 0, said.err
    assert_close(model, load_checkpoint(run_folder / "fine/epoch-1.pt")["model"])
    other = other_tokens(run_folder)
    said = call(train.main, run_folder, *words, *other)
    assert said.status == 4
    assert "has a vocabulary of" in said.error
    new = (*other, "--finetune-tokenizer", "new", "--exp-dir", "anew", "--dry-run")
    said = call(train.main, run_folder, *words, *new, "--lora-rank", "2")
    assert said.status == 0
    assert " of them are trained" in said.out


def test_named_modules_alone_are_taken(run_folder: Path, call: Call) -> None:
    only = ("--init-modules", "encoder_embed,encoder")
    assert call(train.main, run_folder, *START, *SHORT, *STILL, *only).status == 0
    old, last = (load_checkpoint(run_folder / p) for p in ("exp/epoch-2.pt", "fine/epoch-1.pt"))
    names = [name for name in old["model"] if name.startswith("encoder")]
    assert_close({n: old["model"][n] for n in names}, {n: last["model"][n] for n in names})
    decoder = "decoder.embedding.weight"
    assert not torch.allclose(old["model"][decoder], last["model"][decoder], atol=1e-3)


def test_it_goes_on_in_its_first_epoch_as_if_it_had_not_stopped(
    run_folder: Path, call: Call
) -> None:
    exp = run_folder / "fine"
    flags = (*START, "--num-epochs", "1", "--num-workers", "0", "--save-every-n", "3")
    assert call(train.main, run_folder, *flags).status == 0
    whole = load_checkpoint(exp / "epoch-1.pt")
    for path in [*exp.glob("best-*.pt"), exp / "epoch-1.pt", exp / "checkpoint-6.pt"]:
        path.unlink()
    shutil.rmtree(exp / "log")
    said = call(train.main, run_folder, *flags)
    assert said.status == 0, said.err
    log = log_of(exp)
    assert "continuing from fine/checkpoint-3.pt: epoch 1, 3 of its batches done" in log
    assert "before fine-tuning, greedy" not in log
    parts = load_checkpoint(exp / "epoch-1.pt")
    for entry in ("model", "model_avg"):
        for name, value in whole[entry].items():
            assert torch.equal(value, parts[entry][name]), name
    assert (parts["start_wer"], parts["best_wer"]) == (whole["start_wer"], whole["best_wer"])


def test_frozen_parts_stay_and_a_run_goes_on_with_others_frozen(
    run_folder: Path, call: Call
) -> None:
    fast = ("--base-lr", "0.05", "--freeze")
    said = call(train.main, run_folder, *START, *SHORT, *fast, "encoder_embed,encoder.encoders.0")
    assert said.status == 0, said.err
    old, first = (load_checkpoint(run_folder / p) for p in ("exp/epoch-2.pt", "fine/epoch-1.pt"))

    def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
        return {".".join(n.split(".")[:3]) for n in before if not torch.equal(before[n], after[n])}

    moved = changed(old["model"], first["model"])
    assert {"encoder.encoders.1", "decoder.embedding.weight"} <= moved
    assert not any(name.startswith(("encoder_embed", "encoder.encoders.0")) for name in moved)
    words = (*START, *SHORT[2:], "--num-epochs", "2", *fast, "decoder,joiner")
    said = call(train.main, run_folder, *words)
    assert said.status == 0, said.err
    moved = changed(first["model"], load_checkpoint(run_folder / "fine/epoch-2.pt")["model"])
    assert {"encoder.encoders.0", "encoder.encoders.1"} <= moved
    assert not any(name.startswith(("decoder", "joiner")) for name in moved)
    assert "the optimizer begins anew for encoder_embed" in log_of(run_folder / "fine")


def test_adapters_are_trained_alone_and_decoded_as_a_plain_model(
    run_folder: Path, call: Call
) -> None:
    lora = ("--lora-rank", "2", "--base-lr", "0.05", "--save-every-n", "1")
    lora += ("--average-period", "1")
    said = call(train.main, run_folder, *START, *SHORT, *lora)
    assert said.status == 0, said.err
    exp = run_folder / "fine"
    old, last = (load_checkpoint(run_folder / p) for p in ("exp/epoch-2.pt", "fine/epoch-1.pt"))
    names = {name for name in last["model"] if is_adapter(name)}
    assert names
    for name, value in last["model"].items():
        if name in old["model"]:
            assert torch.equal(value, old["model"][name]), name
    plain = model_state(last)
    assert plain.keys() == old["model"].keys()
    moved = {
        name for name in plain if not torch.allclose(plain[name], old["model"][name], atol=1e-5)
    }
    assert moved
    assert all("self_attn" in name or "feed_forward" in name for name in moved)
    # It goes on, to the same bits.
    newest = max(exp.glob("checkpoint-*.pt"), key=lambda path: path.name)
    for path in (*exp.glob("best-*.pt"), exp / "epoch-1.pt", newest):
        path.unlink()
    assert call(train.main, run_folder, *START, *SHORT, *lora).status == 0
    again = load_checkpoint(exp / "epoch-1.pt")
    assert all(torch.equal(value, again["model"][name]) for name, value in last["model"].items())
    one = ("--exp-dir", "fine", "--num-workers", "0", "--checkpoint", "fine/epoch-1.pt")
    assert call(decode.main, run_folder, *one).status == 0
    # So does whoever gets an export: its weights are those that the adapters make of the old ones.
    formats = ("--format", "pretrained,torchscript", "--output-dir", "shipped")
    assert call(export.main, run_folder, *one, *formats).status == 0
    shipped = load_checkpoint(run_folder / "shipped" / "pretrained.pt")["model"]
    assert_close(plain, shipped)
    scripted = torch.jit.load(run_folder / "shipped" / "jit_script.pt").state_dict()
    layer = next(name for name in moved if name.startswith("encoder.encoders"))
    assert torch.equal(scripted[f"encoder.{layer}"], shipped[layer])
    pair = ("--exp-dir", "fine", "--iter", "99", "--avg", "1")
    assert call(average.main, run_folder, *pair).status == 0
    written = load_checkpoint(exp / "iter-99-avg-1.pt")["model"]
    assert {n: (t.shape, t.dtype) for n, t in written.items()} == {
        n: (t.shape, t.dtype) for n, t in old["model"].items()
    }


BAD: list[tuple[Sequence[str], int, str]] = [
    (["--do-finetune", "1"], 2, "--do-finetune 1 needs a model to begin with: --finetune-ckpt"),
    (["--finetune-ckpt", "exp/epoch-2.pt"], 2, "is not used without --do-finetune 1"),
    ([*START, "--start-epoch", "2"], 2, "--do-finetune 1 begins anew, --start-epoch 2 goes on"),
    ([*START, "--finetune-ckpt", "no.pt"], 4, "no.pt"),
    ([*START, "--finetune-ckpt", "junk.pt"], 4, "junk.pt"),
    ([*START, "--finetune-ckpt", "alien.pt"], 4, "alien.pt"),
    (
        [*START, "--encoder-dim", "32,48"],
        4,
        "--encoder-dim 32,48 was asked for, but exp/epoch-2.pt",
    ),
    ([*START, "--encoder-type", "zipformer1"], 4, "--encoder-type zipformer1 was asked for, but"),
    ([*START, "--finetune-ckpt", "ctc.pt", "--use-transducer", "1"], 4, "--use-transducer 1"),
    ([*START, "--use-mux", "1"], 2, "--use-mux 1 mixes nothing in"),
    (["--init-modules", "encoder"], 2, "--init-modules says what to take from --finetune-ckpt"),
    ([*START, "--finetune-tokenizer", "other"], 2, "invalid choice: 'other'"),
    ([*START, "--init-modules", "encodr"], 2, "did you mean 'encoder'?"),
    ([*START, "--freeze", "encoder,joinr"], 2, "Cannot freeze 'joinr'"),
    ([*START, "--freeze", "*"], 2, "nothing is left to train"),
    ([*START, "--lora-alpha", "4"], 2, "--lora-alpha goes with --lora-rank"),
    (["--lora-rank", "4"], 2, "--lora-rank adapts a model: add --finetune-ckpt FILE"),
    ([*START, "--lora-rank", "4", "--lora-modules", "joinr"], 2, "no such linear layer"),
]


@pytest.fixture(scope="module")
def with_bad_files(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ``trained`` with files that are no model to begin with."""
    folder = tmp_path_factory.mktemp("bad") / "run"
    shutil.copytree(trained, folder)
    (folder / "junk.pt").write_bytes(b"junk")
    torch.save({"model": {"layer.weight": torch.zeros(2, 2)}}, folder / "alien.pt")
    model = load_checkpoint(folder / "exp/epoch-2.pt")["model"]
    heads = ("decoder.", "joiner.", "simple_")
    left = {name: value for name, value in model.items() if not name.startswith(heads)}
    torch.save({"model": left}, folder / "ctc.pt")
    return folder


@pytest.mark.parametrize(("words", "status", "message"), BAD)
def test_what_cannot_be_is_one_line(
    words: Sequence[str], status: int, message: str, with_bad_files: Path, call: Call
) -> None:
    said = call(train.main, with_bad_files, "--num-workers", "0", *words)
    assert said.status == status
    assert message in said.err.splitlines()[-1]
    assert said.err.splitlines()[-1].startswith("error: ")
    assert not list(with_bad_files.glob("fine/*.pt"))
