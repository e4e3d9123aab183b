"""Choice of the decoding method with the fewest word errors on the dev set."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import NamedTuple

from zipasr.base.errors import DataError, UserError
from zipasr.base.files import write_text
from zipasr.base.log import setup_logging
from zipasr.checkpoint.averaging import read_chosen
from zipasr.data.loaders import test_loader
from zipasr.recognition.acoustic_model import AcousticModel, acoustic_model_of, device_of
from zipasr.recognition.best_average import dev_cuts
from zipasr.recognition.config import RecognitionConfig
from zipasr.recognition.recogniser import (
    Recognised,
    Recogniser,
    recognise_with_all,
    recogniser_with,
)
from zipasr.recognition.resources import ResourceReader, check_resources
from zipasr.recognition.result_names import file_suffix, lm_suffix
from zipasr.scoring.result_files import ResultRow, results_table
from zipasr.scoring.word_errors import count_errors
from zipasr.search.methods import GREEDY, METHODS, Need, method_of

logger = logging.getLogger(__name__)

EVERY = "all"
# A beam that makes so many times the errors of greedy search is worth a warning.
_SUSPICIOUS = 1.02
# Weight of the n-gram of LODR for each unit of that of the language model.
_LODR_SHARE = -0.5


class Tried(NamedTuple):
    """A method on dev: the settings, the best of its settings, and a row of the table."""

    config: RecognitionConfig
    setting: str
    row: ResultRow


def with_best_method(config: RecognitionConfig) -> tuple[RecognitionConfig, str, str]:
    """Choose the method by the word errors on the recipe's dev set.

    A method that the model or the flags do not allow is left out, with the reason in the log.

    Returns:
        The settings with the best method; the best setting of it, if it has several, else nothing;
        and a table of all, which is also written to ``methods-dev-*.txt`` in the folder of the
        run, and ends with a line that says what was chosen.

    Raises:
        DataError: there is no dev set.
        UserError: no method can be run, or the dev set is a test set.
    """
    setup_logging()
    chosen = read_chosen(config.exp_dir, config.checkpoint)
    acoustics, tokenizer = acoustic_model_of(chosen, config)
    loader = test_loader(dev_cuts(config), config.sets.loading, acoustics.device)
    candidates = usable(config, acoustics, ResourceReader(tokenizer, device_of(config)))
    recognisers = [recogniser for _, recogniser in candidates]
    tried: dict[str, Tried] = {}
    found = recognise_with_all(recognisers, loader, "dev", loader.num_batches)
    for (one, _), recognised in zip(candidates, found, strict=True):
        name, now = one.decoding.decoding_method, _best_setting(one, recognised)
        errors = now.row.errors
        logger.info("%s: %s %.2f %% on dev", now.row.method, errors.metric, errors.rate)
        tried[name] = min(tried.get(name, now), now, key=_errors)
    suffix = file_suffix(candidates[0][0], acoustics)
    best = min(tried.values(), key=_errors)
    rows = {name: one.row for name, one in tried.items()}
    text = results_table(list(rows.values())) + (
        f"--methods chose {best.row.method}: {best.row.errors.metric} "
        f"{best.row.errors.rate:.2f} % on dev\n"
    )
    for line in warnings_about(rows):
        logger.warning("%s", line)
    write_text(config.exp_dir / f"methods-dev-{suffix}.txt", text)
    return best.config, best.setting, text


def usable(
    config: RecognitionConfig, acoustics: AcousticModel, reader: ResourceReader
) -> list[tuple[RecognitionConfig, Recogniser[AcousticModel]]]:
    """Build the searches that ``--methods`` asks for; why one is left out is in the log.

    Raises:
        UserError: none can be used; the reason of the last one.
        DataError: likewise.
    """
    found, refusal = [], UserError("--methods names no method.")
    for one in (variant for name in asked_methods(config) for variant in variants(config, name)):
        try:
            check_can_be_chosen(one.decoding.decoding_method)
            check_resources(one)
            found.append((one, recogniser_with(acoustics, reader, one)))
        except (UserError, DataError) as problem:
            if str(problem) != str(refusal):  # once for all weights
                logger.info("%s is left out: %s", one.decoding.decoding_method, problem.what)
            refusal = problem
    if not found:
        raise refusal
    return found


def variants(config: RecognitionConfig, name: str) -> list[RecognitionConfig]:
    """Return the settings with a method, one for each weight of a language model to try.

    The n-gram of LODR then counts minus half of it, as in the published setting, unless
    ``--ngram-lm-scale`` says how much.
    """
    one = replace(config, decoding=replace(config.decoding, decoding_method=name))
    method, lm = method_of(name), config.lm
    if Need.LM not in method.needs or method.lm_weight == "tuned":
        return [one]
    fixed = lm.ngram_lm_scale if lm.ngram_lm_scale < 0 else None
    return [
        replace(
            one,
            lm=replace(lm, lm_scale=scale, ngram_lm_scale=fixed or _LODR_SHARE * scale),
        )
        for scale in config.sweep.lm_scales
    ]


def _best_setting(config: RecognitionConfig, found: Recognised) -> Tried:
    errors = {
        setting: count_errors((t.ref, t.hyp) for t in those)
        for setting, those in found.by_setting.items()
    }
    setting = min(errors, key=lambda setting: errors[setting].total)
    shown = f"{config.decoding.decoding_method}{lm_suffix(config)}{setting}"
    return Tried(config, setting, ResultRow("dev", shown, errors[setting], found.rtf))


def _errors(tried: Tried) -> int:
    return tried.row.errors.total


def check_can_be_chosen(name: str) -> None:
    """Refuse a method that looks at what was said.

    Raises:
        UserError: it does.
    """
    if Need.REFERENCE in method_of(name).needs:
        raise UserError(f"{name} needs to know what was said, so that it is no method to choose.")


def asked_methods(config: RecognitionConfig) -> list[str]:
    """Return the names in ``--methods``.

    Raises:
        UserError: one is unknown.
    """
    names = list(config.sweep.methods or ())
    if names == [EVERY]:
        return [one.name for one in METHODS.values() if one.in_all and one.alias_of is None]
    for name in names:
        method_of(name)
    return names


def warnings_about(rows: dict[str, ResultRow]) -> list[str]:
    """Say which searches make more errors than greedy search of the same head, and what helps."""
    found = []
    for name, row in rows.items():
        greedy = rows.get(GREEDY[method_of(name).head])
        if greedy is not None and row.errors.total > _SUSPICIOUS * greedy.errors.total:
            found.append(
                f"{row.method} makes {row.errors.total} errors, greedy search "
                f"{greedy.errors.total}: {_hint(row, greedy)}"
            )
    return found


def _hint(row: ResultRow, greedy: ResultRow) -> str:
    if row.errors.dels > greedy.errors.dels:
        return "more words are lost; try --blank-penalty 1, or a smaller scale of language models."
    if row.errors.ins > greedy.errors.ins:
        return "more words are invented; try --blank-penalty -1, or a smaller bonus of hot-words."
    return "try another --beam-size, or other scales of language models."
