"""Resources of a search beside the model: language models, hot-words, lexicon."""

from __future__ import annotations

from pathlib import Path

import torch

from zipasr.base.errors import CheckpointError, DataError, UserError
from zipasr.checkpoint.language_model_file import read_lm
from zipasr.lm.config import LM_SIZES, LmConfig
from zipasr.lm.neural import NeuralLm
from zipasr.lm.ngram import END, START, NgramLm, read_arpa
from zipasr.lm.rnn import RnnLm
from zipasr.recognition.config import RecognitionConfig
from zipasr.search.components import DecodingResources, Vocabulary
from zipasr.search.config import HotWordsConfig
from zipasr.search.language_models import LanguageModel, NgramTokens, RnnTokens, TransformerTokens
from zipasr.search.registry import SEARCHES, check_method, check_takes_hot_words
from zipasr.search.scorers import ContextGraph
from zipasr.text.lexicon import read_lexicon
from zipasr.text.phrases import read_phrases
from zipasr.text.timed_words import WORD_START
from zipasr.text.tokenizer import Tokenizer


def check_resources(config: RecognitionConfig) -> None:
    """Refuse a method that cannot be run, or cannot use what shall help it, before any reading.

    Raises:
        UserError: says what is missing, or which methods there are.
    """
    name, lm = config.decoding.decoding_method, config.lm
    check_method(name)
    if config.hot_words.path is not None:
        check_takes_hot_words(name)
    uses = SEARCHES[name].uses
    check_vocabulary_files(config, uses)
    if "reference" in uses and config.evaluation is None:
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


