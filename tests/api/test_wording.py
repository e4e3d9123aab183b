"""Errors of the Python API name arguments and functions where those of commands name flags."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import zipasr
from zipasr.api.wording import in_arguments, worded_for_programs
from zipasr.cli.verbs import VERBS

RENAMED = {"exp_dir": "path", "checkpoint": "path", "use_bf16": "precision"}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--beam-size must be at least 1, not 0", "'beam_size' must be at least 1, not 0"),
        ("did you mean '--beam-size'?", "did you mean 'beam_size'?"),
        ("unknown --decoding-method 'beam'.", "unknown decoding_method='beam'."),
        ("--chunk-size 32 is for streams", "chunk_size=32 is for streams"),
        ("give --chunk-size -1.", "give chunk_size=-1."),
        ("train with --use-ctc 1.", "train with use_ctc=True."),
        ("or --lm-type ngram.", "or lm_type='ngram'."),
        ("--epoch or --avg", "'epoch' or 'avg'"),
        ("unrecognized arguments: --beam-sise=4.", "unrecognized arguments: beam_sise=4."),
        ("there is no --tokens my.txt.", "there is no tokens='my.txt'."),
        ("--tokens my.txt, line 1: bad", "tokens='my.txt', line 1: bad"),
        ("--tokens other.txt, line 1: bad", "'tokens' other.txt, line 1: bad"),
        ("give one file with --checkpoint", "give one file with 'path'"),
        ("--use-bf16 1: it computes otherwise", "'precision' 1: it computes otherwise"),
        ("no flag of these: --no-such 1", "no flag of these: --no-such 1"),
        ("exp--old/epoch-1.pt is gone", "exp--old/epoch-1.pt is gone"),
        ("written by train.py.", "written by zipasr.train."),
        ("from train_lm.py, or", "from python -m zipasr train-lm, or"),
        ("run ./decode.py first", "run zipasr.decode first"),
        (
            "make it: ./train_lm.py --lm-type ngram --ngram-order 2, for the same --recipe; or",
            "make it: python -m zipasr train-lm --lm-type ngram --ngram-order 2, for the same "
            "'recipe'; or",
        ),
        (
            "run average.py --auto-avg 1, and give it with --checkpoint.",
            "run python -m zipasr average --auto-avg 1, and give it with 'path'.",
        ),
        ("see ./train.py --help.", "see python -m zipasr train --help."),
        ("load_model --help lists", "python -m zipasr transcribe --help lists"),
        ("load_model: argument --avg:", "load_model: argument 'avg':"),
    ],
)
def test_arguments_stand_where_flags_stood(typed: str, said: str) -> None:
    given = {"tokens": "my.txt", "beam_sise": 4, "recipe": None}
    assert in_arguments(typed, given, RENAMED) == said


def test_a_preparation_is_that_of_the_recipe() -> None:
    """The layers that word the message do not know it."""
    given = {"recipe": "my", "epoch": 3}
    said = in_arguments("run ./prepare.sh --stage 3 first", given)
    assert said == "run python -m zipasr prepare --recipe my --stage 3 first"


def test_the_error_stays_what_it_is() -> None:
    with pytest.raises(zipasr.CheckpointError) as caught, worded_for_programs({"epoch": 3}):
        raise zipasr.CheckpointError("--epoch 3 is not there.", "choose another --epoch.")
    assert (caught.value.what, caught.value.fix) == (
        "epoch=3 is not there.",
        "choose another 'epoch'.",
    )
    assert str(caught.value) == "epoch=3 is not there. Fix: choose another 'epoch'."


SCRIPT = re.compile("|".join(rf"\b{re.escape(script)}" for script in VERBS.values()))


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beam_size": 0}, "'beam_size' must be at least 1, not 0"),
        ({"avg": "two"}, "argument 'avg': invalid int value: 'two'"),
        ({"decoding_method": "beam"}, "unknown decoding_method='beam'"),
        ({"tokens": "no.txt"}, "there is no tokens='no.txt'"),
        (
            {"context_file": "no.txt", "decoding_method": "modified_beam_search"},
            "'no.txt' does not",
        ),
        ({"decoding_method": "1best"}, "python -m zipasr train-lm --recipe"),
        ({"precision": "half"}, "precision='half' is unknown"),
        ({"chunk_size": 16}, "chunk_size=16 is for streaming models"),
    ],
)
def test_no_flag_is_left_in_errors_of_load_model(
    whole: Path, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(zipasr.UserError) as caught:
        zipasr.load_model(whole / "exp" / "epoch-2.pt", **settings)
    said = str(caught.value)
    assert message in said
    assert not SCRIPT.search(said)
    assert "--" not in re.sub(r"python -m zipasr [\w-]+( --\S+( [^-\s]\S*)?)*", "", said)


def test_errors_of_a_model_name_its_arguments(whole: Path, sounds: list[Path]) -> None:
    model = zipasr.load_model(whole / "exp" / "epoch-2.pt")
    for call in (
        lambda: model.transcribe(sounds[0], hot_words=["A"]),
        lambda: model.transcribe(sounds[0], nbest=0),
        lambda: model.align(sounds[0], "äöü"),
    ):
        with pytest.raises(zipasr.UserError) as caught:
            call()
        assert "--" not in str(caught.value)
