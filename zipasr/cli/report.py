"""Write the report on the decodings of a training run; compare it with another run."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from zipasr.base.errors import UserError
from zipasr.base.files import sweep, write_text
from zipasr.checkpoint.config import ExpConfig
from zipasr.cli.command_flags import read
from zipasr.cli.config import ReportConfig
from zipasr.cli.entry import guarded
from zipasr.cli.model_commands import REPORT
from zipasr.scoring.decodings import decoding_files
from zipasr.scoring.html_report import comparison_page, matching
from zipasr.scoring.run_report import load_report, short_comparison, write_report
from zipasr.scoring.training_facts import CURVES_FILE, RUN_FILE


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Write report.html and report.md of a run, or the comparison with another one.

    Raises:
        UserError: nothing was decoded, or the runs have no test set in common.
        DataError: a result file is damaged.
    """
    run = read(REPORT, argv)
    exp_dir, config = run[ExpConfig].exp_dir, run[ReportConfig]
    sweep(exp_dir)
    if config.compare_with is None:
        for path in write_report(exp_dir, config.embed_audio_mb, config.watch):
            sys.stdout.write(f"{path}\n")
        if config.watch:
            watch(exp_dir, config)
        return 0
    second = load_report(exp_dir, config.embed_audio_mb)
    first = load_report(config.compare_with, 0.0)
    if not matching(first.decodings, second.decodings):
        raise UserError(
            f"{exp_dir} and {config.compare_with} have no test set in common, scored alike.",
            "decode the same --test-sets with both, with the same --score-normalised.",
        )
    sys.stdout.write(short_comparison(first, second))
    path = exp_dir / f"report-against-{config.compare_with.resolve().name}.html"
    write_text(path, comparison_page(first, second), "replace")
    sys.stdout.write(f"{path}\n")
    return 0


def watch(exp_dir: Path, config: ReportConfig) -> NoReturn:
    """Write the report again whenever there is something new, until it is interrupted."""
    sys.stdout.write("watching; Ctrl-C ends it\n")
    seen = _stamps(exp_dir)
    while True:
        sys.stdout.flush()
        time.sleep(config.watch)
        if (now := _stamps(exp_dir)) == seen:
            continue
        seen = now
        try:
            page, _ = write_report(exp_dir, config.embed_audio_mb, config.watch)
        except UserError as problem:  # such as a file that is only half written
            sys.stderr.write(f"{problem}\n")
            continue
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {page}\n")


def _stamps(exp_dir: Path) -> dict[Path, int]:
    """Return the times of what a report is made from."""
    files = [exp_dir / RUN_FILE, exp_dir / CURVES_FILE, *decoding_files(exp_dir)]
    return {path: path.stat().st_mtime_ns for path in files if path.exists()}
