"""Which language model helps a search, and how much."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zipasr.base.config import flag


@dataclass(frozen=True, slots=True, kw_only=True)
class LmConfig:
    """Language models; which ones are used, the decoding method says."""

    use_shallow_fusion: bool = flag(False, "accepted for icefall's commands; the method decides")
    lm_type: Literal["rnn", "transformer", "ngram"] = flag("rnn", "kind of the language model")
    lm_scale: float = flag(0.3, "weight of the language model while searching")
    lm_exp_dir: Path | None = flag(None, "folder of the model, from train_lm.py")
    transformer_lm_exp_dir: Path | None = flag(
        None, "the same for --lm-type transformer, where --lm-exp-dir is not given"
    )
    lm_epoch: int = flag(7, "its checkpoint")
    lm_avg: int = flag(1, "average over so many of its checkpoints")
    lm_vocab_size: int = flag(500, "its tokens; when not the default it must agree with the model")
    lang_dir: Path = flag(Path("data/lang_bpe_500"), "folder of token n-grams and of the lexicon")
    tokens_ngram: int = flag(2, "order of the token n-gram: LANG_DIR/Ngram.arpa")
    ngram_lm: Path | None = flag(None, "ARPA file of a token n-gram, instead of the one above")
    ngram_lm_scale: float = flag(
        0.01,
        "weight of the n-gram that LODR adds, negative as it is to be subtracted; of the grammar "
        "in fast_beam_search_nbest_LG",
    )
    backoff_id: int = flag(500, "accepted for icefall's commands; an ARPA file needs none")

    def __post_init__(self) -> None:
        for name in ("lm_epoch", "lm_avg", "tokens_ngram"):
            if getattr(self, name) < 1:
                flags = "--" + name.replace("_", "-")
                raise ValueError(f"{flags} must be at least 1, not {getattr(self, name)}")

    @property
    def exp_dir(self) -> Path | None:
        """The folder of the model; ``None`` for n-grams."""
        by_type = {"rnn": None, "transformer": self.transformer_lm_exp_dir, "ngram": None}
        return self.lm_exp_dir or by_type[self.lm_type]

    @property
    def ngram_path(self) -> Path:
        """The file of the token n-gram."""
        return self.ngram_lm or self.lang_dir / f"{self.tokens_ngram}gram.arpa"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrammarConfig:
    """N-grams over words, for the searches over words; how searches ask n-grams of any kind."""

    lm_dir: Path = flag(Path("data/lm"), "folder of G_3_gram.arpa and G_4_gram.arpa")
    grammar: Path | None = flag(
        None,
        "ARPA file of the word n-gram that takes part in the search; none: G_3_gram.arpa in "
        "--lm-dir or data/RECIPE/lm, or 3-gram.pruned.1e-7.arpa in download/lm",
    )
    large_grammar: Path | None = flag(
        None,
        "ARPA file of the larger one that judges again; none: G_4_gram.arpa, or 4-gram.arpa there",
    )
    exact_backoff: bool = flag(
        False,
        "score a word or token by its longest n-gram, as the ARPA file means it; else, as in "
        "icefall's graphs, backing off counts where it is better",
    )
