"""The published decoding commands are read as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from zipasr.base.errors import UserError
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.cli.command_flags import read
from zipasr.cli.recognition_commands import CTC_DECODE, DECODE
from zipasr.lm.config import LmConfig
from zipasr.search.config import DecodingConfig, HotWordsConfig
from zipasr.search.methods import METHODS

SMALL = """--num-encoder-layers 2,2,2,2,2,2 --feedforward-dim 512,768,768,768,768,768
 --encoder-dim 192,256,256,256,256,256 --encoder-unmasked-dim 192,192,192,192,192,192"""
LARGE = """--num-encoder-layers 2,2,4,5,4,2 --feedforward-dim 512,768,1536,2048,1536,768
 --encoder-dim 192,256,512,768,512,256 --encoder-unmasked-dim 192,192,256,320,256,192"""
TRANSDUCER = "greedy_search modified_beam_search fast_beam_search"
AED = """--use-ctc 1 --use-transducer 0 --use-attention-decoder 1 --attention-decoder-loss-scale 0.9
 --causal 0 --num-paths 100"""
AED_METHODS = "ctc-decoding attention-decoder-rescoring-no-ngram"
CR_CTC = "--use-cr-ctc 1 --use-ctc 1 --use-transducer 0 --use-attention-decoder 0"
CR_METHODS = "ctc-greedy-search ctc-prefix-beam-search"
LATTICE = "ctc-decoding 1best nbest nbest-rescoring whole-lattice-rescoring"
LM = """--use-shallow-fusion 1 --lm-type rnn --lm-exp-dir rnn_lm_exp --lm-epoch 99 --lm-avg 1
 --rnn-lm-embedding-dim 2048 --rnn-lm-hidden-dim 2048 --rnn-lm-num-layers 3
 --lm-vocab-size 500 --beam-size 12 --causal 0"""

COMMANDS = [
    (DECODE, "50/23", 600, TRANSDUCER, f"--causal 0 {SMALL}"),
    (DECODE, "50/25", 600, TRANSDUCER, "--use-averaged-model 1"),
    (DECODE, "50/30", 600, TRANSDUCER, f"--causal 0 {LARGE}"),
    (DECODE, "174/172", 600, TRANSDUCER, f"--causal 0 {LARGE}"),
    (
        DECODE,
        "30/8",
        600,
        TRANSDUCER,
        "--use-averaged-model 1 --causal 1 --chunk-size 16 --left-context-frames 128",
    ),
    (
        CTC_DECODE,
        "40/16",
        300,
        LATTICE,
        "--use-transducer 1 --use-ctc 1 --causal 0 --num-paths 100 --nbest-scale 1.0 "
        "--hlg-scale 0.6",
    ),
    (CTC_DECODE, "50/30", 100, AED_METHODS, f"{AED} {SMALL}"),
    (CTC_DECODE, "50/22", 100, AED_METHODS, AED),
    (CTC_DECODE, "50/29", 100, AED_METHODS, f"{AED} {LARGE}"),
    (CTC_DECODE, "50/25", 600, CR_METHODS, f"{CR_CTC} {SMALL}"),
    (CTC_DECODE, "50/24", 600, CR_METHODS, CR_CTC),
    (CTC_DECODE, "50/26", 600, CR_METHODS, f"{CR_CTC} {LARGE}"),
    (
        CTC_DECODE,
        "50/20",
        200,
        "attention-decoder-rescoring-no-ngram",
        "--use-cr-ctc 1 --use-ctc 1 --use-transducer 0 --use-attention-decoder 1",
    ),
    (
        CTC_DECODE,
        "50/24",
        600,
        "ctc-prefix-beam-search-shallow-fussion",
        f"{CR_CTC} --nnlm-type transformer --nnlm-scale 0.3 --lodr-ngram 2gram.arpa "
        "--lodr-lm-scale -0.2 --transformer-lm-exp-dir lm --transformer-lm-num-layers 16",
    ),
    (
        DECODE,
        "50/26",
        300,
        "greedy_search modified_beam_search",
        f"--use-cr-ctc 1 --use-ctc 1 --use-transducer 1 --use-attention-decoder 0 {LARGE}",
    ),
    (DECODE, "40/16", 600, "modified_beam_search_lm_shallow_fusion", f"{LM} --lm-scale 0.3"),
    (
        DECODE,
        "40/16",
        600,
        "modified_beam_search_LODR",
        f"{LM} --lm-scale 0.52 --tokens-ngram 2 --ngram-lm-scale -0.26 --backoff-id 500",
    ),
    (
        DECODE,
        "40/16",
        600,
        "modified_beam_search_lm_rescore modified_beam_search_lm_rescore_LODR",
        f"{LM} --lm-scale 0.3",
    ),
]


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "recipe.toml").write_text(
        'corpus = "x"\n[splits]\ntrain = ["a"]\nvalid = ["b"]\ntest = ["c"]\n'
    )
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("command", "window", "duration", "methods", "flags"), COMMANDS)
def test_a_published_command_is_read(command, window, duration, methods, flags) -> None:
    epoch, avg = window.split("/")
    words = f"--epoch {epoch} --avg {avg} --exp-dir zipformer/exp --max-duration {duration} {flags}"
    for method in methods.split():
        run = read(command, ["--recipe", "./bare", *words.split(), "--decoding-method", method])
        assert run[DecodingConfig].decoding_method == method
        assert (run[ChooseCheckpoint].epoch, run[ChooseCheckpoint].avg) == (int(epoch), int(avg))
        assert method in METHODS


@pytest.mark.usefixtures("bare")
def test_defaults_of_the_two_programs() -> None:
    assert read(DECODE, ["--recipe", "./bare"])[DecodingConfig].decoding_method == "greedy_search"
    assert read(DECODE, ["--recipe", "./bare"])[HotWordsConfig].context_score == 2.0
    ctc = read(CTC_DECODE, ["--recipe", "./bare"])
    assert ctc[DecodingConfig].decoding_method == "ctc-decoding"
    assert ctc[HotWordsConfig].context_score == 0.0
    assert (ctc[LmConfig].lm_scale, ctc[LmConfig].ngram_lm_scale) == (0.0, 0.0)
    words = "--nnlm-type transformer --nnlm-scale=0.3 --lodr-ngram x.arpa --lodr-lm-scale -0.2"
    lm = read(CTC_DECODE, ["--recipe", "./bare", *words.split()])[LmConfig]
    assert (lm.lm_type, lm.lm_scale, lm.ngram_lm_scale) == ("transformer", 0.3, -0.2)
    assert lm.ngram_lm == Path("x.arpa")


def test_the_weight_of_a_training_loss_is_not_that_of_a_language_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe.toml").write_text(
        'corpus = "x"\n[splits]\ntrain = ["a"]\nvalid = ["b"]\ntest = ["c"]\n'
        "[flags]\nlm-scale = 0.25\n"
    )
    assert read(DECODE, ["--recipe", str(tmp_path)])[LmConfig].lm_scale == 0.3


@pytest.mark.usefixtures("bare")
def test_the_end_of_the_table_is_said() -> None:
    with pytest.raises(UserError, match="--lm-epoch must be at least 1"):
        read(DECODE, ["--recipe", "./bare", "--lm-epoch", "0"])
