"""Which language model helps a search, and how much."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from zipasr.base.config import check_numbers, flag


@dataclass(frozen=True, slots=True, kw_only=True)
class LmConfig:
    """Language model."""

    use_shallow_fusion: bool = flag(False, "not used: the decoding method decides")
    lm_type: Literal["rnn", "transformer", "ngram"] = flag("rnn", "kind of language model")
    lm_scale: float = flag(0.3, "weight of the language model in the search")
    lm_exp_dir: Path | None = flag(None, "folder of the language model, from train_lm.py")
    transformer_lm_exp_dir: Path | None = flag(
        None,
        "the same for --lm-type transformer, if --lm-exp-dir is not given",
    )
    lm_epoch: int = flag(7, "epoch of the language model")
    lm_avg: int = flag(1, "number of its checkpoints to average")
    lm_vocab_size: int = flag(
        500,
        "vocabulary size of the language model; if not the default, it must be that of the model",
    )
    lang_dir: Path = flag(Path("data/lang_bpe_500"), "folder of token n-grams and lexicon")
    tokens_ngram: int = flag(2, "order of the token n-gram in LANG_DIR/Ngram.arpa")
    ngram_lm: Path | None = flag(
        None,
        "ARPA file of the token n-gram, instead of that in --lang-dir",
    )
    ngram_lm_scale: float = flag(
        0.01,
        "weight of the token n-gram in LODR (negative: subtracted); of the word n-gram in "
        "fast_beam_search_nbest_LG",
    )
    backoff_id: int = flag(500, "not used: an ARPA file needs no id of the back-off arcs")

    def __post_init__(self) -> None:
        check_numbers(self, "must be at least 1", "lm_epoch lm_avg tokens_ngram")

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
    """Word n-grams."""

    lm_dir: Path = flag(Path("data/lm"), "folder of G_3_gram.arpa and G_4_gram.arpa")
    grammar: Path | None = flag(
        None,
        "ARPA file of the word n-gram of the search; none: G_3_gram.arpa in --lm-dir or "
        "data/RECIPE/lm, or 3-gram.pruned.1e-7.arpa in download/lm",
    )
    large_grammar: Path | None = flag(
        None,
        "ARPA file of the larger word n-gram for rescoring; none: G_4_gram.arpa, or 4-gram.arpa "
        "in the same folders",
    )
    exact_backoff: bool = flag(
        False,
        "score with the longest n-gram that matches, as ARPA files define it; 0: back-off also "
        "competes where it scores better, as in icefall's graphs",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RnnLmConfig:
    """Recurrent language model."""

    rnn_lm_embedding_dim: int = flag(2048, "channels of the token embedding")
    rnn_lm_hidden_dim: int = flag(2048, "channels of each LSTM layer")
    rnn_lm_num_layers: int = flag(3, "number of LSTM layers")
    rnn_lm_tie_weights: bool = flag(True, "share the weights of embedding and output layer")

    def __post_init__(self) -> None:
        sizes = "rnn_lm_embedding_dim rnn_lm_hidden_dim rnn_lm_num_layers"
        check_numbers(self, "must be at least 1", sizes)
        if self.rnn_lm_tie_weights and self.rnn_lm_embedding_dim != self.rnn_lm_hidden_dim:
            raise ValueError(
                "--rnn-lm-tie-weights 1 needs --rnn-lm-embedding-dim and --rnn-lm-hidden-dim to be "
                f"equal, got {self.rnn_lm_embedding_dim} and {self.rnn_lm_hidden_dim}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerLmConfig:
    """Transformer language model."""

    transformer_lm_embedding_dim: int = flag(768, "channels of the token embedding")
    transformer_lm_encoder_dim: int = flag(768, "channels between layers")
    transformer_lm_dim_feedforward: int = flag(2048, "hidden channels of the feed-forward modules")
    transformer_lm_nhead: int = flag(8, "number of attention heads")
    transformer_lm_num_layers: int = flag(16, "number of layers")
    transformer_lm_tie_weights: bool = flag(True, "share the weights of embedding and output layer")

    def __post_init__(self) -> None:
        sizes = ["embedding_dim", "encoder_dim", "dim_feedforward", "nhead", "num_layers"]
        names = " ".join(f"transformer_lm_{name}" for name in sizes)
        check_numbers(self, "must be at least 1", names)
        if self.transformer_lm_encoder_dim % (2 * self.transformer_lm_nhead):
            raise ValueError(
                "--transformer-lm-encoder-dim must be an even multiple of --transformer-lm-nhead, "
                f"got {self.transformer_lm_encoder_dim} and {self.transformer_lm_nhead}"
            )
        if (
            self.transformer_lm_tie_weights
            and self.transformer_lm_embedding_dim != self.transformer_lm_encoder_dim
        ):
            raise ValueError(
                "--transformer-lm-tie-weights 1 needs --transformer-lm-embedding-dim and "
                f"--transformer-lm-encoder-dim to be equal, got {self.transformer_lm_embedding_dim}"
                f" and {self.transformer_lm_encoder_dim}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class NgramConfig:
    """N-gram training."""

    ngram_order: int = flag(2, "--lm-type ngram: order of the model")
    ngram_unit: Literal["token", "word"] = flag(
        "token",
        "--lm-type ngram: n-grams of tokens or of words; of tokens from the transcripts "
        "(LANG_DIR/Ngram.arpa), of words data/RECIPE/lm/G_N_gram.arpa",
    )
    ngram_lm: Path | None = flag(None, "--lm-type ngram: ARPA file to write")
    lang_dir: Path = flag(Path("data/lang_bpe_500"), "folder of token n-grams and transcripts")

    def __post_init__(self) -> None:
        check_numbers(self, "must be at least 1", "ngram_order")


LmSizes: TypeAlias = RnnLmConfig | TransformerLmConfig


#: ``--lm-type`` to the dataclass of its sizes.
LM_SIZES: dict[str, type[RnnLmConfig] | type[TransformerLmConfig]] = {
    "rnn": RnnLmConfig,
    "transformer": TransformerLmConfig,
}
