"""Names of result files and of settings, which say how a result was made, as in icefall."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.recognition.config import RecognitionConfig
from zipasr.recognition.recogniser import Recogniser
from zipasr.recognition.resources import models_of
from zipasr.scoring.result_files import result_suffix, search_suffix, setting_key
from zipasr.search.registry import SEARCHES

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


def file_suffix(config: RecognitionConfig, recogniser: Recogniser) -> str:
    """Return the part of the result files' names that says how they were made."""
    decoding, choose = config.decoding, config.checkpoint
    search = search_suffix(
        decoding.decoding_method,
        beam_size=decoding.beam_size,
        context_size=recogniser.context_size,
        max_sym_per_frame=decoding.max_sym_per_frame,
        limits=limits_of(config),
        aids=aids_suffix(config),
        blank_penalty=decoding.blank_penalty,
        temperature=decoding.temperature,
    )
    zipformer = recogniser.zipformer
    if recogniser.pad_look_ahead:
        search = f"_pad-look-ahead{search}"
    if zipformer.causal:
        search = f"_{zipformer.result_tag()}{search}"
    if recogniser.use_bf16:
        search = f"_bf16{search}"
    if choose.checkpoint is not None:
        return f"{choose.checkpoint.stem}{search}"
    return result_suffix(
        search,
        epoch=choose.epoch,
        iteration=choose.iter,
        avg=choose.avg,
        use_averaged_model=choose.use_averaged_model,
    )


def search_of(suffix: str, choose: ChooseCheckpoint) -> str | None:
    """Return what a suffix of ``file_suffix`` says beside the checkpoints.

    Returns:
        ``None`` where it names others than ``choose``.
    """
    begin, end = result_suffix(
        "\n",
        epoch=choose.epoch,
        iteration=choose.iter,
        avg=choose.avg,
        use_averaged_model=choose.use_averaged_model,
    ).split("\n")
    if choose.checkpoint is not None:
        begin, end = choose.checkpoint.stem, ""
    if not (suffix.startswith(begin) and suffix.endswith(end)):
        return None
    rest = suffix[len(begin) : len(suffix) - len(end)]
    fits = rest[:1] in ("", "_") and not rest.endswith(_AVERAGED)
    return rest.lstrip("_") if fits else None


def key_of(config: RecognitionConfig) -> str:
    """Name the setting in summaries, as icefall does."""
    decoding, limits = config.decoding, limits_of(config, in_key=True)
    key = setting_key(decoding.decoding_method, beam_size=decoding.beam_size, limits=limits)
    return f"{key}{hot_words_suffix(config).replace('-context', '_context')}"


def label_of(config: RecognitionConfig) -> str:
    """Name the setting for people: with the language model, too."""
    return f"{key_of(config)}{lm_suffix(config)}"


def limits_of(config: RecognitionConfig, in_key: bool = False) -> str:
    """Name the limits of a search that keeps a lattice; nothing for other searches.

    Args:
        config: settings.
        in_key: name them in the order of keys; else in that of the names of files.
    """
    name, limits = config.decoding.decoding_method, config.lattice
    if name.startswith("fast_beam_search"):
        shown = f"_beam-{limits.beam}_max-contexts-{limits.max_contexts}"
        shown += f"_max-states-{limits.max_states}"
        shown += "_allow-partial" if limits.allow_partial else ""
    elif "words" in SEARCHES[name].uses:
        shown = f"_hlg-scale-{limits.hlg_scale}"
    else:
        return ""
    if name in ("fast_beam_search", "1best", "whole-lattice-rescoring"):
        return shown
    drawn = [f"_nbest-scale-{limits.nbest_scale}", f"_num-paths-{limits.num_paths}"]
    shown += "".join(reversed(drawn) if in_key else drawn)
    if name.endswith("_LG"):
        shown += f"_ngram-lm-scale-{config.lm.ngram_lm_scale}"
    return shown


def aids_suffix(config: RecognitionConfig) -> str:
    """Name what helps the search."""
    return f"{hot_words_suffix(config)}{lm_suffix(config)}"


def hot_words_suffix(config: RecognitionConfig) -> str:
    """Name the bonus of hot-words; nothing without."""
    hot_words = config.hot_words
    method = SEARCHES[config.decoding.decoding_method]
    if hot_words.path is None or not method.takes_hot_words:
        return ""
    return f"-context-score-{hot_words.context_score}"


def lm_suffix(config: RecognitionConfig) -> str:
    """Name the language model of the search and the scales; a rescoring names its own."""
    lm, method = config.lm, SEARCHES[config.decoding.decoding_method]
    if not method.can_stream:
        return ""
    if method.uses == ("lodr",):
        return f"_{lm.ngram_path.stem}-scale-{lm.ngram_lm_scale}"
    if "lm" not in method.uses:
        return ""
    suffix = f"_{lm.lm_type}-lm-scale-{lm.lm_scale}"
    if "lodr" in models_of(config.decoding.decoding_method, lm):
        suffix += f"_LODR-{lm.ngram_path.stem}-scale-{lm.ngram_lm_scale}"
    return suffix
