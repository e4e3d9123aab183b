"""From the flags of decode.py to what helps a search beside the model."""

from __future__ import annotations

import torch

from zipasr.base.errors import CheckpointError, DataError, UserError
from zipasr.checkpoint.language_model_file import read_lm
from zipasr.cli.commands import TestSetsConfig
from zipasr.cli.flags import Run
from zipasr.cli.vocabulary import check_vocabulary_files, vocabulary_of
from zipasr.lm.config import GrammarConfig, LmConfig
from zipasr.lm.neural import LM_SIZES, NeuralLm
from zipasr.lm.ngram import END, START, read_arpa
from zipasr.lm.rnn import RnnLm
from zipasr.search.components import DecodingResources
from zipasr.search.config import DecodingConfig, HotWordsConfig, LatticeConfig
from zipasr.search.language_models import LanguageModel, NgramTokens, RnnTokens, TransformerTokens
from zipasr.search.registry import SEARCHES, check_method, check_takes_hot_words
from zipasr.search.scorers import ContextGraph
from zipasr.text.phrases import read_phrases
from zipasr.text.tokenizer import Tokenizer


def check_aids(run: Run) -> None:
    """Refuse a method that cannot be run, or cannot use what shall help it, before any reading.

    Raises:
        UserError: says what is missing, or which methods there are.
    """
    name, lm = run[DecodingConfig].decoding_method, run[LmConfig]
    check_method(name)
    if run[HotWordsConfig].path is not None:
        check_takes_hot_words(name)
    uses = SEARCHES[name].uses
    check_vocabulary_files(run, uses)
    if "reference" in uses and TestSetsConfig not in run.values:
        raise UserError(
            f"--decoding-method {name} needs to know what was said.",
            "it is for test sets: ./decode.py.",
        )
    if name == "fast_beam_search_nbest_LG" and lm.ngram_lm_scale < 0:
        raise UserError(
            f"--ngram-lm-scale {lm.ngram_lm_scale}: {name} adds the grammar.",
            "give a positive scale.",
        )
    if "lm" in uses:
        _check_language_models(name, lm)


def _check_language_models(name: str, lm: LmConfig) -> None:
    method = SEARCHES[name]
    if lm.lm_type != "ngram" and lm.exp_dir is None:
        raise UserError(
            f"--decoding-method {name} needs a language model.",
            "give --lm-exp-dir, the folder of a model from train_lm.py"
            f"{'.' if 'lodr' in method.uses else ', or --lm-type ngram.'}",
        )
    if "lodr" in method.uses and lm.lm_type == "ngram":
        raise UserError(
            f"--decoding-method {name} subtracts the token n-gram from another model.",
            "use --lm-type rnn or transformer, or a method without LODR.",
        )
    if not method.can_stream:
        return  # it tries weights of its own
    if lm.lm_scale == 0:
        raise UserError(
            "the weight of the language model is 0, so that it has no say.",
            "give --lm-scale (in ctc_decode.py also spelt --nnlm-scale); 0.3 is usual.",
        )
    if "lodr" in models_of(name, lm) and lm.ngram_lm_scale >= 0:
        raise UserError(
            f"--ngram-lm-scale {lm.ngram_lm_scale}: LODR subtracts the n-gram.",
            "give a negative scale; -0.26 is published with --lm-scale 0.52 and --beam-size 12.",
        )


def models_of(name: str, lm: LmConfig) -> tuple[str, ...]:
    """Return what a decoding method uses with these flags: lm, lodr, attention."""
    method = SEARCHES[name]
    is_given = lm.ngram_lm is not None and lm.lm_type != "ngram"
    return (*method.uses, *(method.may_use if is_given else ()))


def aids_of(run: Run, tokenizer: Tokenizer, device: torch.device) -> DecodingResources:
    """Read the files that the flags name and the method uses.

    Raises:
        CheckpointError: a language model is missing, damaged, or of other tokens.
        DataError: another file is missing, damaged, or of other tokens.
    """
    lm = run[LmConfig]
    uses = models_of(run[DecodingConfig].decoding_method, lm)
    return DecodingResources(
        run[LatticeConfig],
        hot_words_of(run[HotWordsConfig], tokenizer),
        language_model(run, tokenizer, device) if "lm" in uses else None,
        lm.lm_scale,
        ngram_of(run, tokenizer) if "lodr" in uses else None,
        lm.ngram_lm_scale,
        vocabulary_of(run, uses, tokenizer),
    )


