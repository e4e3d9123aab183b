"""Try decoding methods on the dev set, and choose the one with the fewest word errors."""

from __future__ import annotations

import logging
from dataclasses import replace

from zipasr.base.errors import DataError, UserError
from zipasr.base.files import atomic_path
from zipasr.base.log import setup_logging
from zipasr.checkpoint.average import ChooseCheckpoint, read_chosen
from zipasr.cli.aids import check_aids
from zipasr.cli.best_average import dev_cuts
from zipasr.cli.commands import ExpConfig, SweepConfig
from zipasr.cli.flags import Run
from zipasr.cli.recogniser import recognise_settings, recogniser_of
from zipasr.cli.result_names import file_suffix
from zipasr.data.loaders import DataConfig, test_loader
from zipasr.scoring.align import count_errors
from zipasr.scoring.reports import ResultRow, results_table
from zipasr.search.methods import SEARCHES, check_method
from zipasr.search.types import DecodingConfig

EVERY = "all"
# Second names, and the one that is there to compare with and takes hours.
_NOT_IN_ALL = ("beam_search", "ctc_greedy_search", "ctc-decoding")
_GREEDY = {"transducer": "greedy_search", "ctc": "ctc-greedy-search"}
# A beam that makes so many times the errors of greedy search is worth a warning.
_SUSPICIOUS = 1.02


def with_best_method(run: Run) -> tuple[Run, str, str]:
    """Choose the method of a run by the word errors on the recipe's dev set.

    A method that the model or the flags do not allow is left out, with the reason in the log.

    Returns:
        The run with the best method; the best setting of it, if it has several, else nothing;
        and a table of all, which is also written to ``methods-dev-*.txt`` in the folder of the
        run, and ends with a line that says what was chosen.

    Raises:
        DataError: there is no dev set.
        UserError: no method can be run, or the dev set is a test set.
    """
    setup_logging()
    chosen = read_chosen(run[ExpConfig].exp_dir, run[ChooseCheckpoint])
    loader = test_loader(dev_cuts(run), run[DataConfig])
    rows: dict[str, ResultRow] = {}
    settings: dict[str, str] = {}
    refusal, suffix = UserError("--methods names no method."), ""
    for name in asked_methods(run):
        one = run.having(replace(run[DecodingConfig], decoding_method=name))
        try:
            check_can_be_chosen(name)
            check_aids(one)
            recogniser = recogniser_of(chosen, one)
        except (UserError, DataError) as problem:
            refusal = problem
            logging.info("%s is left out: %s", name, problem)
            continue
        suffix = suffix or file_suffix(one, recogniser)
        found = recognise_settings(recogniser, loader, f"dev, {name}", loader.num_batches)
        errors = {
            setting: count_errors((t.ref, t.hyp) for t in those)
            for setting, those in found.by_setting.items()
        }
        settings[name] = min(errors, key=lambda setting: errors[setting].total)
        shown = f"{name}{settings[name]}"
        rows[name] = ResultRow("dev", shown, errors[settings[name]], found.rtf)
        logging.info("%s: WER %.2f %% on dev", shown, rows[name].errors.rate)
    if not rows:
        raise refusal
    best = min(rows, key=lambda name: rows[name].errors.total)
    text = results_table(list(rows.values())) + (
        f"--methods chose {rows[best].method}: WER {rows[best].errors.rate:.2f} % on dev\n"
    )
    for line in warnings_about(rows):
        logging.warning("%s", line)
    with atomic_path(run[ExpConfig].exp_dir / f"methods-dev-{suffix}.txt") as temporary:
        temporary.write_text(text, encoding="utf-8")
    better = run.having(replace(run[DecodingConfig], decoding_method=best))
    return better, settings[best], text


def check_can_be_chosen(name: str) -> None:
    """Refuse a method that looks at what was said.

    Raises:
        UserError: it does.
    """
    if "reference" in SEARCHES[name].uses:
        raise UserError(f"{name} needs to know what was said, so that it is no method to choose.")


def asked_methods(run: Run) -> list[str]:
    """Return the names in ``--methods``.

    Raises:
        UserError: one is unknown.
    """
    names = list(run[SweepConfig].methods or ())
    if names == [EVERY]:
        return [name for name in SEARCHES if name not in _NOT_IN_ALL]
    for name in names:
        check_method(name)
    return names


def warnings_about(rows: dict[str, ResultRow]) -> list[str]:
    """Say which searches make more errors than greedy search of the same head, and what helps."""
    found = []
    for name, row in rows.items():
        greedy = rows.get(_GREEDY[SEARCHES[name].head])
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
