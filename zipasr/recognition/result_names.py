"""Names of result files and of settings, which say how a result was made, as in icefall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.recognition.acoustic_model import AcousticModel
from zipasr.recognition.config import RecognitionConfig
from zipasr.recognition.resources import models_of
from zipasr.search.methods import BEAM_FIELDS, Need, method_of

# The end of the names of results whose checkpoints were averaged over all batches.
_AVERAGED = "_use-averaged-model"


class ResultFiles(NamedTuple):
    """The result files of a decoding run.

    Attributes:
        folder: that they are in.
        suffix: from ``file_suffix``.
        key: name of the setting.
        is_streaming: whether they are named as published streaming results are, after the key too.
    """

    folder: Path
    suffix: str
    key: str
    is_streaming: bool = False

    def path(self, kind: str, test_set: str, setting: str = "") -> Path:
        """Return the file of a kind, such as ``recogs``, and of one setting of a rescoring."""
        name = f"-{test_set}-{self.suffix}{setting}"
        if self.is_streaming:
            name = f"{'_' if kind == 'wer-summary' else '-'}{test_set}_{self.key}_{self.suffix}"
        return self.folder / f"{kind}{name}.txt"


def file_suffix(config: RecognitionConfig, model: AcousticModel) -> str:
    """Return the part of the result files' names that says how they were made."""
    search = search_suffix(config, model.context_size)
    if model.pad_look_ahead:
        search = f"_pad-look-ahead{search}"
    if model.encoder.causal:
        search = f"_{model.encoder.result_tag()}{search}"
    if model.use_bf16:
        search = f"_bf16{search}"
    return result_suffix(search, config.checkpoint)


def search_suffix(config: RecognitionConfig, context_size: int) -> str:
    """Name a search in file names.

    Blank penalty, temperature and back-off appear only when they were changed, so that the usual
    names are those of other recipes and unusual runs do not overwrite them.
    """
    decoding = config.decoding
    method = method_of(decoding.decoding_method)
    if method.file_fields == BEAM_FIELDS:
        suffix = f"__{method.name}__beam-size-{decoding.beam_size}"
    else:
        suffix = _named(method.file_fields, config, context_size)
    suffix += f"{hot_words_suffix(config)}{lm_suffix(config)}"
    if decoding.blank_penalty != 0.0:
        suffix += f"_blank-penalty-{decoding.blank_penalty}"
    if decoding.temperature != 1.0:
        suffix += f"_temperature-{decoding.temperature}"
    if config.grammar.exact_backoff and _uses_ngram(config):
        suffix += "_exact-backoff"
    return suffix


def _uses_ngram(config: RecognitionConfig) -> bool:
    uses = models_of(method_of(config.decoding.decoding_method), config.lm)
    is_token_lm = Need.LM in uses and config.lm.lm_type == "ngram"
    return is_token_lm or bool(uses & {Need.TOKEN_NGRAM, Need.LEXICON})


def result_suffix(search: str, choose: ChooseCheckpoint) -> str:
    """Name a decoding run in file names.

    Args:
        search: from ``search_suffix``, with what else says how it was made.
        choose: the checkpoints.
    """
    if choose.checkpoint is not None:
        return f"{choose.checkpoint.stem}{search}"
    name = f"iter-{choose.iter}" if choose.iter > 0 else f"epoch-{choose.epoch}"
    averaged = _AVERAGED if choose.use_averaged_model else ""
    return f"{name}_avg-{choose.avg}{search}{averaged}"


def search_of(suffix: str, choose: ChooseCheckpoint) -> str | None:
    """Return what a suffix of ``file_suffix`` says beside the checkpoints.

    Returns:
        ``None`` where it names others than ``choose``.
    """
    begin, end = result_suffix("\n", choose).split("\n")
    if not (suffix.startswith(begin) and suffix.endswith(end)):
        return None
    rest = suffix[len(begin) : len(suffix) - len(end)]
    fits = rest[:1] in ("", "_") and not rest.endswith(_AVERAGED)
    return rest.lstrip("_") if fits else None


def key_of(config: RecognitionConfig) -> str:
    """Name the setting in summaries, as icefall does: ``modified_beam_search_beam-size-4``."""
    method = method_of(config.decoding.decoding_method)
    key = f"{method.name}{_named(method.key_fields, config)}"
    return f"{key}{hot_words_suffix(config).replace('-context', '_context')}"


def streaming_key_of(config: RecognitionConfig) -> str:
    """Name the search as published streaming results do."""
    method = method_of(config.decoding.decoding_method)
    if method.key_fields == BEAM_FIELDS:
        return f"num-active-paths-{config.decoding.beam_size}"
    if method.key_fields:
        return _named(method.key_fields, config).removeprefix("_")
    return method.name.replace("_", "-")


def label_of(config: RecognitionConfig) -> str:
    """Name the setting for people: with the language model, too."""
    return f"{key_of(config)}{lm_suffix(config)}"


def _named(fields: Sequence[str], config: RecognitionConfig, context_size: int = 0) -> str:
    """Name settings with their values."""
    values = {"context_size": context_size}
    for source in (config.lm, config.lattice, config.decoding):
        values |= asdict(source)
    parts = []
    for field in fields:
        name, value = f"_{field.replace('_', '-')}", values[field]
        parts.append(f"{name}-{value}" if not isinstance(value, bool) else name if value else "")
    return "".join(parts).replace("_context-size-", "_context-")


def hot_words_suffix(config: RecognitionConfig) -> str:
    """Name the bonus of hot-words; nothing without."""
    hot_words = config.hot_words
    if hot_words.path is None or not method_of(config.decoding.decoding_method).hot_words:
        return ""
    return f"-context-score-{hot_words.context_score}"


def lm_suffix(config: RecognitionConfig) -> str:
    """Name the language model of the search and the scales; a rescoring names its own."""
    lm, method = config.lm, method_of(config.decoding.decoding_method)
    if method.lm_weight != "flag":
        return ""
    ngram = f"{lm.ngram_path.stem}-scale-{lm.ngram_lm_scale}"
    if Need.LM not in method.needs:
        return f"_{ngram}"
    suffix = f"_{lm.lm_type}-lm-scale-{lm.lm_scale}"
    return f"{suffix}_LODR-{ngram}" if Need.TOKEN_NGRAM in models_of(method, lm) else suffix
