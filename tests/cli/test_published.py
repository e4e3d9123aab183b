"""Decoding of what icefall leaves: plain files, without our settings and tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import tones
from tests.cli.conftest import Call
from zipasr.checkpoint.checkpoint_file import load_checkpoint
from zipasr.cli import average, decode
from zipasr.text.bpe import train_bpe
from zipasr.text.config import BpeConfig

HERE = ("--num-workers", "0")
ONE = ("--checkpoint", "exp/pretrained.pt")
ABOUT = (
    r"exp/pretrained.pt: Zipformer with 1,1 layers of 32,40 channels, non-causal, "
    r"\d+\.\d k parameters, transducer \+ CTC, vocabulary 18"
)

Content = dict[str, Any]


def icefall_flags() -> dict[str, Any]:
    """The model flags of ``tones`` as icefall's train.py would have kept them."""
    wanted = "encoder-dim|num-encoder|downsampling|feedforward|head|pos-dim|unmasked|cnn|dec|join"
    lines = [line.split(" = ") for line in tones.FLAGS.strip().splitlines()]
    flags = {name: value.strip('"') for name, value in lines if re.search(wanted, name)}
    found: dict[str, Any] = {name.replace("-", "_"): value for name, value in flags.items()}
    for name in ("pos_dim", "decoder_dim", "joiner_dim"):
        found[name] = int(found[name])
    more = {"use_transducer": True, "use_ctc": True, "causal": False, "context_size": 2}
    return found | more | {"chunk_size": "16,32,64,-1", "exp_dir": Path("zipformer/exp")}


def plain(run_folder: Path, of: Callable[[dict[str, Tensor]], Content]) -> Path:
    """Write the weights of epoch 2 to pretrained.pt, as ``of`` arranges them."""
    exp = run_folder / "exp"
    torch.save(of(load_checkpoint(exp / "epoch-2.pt")["model"]), exp / "pretrained.pt")
    return exp


def only_weights(model: dict[str, Tensor]) -> Content:
    return {"model": model}


def with_flags(model: dict[str, Tensor]) -> Content:
    return {"model": {f"module.{k}": v for k, v in model.items()}, **icefall_flags()}


def recogs(exp: Path, name: str) -> str:
    (found,) = (exp / "greedy_search").glob(f"recogs-test-{name}*")
    return found.read_text()


@pytest.fixture
def expected(run_folder: Path, call: Call) -> str:
    """What our own checkpoint of epoch 2 recognises."""
    assert call(decode.main, run_folder, *HERE, "--use-averaged-model", "0").status == 0
    return recogs(run_folder / "exp", "epoch-2_avg-1_")


@pytest.mark.parametrize(
    ("of", "note"),
    [
        (only_weights, "sizes are read off the weights; the file does not say them"),
        (dict, "sizes are read off the weights; the file does not say them"),
        (
            lambda model: {f"module.{k}": v for k, v in model.items()},
            "taken as --num-heads 2 --query-head-dim 8 --value-head-dim 8 --pos-head-dim 4",
        ),
        (with_flags, "sizes are read off the weights, and agree with the flags in the file"),
    ],
    ids=["model", "bare", "wrapped", "flags"],
)
def test_one_file_decodes_without_model_flags(
    of: Callable[[dict[str, Tensor]], Content],
    note: str,
    expected: str,
    run_folder: Path,
    call: Call,
) -> None:
    exp = plain(run_folder, of)
    said = call(decode.main, run_folder, *HERE, *ONE)
    assert said.status == 0, said.err
    first, *others = said.out.splitlines()
    assert re.fullmatch(ABOUT, first)
    assert any(line.endswith(note) for line in others)
    assert (of is with_flags) != ("do not tell the number" in said.out)
    assert recogs(exp, "pretrained_context-2_max-sym-per-frame-1.txt") == expected
    (log,) = (exp / "greedy_search").glob("log-decode-pretrained_*")
    assert first in log.read_text()


