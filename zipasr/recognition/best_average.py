"""Choice of the average of checkpoints with the fewest word errors on the dev set."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from zipasr.base.errors import CheckpointError, DataError, UserError
from zipasr.base.files import write_text
from zipasr.base.log import setup_logging
from zipasr.checkpoint.averaging import LoadedWeights, read_chosen
from zipasr.checkpoint.checkpoint_file import ReadCheckpoint, load_checkpoint, saved_epochs
from zipasr.checkpoint.config import ChooseCheckpoint
from zipasr.checkpoint.selection import (
    best_of,
    candidates,
    files_of,
    last_complete,
    next_to_try,
    ranked,
    with_last_epoch,
)
from zipasr.data.config import cuts_path
from zipasr.recognition.acoustic_model import device_of
from zipasr.recognition.config import RecognitionConfig
from zipasr.recognition.recogniser import recognise, recogniser_of
from zipasr.scoring.word_errors import WordErrors, count_errors
from zipasr.search.config import DecodingConfig, HotWordsConfig
from zipasr.search.methods import method_of

if TYPE_CHECKING:
    from lhotse import CutSet

    from zipasr.data.loaders import Loader

logger = logging.getLogger(__name__)

SCORES_FILE = "auto-avg.json"

Scores = dict[ChooseCheckpoint, WordErrors]


def with_checkpoints(
    config: RecognitionConfig, reports: TextIO, read: ReadCheckpoint = load_checkpoint
) -> RecognitionConfig:
    """Settle which checkpoints are used, and say what the user did not choose.

    They are the best average with ``--auto-avg``, whose table goes to ``reports``, or the one that
    was chosen before, where the command has no dev set. Else, and where there is nothing to choose
    from, they are those of ``selection.with_last_epoch``, whose notes go to the error stream.

    Args:
        config: settings.
        reports: takes the table.
        read: reads the last checkpoint, to see that it is whole.

    Raises:
        CheckpointError: a checkpoint is missing.
        DataError: --auto-avg, and there is no dev set.
        UserError: --auto-avg, and the dev set is a test set.
    """
    choose, notes = config.checkpoint, []
    if choose.auto_avg and config.evaluation is None:
        if (known := chosen_before(config)) is not None:
            sys.stderr.write(f"using {label(known)}, the best on dev in {SCORES_FILE}.\n")
            return replace(config, checkpoint=known)
        notes = ["this command has no dev set: ./decode.py --auto-avg 1 chooses the average."]
        choose = replace(choose, auto_avg=False)
    if choose.auto_avg and (choose.iter > 0 or len(saved_epochs(config.exp_dir)) > 1):
        config, report = with_best_average(config)
        reports.write(report)
        return config
    choose, more = with_last_epoch(
        config.exp_dir,
        replace(choose, auto_avg=False),
        read,
        is_avg_typed=config.is_avg_typed,
    )
    sys.stderr.write("".join(f"{note}\n" for note in (*notes, *more)))
    return replace(config, checkpoint=choose)


def chosen_before(config: RecognitionConfig) -> ChooseCheckpoint | None:
    """Return the average that an earlier search found best; None if its files have changed."""
    choose, exp_dir = config.checkpoint, config.exp_dir
    if not (exp_dir / SCORES_FILE).is_file():
        return None
    try:
        offered = candidates(exp_dir, choose)
    except CheckpointError:
        return None
    wanted = {
        "method": greedy_of(config.decoding).decoding_method,
        "use_averaged_model": choose.use_averaged_model,
    }
    for search in reversed(searches_in(exp_dir / SCORES_FILE)):
        settings, best = search["settings"], search.get("best")
        if not best or not wanted.items() <= settings.items():
            continue
        known = Record(exp_dir, settings).known(offered)
        found = next((one for one in known if _name(one).items() <= best.items()), None)
        if found is not None:
            return found
    return None


def with_best_average(config: RecognitionConfig) -> tuple[RecognitionConfig, str]:
    """Choose the checkpoints of a run by greedy search on the recipe's dev set.

    The scores are kept in ``auto-avg.json`` in the folder of the run, one by one as they are
    found: what was scored before with the same settings, from files that have not changed since,
    is not scored again. The order of the search is that of ``next_to_try``; an average that
    cannot be made, such as one over too few batches, is left out. Where none can be made, the last
    complete epoch is used as it is.

    Returns:
        The settings with the best epoch (or iteration) and avg, and a table of all scores, which
        ends with a line that says what was chosen; or lines that say which epoch is used, and why.

    Raises:
        CheckpointError: there are no checkpoints, or none that can be used.
        DataError: there is no dev set.
        UserError: the dev set is a test set.
    """
    from zipasr.data.loaders import test_loader

    exp_dir = config.exp_dir
    offered = candidates(exp_dir, config.checkpoint)
    cuts = dev_cuts(config)
    loader = test_loader(cuts, config.sets.loading, device_of(config))
    record = Record(exp_dir, settings_of(config))
    scores = record.known(offered)
    setup_logging()
    if scores:
        logger.info("%s has %d of the scores", record.path, len(scores))
    greedy = replace(config, decoding=greedy_of(config.decoding), hot_words=HotWordsConfig())
    refusals: dict[ChooseCheckpoint, CheckpointError] = {}
    while todo := next_to_try(offered, _errors(scores) | dict.fromkeys(refusals)):
        for choose in todo:
            try:
                chosen = read_chosen(exp_dir, choose)
            except CheckpointError as refusal:
                refusals[choose] = refusal
                logger.warning("%s is left out: %s", label(choose), refusal)
                continue
            scores[choose] = score(chosen, replace(greedy, checkpoint=choose), loader)
            errors = scores[choose]
            logger.info("%s: %s %.2f %% on dev", label(choose), errors.metric, errors.rate)
            record.write(scores)
    best = best_of(_errors(scores))
    if best is None:
        first = next(iter(refusals.values()))
        if config.checkpoint.iter or not config.checkpoint.use_averaged_model:
            raise first
        epoch, passed_over = last_complete(exp_dir)
        last = replace(offered[0], epoch=epoch, avg=1, use_averaged_model=False)
        told = (*passed_over, f"using {label(last)}, not averaged: {first.what.rstrip('.')}.")
        return replace(config, checkpoint=last), "".join(f"{line}\n" for line in told)
    return replace(config, checkpoint=best), report(scores, best, config, sum(1 for _ in cuts))


def dev_cuts(config: RecognitionConfig) -> CutSet:
    """Return the cuts of the dev set; ``--auto-avg-cuts`` of them, evenly spread, when positive.

    Raises:
        DataError: they are missing, empty or damaged.
        UserError: the recipe uses a split for both development and test.
    """
    from zipasr.data.loaders import load_cuts
    from zipasr.data.manifests import evenly_spread

    data = config.sets
    splits = data.splits["valid"]
    if both := [name for name in splits if name in data.splits["test"]]:
        raise UserError(
            f"--auto-avg 1: {both[0]} of {config.recipe} is a test set, not to be chosen on.",
            "name another split under valid in the recipe, or choose --epoch and --avg yourself.",
        )
    try:
        cuts = load_cuts(
            data.loading.manifest_dir,
            data.corpus,
            splits,
            allow_commands=data.loading.allow_commands,
        )
    except DataError as error:
        raise DataError(f"--auto-avg 1 needs the dev set: {error.what}", error.fix) from error
    count = config.checkpoint.auto_avg_cuts
    return evenly_spread(cuts, count) if count else cuts


def greedy_of(decoding: DecodingConfig) -> DecodingConfig:
    """Return the greedy search through the head that the asked method uses."""
    is_ctc = method_of(decoding.decoding_method).head == "ctc"
    return replace(decoding, decoding_method="ctc_greedy_search" if is_ctc else "greedy_search")


def score(chosen: LoadedWeights, config: RecognitionConfig, loader: Loader) -> WordErrors:
    """Count the errors that one average makes on the dev set.

    Raises:
        CheckpointError: flags contradict the checkpoint.
    """
    name = f"dev, {label(config.checkpoint)}"
    found = recognise(recogniser_of(chosen, config), loader, name, loader.num_batches)
    (transcripts,) = found.by_setting.values()
    return count_errors((one.ref, one.hyp) for one in transcripts)


def settings_of(config: RecognitionConfig) -> dict[str, Any]:
    """Return all that a score depends on, but the checkpoints, as JSON types."""
    choose, data, decoding = config.checkpoint, config.sets, greedy_of(config.decoding)
    splits = data.splits["valid"]
    manifests = [cuts_path(data.loading.manifest_dir, data.corpus, split) for split in splits]
    settings = {
        "recipe": config.recipe,
        "sets": splits,
        "manifests": stamps(manifests),
        "cuts": choose.auto_avg_cuts,
        "from_audio": data.loading.from_audio,
        "use_averaged_model": choose.use_averaged_model,
        "method": decoding.decoding_method,
        "max_sym_per_frame": decoding.max_sym_per_frame,
        "blank_penalty": decoding.blank_penalty,
        "temperature": decoding.temperature,
        "use_bf16": decoding.use_bf16,
        "pad_look_ahead": decoding.pad_look_ahead,
        "bpe_model": config.tokens.bpe_model,
        "typed": config.model_flags,
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return plain


def stamps(paths: Sequence[Path]) -> dict[str, list[int]]:
    """Return size (bytes) and time of change (ns) of files: others when one was written anew."""
    found = {path.name: path.stat() for path in paths}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in found.items()}


class Record:
    """The file of scores: a list of searches, each with its settings, its best and its scores.

    Args:
        exp_dir: folder of the training run.
        settings: of the search that this record reads and writes; the others stay in the file.
    """

    def __init__(self, exp_dir: Path, settings: Mapping[str, Any]) -> None:
        self.path = exp_dir / SCORES_FILE
        self._settings = settings

    def known(self, offered: Sequence[ChooseCheckpoint]) -> Scores:
        """Return the scores of those offered whose checkpoints are as they were."""
        rows = [
            row for one in searches_in(self.path) if self._is_mine(one) for row in one["scores"]
        ]
        found = {}
        for choose in offered:
            made_of = self._key(choose)
            for row in rows:
                if made_of.items() <= row.items():
                    found[choose] = WordErrors(*(row[name] for name in WordErrors._fields))
        return found

    def write(self, scores: Scores) -> None:
        """Replace the scores of this search."""
        best = best_of(_errors(scores))
        mine = {
            "settings": self._settings,
            "best": best and _name(best) | {"wer": round(scores[best].rate, 2)},
            "scores": [
                self._key(choose) | {"wer": round(errors.rate, 2)} | errors._asdict()
                for choose, errors in scores.items()
            ],
        }
        others = [one for one in searches_in(self.path) if not self._is_mine(one)]
        text = json.dumps({"searches": [*others, mine]}, indent=1)
        write_text(self.path, text + "\n")

    def _key(self, choose: ChooseCheckpoint) -> dict[str, Any]:
        return _name(choose) | {"files": stamps(files_of(self.path.parent, choose))}

    def _is_mine(self, search: Mapping[str, Any]) -> bool:
        return bool(search["settings"] == self._settings)


def searches_in(path: Path) -> list[dict[str, Any]]:
    """Read the file of scores; one that is damaged costs time to make again, no more."""
    if not path.is_file():
        return []
    try:
        searches = json.loads(path.read_text(encoding="utf-8"))["searches"]
        complete = all(
            {"settings", "scores"} <= one.keys()
            and all({*WordErrors._fields} <= row.keys() for row in one["scores"])
            for one in searches
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        complete = False
    if not complete:
        logger.warning("%s is damaged; it is made again", path)
        return []
    return list(searches)


def report(
    scores: Scores, best: ChooseCheckpoint, config: RecognitionConfig, utterances: int
) -> str:
    """Format the scores as a table, best first, and say in a last line what was chosen.

    Args:
        scores: of all averages.
        best: of them.
        config: settings.
        utterances: how many were decoded, which is told where they may be a part of the dev set.
    """
    style = "iter" if best.iter else "epoch"
    metric = scores[best].metric
    lines = [f"{style:>7}  avg  dev {metric} %", "-------  ---  ---------"]
    for one in ranked(_errors(scores)):
        lines.append(f"{one.number:7d}  {one.avg:3d}  {scores[one].rate:9.2f}")
    sets = ",".join(config.sets.splits["valid"])
    of_them = f" ({utterances} utterances)" if config.checkpoint.auto_avg_cuts else ""
    return "\n".join(lines) + (
        f"\n--auto-avg chose --{style} {best.number} --avg {best.avg}: "
        f"{metric} {scores[best].rate:.2f} % on {sets}{of_them}, "
        f"{greedy_of(config.decoding).decoding_method}; see "
        f"{config.exp_dir / SCORES_FILE}\n"
    )


def label(choose: ChooseCheckpoint) -> str:
    """Name an average in a few words."""
    return " ".join(f"{name} {value}" for name, value in _name(choose).items())


def _name(choose: ChooseCheckpoint) -> dict[str, Any]:
    return {"iter" if choose.iter else "epoch": choose.number, "avg": choose.avg}


def _errors(scores: Scores) -> dict[ChooseCheckpoint, int | None]:
    return {choose: errors.total for choose, errors in scores.items()}