def read_resources(
    config: RecognitionConfig, tokenizer: Tokenizer, device: torch.device
) -> DecodingResources:
    """Read the files that the flags name and the method uses.

    Raises:
        CheckpointError: a language model is missing, damaged, or of other tokens.
        DataError: another file is missing, damaged, or of other tokens.
    """
    lm = config.lm
    uses = models_of(config.decoding.decoding_method, lm)
    return DecodingResources(
        config.lattice,
        hot_words_of(config.hot_words, tokenizer),
        language_model(config, tokenizer, device) if "lm" in uses else None,
        lm.lm_scale,
        ngram_of(config, tokenizer) if "lodr" in uses else None,
        lm.ngram_lm_scale,
        vocabulary_of(config, uses, tokenizer),
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


def language_model(
    config: RecognitionConfig, tokenizer: Tokenizer, device: torch.device
) -> LanguageModel:
    """Return the language model that the flags name.

    Raises:
        CheckpointError: it is missing, damaged, or of other tokens.
        DataError: it is an n-gram, and that is missing, damaged, or of other tokens.
    """
    if config.lm.lm_type == "ngram":
        return ngram_of(config, tokenizer)
    model = neural_lm(config, tokenizer).to(device)
    return RnnTokens(model) if isinstance(model, RnnLm) else TransformerTokens(model)


def neural_lm(config: RecognitionConfig, tokenizer: Tokenizer) -> NeuralLm:
    """Return the trained language model that the flags name, in evaluation mode on the CPU.

    Raises:
        CheckpointError: it is missing, damaged, or of other tokens.
    """
    lm = config.lm
    assert lm.exp_dir is not None, "check_resources comes first"
    stored = read_lm(lm.exp_dir, lm.lm_type, lm.lm_epoch, lm.lm_avg)
    sizes = config.lm_sizes.get(lm.lm_type) or LM_SIZES[lm.lm_type]()
    stored.check_sizes(sizes, lm.lm_vocab_size)
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


def ngram_of(config: RecognitionConfig, tokenizer: Tokenizer) -> NgramTokens:
    """Return the token n-gram that the flags name.

    Raises:
        DataError: it is missing, damaged, or of other tokens.
    """
    lm = config.lm
    if lm.ngram_lm is None and not lm.ngram_path.is_file():
        raise DataError(
            f"there is no token n-gram at {lm.ngram_path}.",
            f"make it: ./train_lm.py --lm-type ngram --ngram-order {lm.tokens_ngram}, for the "
            "same --recipe; or give another by --ngram-lm.",
        )
    model, pieces = read_arpa(lm.ngram_path), tokenizer.pieces()
    strangers = sorted(model.words - {START, END, *pieces})
    missing = [piece for piece in pieces[3:] if piece not in model.words]
    other = model.token_table not in (None, tokenizer.table_hash())
    if other or strangers or len(missing) > len(pieces) // 2:
        what = f"it has {strangers[0]!r}" if strangers else f"it lacks {missing[:1]}"
        raise DataError(
            f"{lm.ngram_path} is an n-gram of other tokens than those of the model"
            + (f" ({what})." if not other else f": its token table is {model.token_table}."),
            "make it with the tokenizer of the model: ./train_lm.py --lm-type ngram.",
        )
    # A token that the text did not have is rare, not impossible: else LODR would reward it.
    return NgramTokens(model.with_unknown(), pieces, config.grammar.exact_backoff)


# File names of the published language models, by the order of their n-grams.
_PUBLISHED = {3: "3-gram.pruned.1e-7.arpa", 4: "4-gram.arpa"}
_SEARCHED, _JUDGING = 3, 4


def check_vocabulary_files(config: RecognitionConfig, uses: tuple[str, ...]) -> None:
    """Refuse a search over words whose grammars are not there, before anything is read.

    Raises:
        DataError: says how to get them.
    """
    if "words" in uses:
        grammar_path(config, _SEARCHED)
    if "large" in uses:
        grammar_path(config, _JUDGING)


def vocabulary_of(
    config: RecognitionConfig, uses: tuple[str, ...], tokenizer: Tokenizer
) -> Vocabulary | None:
    """Read the lexicon and the grammars that a method uses; ``None`` if it uses none.

    Raises:
        DataError: one is missing, damaged, or of other words or tokens.
    """
    if "words" not in uses:
        return None
    lexicon = read_lexicon(config.lm.lang_dir, tokenizer)
    words = {word for word, _ in lexicon}
    paths = [grammar_path(config, _SEARCHED)]
    paths += [grammar_path(config, _JUDGING)] if "large" in uses else []
    grammars = [read_arpa(path) for path in paths]
    about = [_coverage(one, path, words) for one, path in zip(grammars, paths, strict=True)]
    exact = config.grammar.exact_backoff
    return Vocabulary(lexicon, grammars[0], grammars[-1], tuple(about), exact)


def grammar_path(config: RecognitionConfig, order: int) -> Path:
    """Return the file of the word n-gram of an order: given by its flag, or where it usually is.

    Raises:
        DataError: there is none; says how to get one.
    """
    grammar = config.grammar
    flag, given = {
        _SEARCHED: ("--grammar", grammar.grammar),
        _JUDGING: ("--large-grammar", grammar.large_grammar),
    }[order]
    if given is not None:
        return given
    folders = [grammar.lm_dir, *config.grammar_folders]
    names = [f"G_{order}_gram.arpa", _PUBLISHED[order]]
    for path in (folder / name for folder in folders for name in names):
        for file in (path, path.with_name(f"{path.name}.gz")):
            if file.is_file():
                return file
    graph = grammar.lm_dir / f"G_{order}_gram.fst.txt"
    what = f"there is no word n-gram: no G_{order}_gram.arpa in {grammar.lm_dir} or {folders[1]}"
    if graph.is_file():
        what = f"{graph} is a graph; the ARPA file is needed that it was made from"
    raise DataError(
        f"{what}.",
        f"give {flag}, an ARPA file over words, or make one: ./train_lm.py --recipe "
        f"{config.recipe} --lm-type ngram --ngram-unit word --ngram-order {order}",
    )


def _coverage(grammar: NgramLm, path: Path, words: set[str]) -> str:
    """Say how many of the words a grammar knows; refuse one that knows none."""
    if any(word.startswith(WORD_START) for word in grammar.words):
        raise DataError(
            f"{path} is an n-gram over tokens, not over words.",
            "make one over words: ./train_lm.py --lm-type ngram --ngram-unit word --ngram-order 3",
        )
    known = len(words & grammar.words)
    if not known:
        raise DataError(
            f"{path} knows none of the {len(words)} words of the lexicon, such as {min(words)!r}.",
            "give a grammar over words, spelt as the transcripts are.",
        )
    return (
        f"{path}: {grammar.order}-grams, {known} of {len(words)} words of the lexicon; the others "
        "count as <unk>"
    )