def test_a_folder_of_icefall_decodes_as_its_users_do_it(
    expected: str, run_folder: Path, call: Call
) -> None:
    exp = plain(run_folder, only_weights)
    (exp / "epoch-99.pt").symlink_to("pretrained.pt")
    words = ["--epoch", "99", "--avg", "1", "--use-averaged-model", "0"]
    said = call(decode.main, run_folder, *HERE, *words)
    assert said.status == 0, said.err
    assert said.out.startswith("exp/epoch-99.pt: Zipformer with 1,1 layers")
    assert recogs(exp, "epoch-99_avg-1_") == expected


def test_checkpoints_of_icefall_are_averaged(run_folder: Path, call: Call) -> None:
    exp = run_folder / "exp"
    assert call(decode.main, run_folder, *HERE).status == 0
    expected = recogs(exp, "epoch-2_avg-1_")
    for path in (exp / "epoch-1.pt", exp / "epoch-2.pt"):
        ours = load_checkpoint(path)
        kept = ("model", "model_avg", "optimizer", "scheduler", "batch_idx_train", "average_period")
        theirs = {name: ours[name] for name in kept} | icefall_flags()
        theirs["model_avg"] = {k: v.float() for k, v in ours["model_avg"].items()}
        torch.save(theirs, path)
    assert call(decode.main, run_folder, *HERE).status == 0
    assert recogs(exp, "epoch-2_avg-1_") == expected

    assert call(average.main, run_folder).status == 0
    words = ("--checkpoint", "exp/epoch-2-avg-1.pt")
    said = call(decode.main, run_folder, *HERE, *words)
    assert "agree with the flags in the file" in said.out
    assert recogs(exp, "epoch-2-avg-1_") == expected


def test_flags_that_agree_with_the_weights_settle_the_heads(run_folder: Path, call: Call) -> None:
    plain(run_folder, only_weights)
    words = ["--num-heads", "2", "--query-head-dim", "8", "--encoder-dim", "32,40"]
    said = call(decode.main, run_folder, *HERE, *ONE, *words, "--encoder-unmasked-dim", "24,32")
    assert said.status == 0, said.err
    assert "number of attention heads" not in said.out


def without_heads(model: dict[str, Tensor]) -> Content:
    return {"model": {k: v for k, v in model.items() if k.startswith("encoder")}}


def of_another_vocabulary(model: dict[str, Tensor]) -> Content:
    changed = {k: torch.cat([v, v]) if v.size(0) == 18 else v for k, v in model.items() if v.dim()}
    return {"model": model | changed}


def of_lying_flags(model: dict[str, Tensor]) -> Content:
    return {"model": model, **icefall_flags(), "encoder_dim": "32,64", "num_heads": "3"}


def without_a_bias(model: dict[str, Tensor]) -> Content:
    return {"model": {k: v for k, v in model.items() if k != "joiner.output_linear.bias"}}


def test_flags_that_contradict_the_weights_name_both_models(run_folder: Path, call: Call) -> None:
    plain(run_folder, only_weights)
    said = call(decode.main, run_folder, *HERE, *ONE, "--encoder-dim", "32,48")
    assert said.status == 4
    parts = [
        r"--encoder-dim 32,48 was asked for, but exp/pretrained.pt was trained with 32,40\. ",
        r"The flags describe a Zipformer with 1,1 layers of 32,48 channels, non-causal, [^;]*, ",
        r"the file holds a Zipformer with 1,1 layers of 32,40 channels, non-causal, [^;]*; ",
        r"\d+ tensors differ: ",
        r"encoder\.encoders\.1\.\S+ is \(40,\) in the file and \(48,\) by the flags, ",
        r"encoder\.encoders\.1\.\S+ is .*, encoder\.encoders\.1\.\S+ is .* and others\. ",
        r"Fix: leave --encoder-dim out",
    ]
    assert re.search("".join(parts), said.error)