def hot_words_of(config: HotWordsConfig, tokenizer: Tokenizer) -> ContextGraph | None:
    """Return the graph of the phrases in ``--context-file``, if there is one.

    Raises:
        DataError: the file is missing, or has no phrases.
    """
    if config.path is None:
        return None
    phrases = read_phrases(config.path, tokenizer)
    return ContextGraph(phrases.tokens, config.context_score, phrases.scores)


def language_model(run: Run, tokenizer: Tokenizer, device: torch.device) -> LanguageModel:
    """Return the language model that the flags name.

    Raises:
        CheckpointError: it is missing, damaged, or of other tokens.
        DataError: it is an n-gram, and that is missing, damaged, or of other tokens.
    """
    if run[LmConfig].lm_type == "ngram":
        return ngram_of(run, tokenizer)
    model = neural_lm(run, tokenizer).to(device)
    return RnnTokens(model) if isinstance(model, RnnLm) else TransformerTokens(model)


def neural_lm(run: Run, tokenizer: Tokenizer) -> NeuralLm:
    """Return the trained language model that the flags name, in evaluation mode on the CPU.

    Raises:
        CheckpointError: it is missing, damaged, or of other tokens.
    """
    config = run[LmConfig]
    assert config.exp_dir is not None, "check_aids comes first"
    stored = read_lm(config.exp_dir, config.lm_type, config.lm_epoch, config.lm_avg)
    stored.check_sizes(run[LM_SIZES[config.lm_type]], config.lm_vocab_size)
    if stored.token_table not in (None, tokenizer.table_hash()):
        raise CheckpointError(
            f"{stored.path} was trained on other tokens than the model: its token table is "
            f"{stored.token_table}, that of the model {tokenizer.table_hash()}.",
            "train the language model with the tokenizer of the model: ./train_lm.py.",
        )
    if stored.vocab_size != tokenizer.vocab_size:
        raise CheckpointError(
            f"{stored.path} knows {stored.vocab_size} tokens, the model {tokenizer.vocab_size}.",
            "train the language model with the tokenizer of the model: ./train_lm.py.",
        )
    return stored.build().eval()


def ngram_of(run: Run, tokenizer: Tokenizer) -> NgramTokens:
    """Return the token n-gram that the flags name.

    Raises:
        DataError: it is missing, damaged, or of other tokens.
    """
    config = run[LmConfig]
    if config.ngram_lm is None and not config.ngram_path.is_file():
        raise DataError(
            f"there is no token n-gram at {config.ngram_path}.",
            f"make it: ./train_lm.py --lm-type ngram --ngram-order {config.tokens_ngram}, for the "
            "same --recipe; or give another by --ngram-lm.",
        )
    model, pieces = read_arpa(config.ngram_path), tokenizer.pieces()
    strangers = sorted(model.words - {START, END, *pieces})
    missing = [piece for piece in pieces[3:] if piece not in model.words]
    other = model.token_table not in (None, tokenizer.table_hash())
    if other or strangers or len(missing) > len(pieces) // 2:
        what = f"it has {strangers[0]!r}" if strangers else f"it lacks {missing[:1]}"
        raise DataError(
            f"{config.ngram_path} is an n-gram of other tokens than those of the model"
            + (f" ({what})." if not other else f": its token table is {model.token_table}."),
            "make it with the tokenizer of the model: ./train_lm.py --lm-type ngram.",
        )
    # A token that the text did not have is rare, not impossible: else LODR would reward it.
    return NgramTokens(model.with_unknown(), pieces, run[GrammarConfig].exact_backoff)


def unaided(run: Run) -> Run:
    """Return the run without what helps a search."""
    return run.having(HotWordsConfig())