@pytest.mark.parametrize(
    ("of", "words", "status", "message"),
    [
        (
            only_weights,
            ["--downsampling-factor", "1,2,4,8,4,2", "--num-encoder-layers", "2,2,3,4,3,2"],
            4,
            "The flags describe a Zipformer medium, non-causal, ",
        ),
        (only_weights, ["--pos-dim", "15"], 2, "--pos-dim must be even"),
        (only_weights, ["--causal", "1"], None, "--causal 1 "),
        (only_weights, ["--chunk-size", "16"], 4, "--chunk-size 16 is for streaming models"),
        (only_weights, ["--bpe-model", "no/bpe.model"], 3, "no tokenizer at no/bpe.model."),
        (
            of_another_vocabulary,
            [],
            4,
            "exp/pretrained.pt has a vocabulary of 36, but the tokenizer "
            "data/tones/lang_bpe/bpe.model has 18 tokens. Fix: give --bpe-model",
        ),
        (without_heads, [], 4, "exp/pretrained.pt holds the encoder of a Zipformer without a head"),
        (
            of_lying_flags,
            [],
            4,
            "exp/pretrained.pt contradicts itself: its flags say num_heads 3, encoder_dim 32,64,",
        ),
        (without_a_bias, [], 4, "1 tensor differs: joiner.output_linear.bias (18,) is not in the"),
        (lambda _: {"optimizer": {}, "sampler": {}}, [], 4, "it holds 'optimizer', 'sampler'."),
        (lambda _: {"input_embedding.weight": torch.ones(2)}, [], 4, "holds a language model, not"),
    ],
)
def test_a_plain_file_that_cannot_be_decoded_is_one_line(
    of: Callable[[dict[str, Tensor]], Content],
    words: list[str],
    status: int | None,
    message: str,
    run_folder: Path,
    call: Call,
) -> None:
    exp = plain(run_folder, of)
    said = call(decode.main, run_folder, *HERE, *ONE, *words)
    assert said.status == status or (status is None and said.status in (2, 4))
    assert message in said.error
    assert said.out == ""
    assert not (exp / "greedy_search").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[:-1], "exp/pretrained.pt is cut: it has "),
        (lambda whole: whole[:2000], "exp/pretrained.pt is cut: it has 2000 bytes"),
        (lambda whole: b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer"),
        (lambda whole: b"", "exp/pretrained.pt is empty"),
    ],
)
def test_a_damaged_file_is_one_line(
    damage: Callable[[bytes], bytes], message: str, run_folder: Path, call: Call
) -> None:
    path = plain(run_folder, only_weights) / "pretrained.pt"
    path.write_bytes(damage(path.read_bytes()))
    said = call(decode.main, run_folder, *HERE, *ONE)
    assert said.status == 4
    assert message in said.error


def test_a_single_file_that_is_found_is_proposed(run_folder: Path, call: Call) -> None:
    exp = plain(run_folder, only_weights)
    for path in exp.glob("*-*.pt"):
        path.unlink()
    said = call(decode.main, run_folder, *HERE)
    assert "exp has no checkpoints but exp/pretrained.pt, which decode.py --checkpoint takes" in (
        said.error
    )


def test_one_file_is_no_average(run_folder: Path, call: Call) -> None:
    said = call(average.main, run_folder, *ONE)
    assert said.status == 2
    assert "--checkpoint exp/pretrained.pt: one file has no average." in said.error


def test_a_typed_tokenizer_must_be_that_of_the_checkpoint(run_folder: Path, call: Call) -> None:
    usual = run_folder / "data" / "tones" / "lang_bpe" / "bpe.model"
    (run_folder / "same.model").write_bytes(usual.read_bytes())
    assert call(decode.main, run_folder, *HERE, "--bpe-model", "same.model").status == 0
    train_bpe(["OTHER WORDS", "WORDS"], BpeConfig(lang_dir=run_folder / "other", vocab_size=12))
    said = call(decode.main, run_folder, *HERE, "--bpe-model", "other/bpe.model")
    assert said.status == 4
    assert "--bpe-model other/bpe.model (12 tokens) is not the tokenizer that exp/epoch-2.pt" in (
        said.error
    )


def test_a_typed_tokenizer_is_compared_though_it_is_where_the_recipe_has_it(
    run_folder: Path, call: Call
) -> None:
    usual = "data/tones/lang_bpe"
    train_bpe(["OTHER WORDS", "WORDS"], BpeConfig(lang_dir=run_folder / usual, vocab_size=12))
    assert call(decode.main, run_folder, *HERE).status == 0
    said = call(decode.main, run_folder, *HERE, "--bpe-model", f"{usual}/bpe.model")
    assert said.status == 4
    assert f"--bpe-model {usual}/bpe.model (12 tokens) is not the tokenizer that exp/" in said.error
