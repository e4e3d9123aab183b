"""Driver of the preparation: numbered stages, each done once and marked; run again to go on.

Help, ``--status`` and ``--dry-run`` need no package beside Python's own. Every stage is a process
of its own: it begins without the threads and the memory of the one before.
"""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from zipasr.base.errors import UserError, lacks_packages
from zipasr.base.lock import only_run_in
from zipasr.base.recipe import LAST_STAGE, Recipe, load_recipe
from zipasr.cli.entry import guarded
from zipasr.cli.prepare_options import SHORT_USAGE, USAGE, Options, read_options
from zipasr.cli.recipes import SUBSET_FLAGS, data_dir, lm_dir, prepare_command
from zipasr.cli.verbs import as_typed
from zipasr.text.config import BpeConfig, lang_name

# Folders below data/NAME in which killed stages leave temporary files: audio/SPLIT is the deepest.
_LEVELS = 3


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a preparation.

    Attributes:
        number: 0 to 5.
        about: what it does.
        output: folder that it writes to.
        command: program of the stage, a module in ``local``.
        words: its flags, those of the recipe apart.
        mark: file that says that it is done.
    """

    number: int
    about: str
    output: Path
    command: str
    words: tuple[str, ...]
    mark: Path

    @property
    def is_done(self) -> bool:
        """Whether its mark is there."""
        return self.mark.is_file()


def main(argv: Sequence[str] | None = None, started_in: Path | None = None) -> int:
    """Do the stages that are asked for; return the exit status.

    Args:
        argv: options; None reads those of the process.
        started_in: folder that ``--from`` counts from, given by ``prepare.sh``, which works where
            it stands; None: the current one.
    """

    def prepare(argv: Sequence[str] | None) -> int:
        words = sys.argv[1:] if argv is None else argv
        if {"-h", "--help", "--help-all"} & {*words}:
            sys.stdout.write(as_typed(USAGE if "--help-all" in words else SHORT_USAGE))
            return 0
        return _Driver(read_options(words), started_in).run()

    return guarded(prepare, "prepare.sh")(argv)


class _Driver:
    """One start of the preparation.

    Args:
        options: what is typed.
        started_in: see ``main``; where it is given, stages are started as modules of ``local``.
    """

    def __init__(self, options: Options, started_in: Path | None) -> None:
        self.options = options
        self.started_in = started_in

    def run(self) -> int:
        """Do the stages in order, up to the first that fails; return its exit status.

        Raises:
            ResourceError: another preparation of the recipe is running.
        """
        options = self.options
        if options.only_looks or (options.source is None and self.is_done()):
            return self.prepare()
        folder = Path("data") / Path(options.name).name
        try:
            with only_run_in(folder, flag="", user="preparation", levels=_LEVELS):
                return self.prepare()
        finally:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def is_done(self) -> bool:
        """Say whether nothing is left to do of a recipe that is there."""
        recipe = load_recipe(self.options.name).subset(self.options.subset)
        first, last = self.wanted(recipe)
        stages = stages_of(recipe, self.options)[first : last + 1]
        return not self.options.force and all(stage.is_done for stage in stages)

    def prepare(self) -> int:
        """Do the stages; see ``run``."""
        options = self.options
        if options.source and not options.only_looks:
            status = self.import_corpus(options.source)
            if status:
                return status
        recipe = load_recipe(options.name).subset(options.subset)
        first, last = self.wanted(recipe)
        stages = stages_of(recipe, options)
        for stage in stages:
            if options.status:
                _say_status(stage, recipe)
            elif first <= stage.number <= last:
                status = self.do(stage, stages, recipe)
                if status:
                    return status
        if options.source and last >= 4 and not options.only_looks:
            _say(_next_commands(options.name))
        return 0

    def wanted(self, recipe: Recipe) -> tuple[int, int]:
        """Return the first and the last stage that are asked for.

        Raises:
            UserError: there is none between them.
        """
        usual_first, usual_last = recipe.stages
        first, last = self.options.stage, self.options.stop_stage
        first = usual_first if first is None else first
        last = max(first, usual_last) if last is None else last
        if not first <= last <= LAST_STAGE:
            raise UserError(
                f"there is nothing to do from stage {first} to stage {last}.",
                f"the stages are 0 to {LAST_STAGE}.",
            )
        return first, last

    def import_corpus(self, source: Path) -> int:
        """Write the recipe of ``--from``; return the exit status."""
        need_packages()
        if self.started_in is not None and not self.started_in.samefile(Path.cwd()):
            source = self.started_in / source
        options = self.options
        encoding = ("--encoding", options.encoding) if options.encoding else ()
        normalise = ("--normalise", options.normalise) if options.normalise else ()
        max_bad = ("--max-bad", options.max_bad) if options.max_bad else ()
        strict = ("--strict-rate", "1") if options.strict_rate else ()
        unit = ("--unit", options.unit) if options.unit else ()
        where = ("--recipe", options.name, "--from", str(source), "--num-jobs", options.num_jobs)
        typed = (*encoding, *normalise, *max_bad, *strict, *unit)
        return self.start("import_corpus", *map(str, (*where, *typed)))

    def do(self, stage: Stage, stages: Sequence[Stage], recipe: Recipe) -> int:
        """Do one stage unless it is done; return the exit status.

        Raises:
            UserError: the stage before it has not been done, or packages are missing.
        """
        number = stage.number
        if stage.is_done and not self.options.force:
            _say(f"stage {number}: done before, see {stage.output}")
            return 0
        if self.options.dry_run:
            _say(f"stage {number}: would do: {_about(stage, recipe)}")
            return 0
        if number > 1 and not stages[number - 1].is_done:
            first = number - 1
            while first > recipe.stages[0] and not stages[first - 1].is_done:
                first -= 1
            raise UserError(
                f"stage {number} needs what stage {number - 1} makes.",
                f"begin with stage {first}: {prepare_command(recipe, first)}",
            )
        need_packages()
        stage.mark.parent.mkdir(parents=True, exist_ok=True)
        for later in stages[number:]:  # what was made from the old output is out of date
            later.mark.unlink(missing_ok=True)
        _say(f"stage {number}: {_about(stage, recipe)}")
        begun = time.monotonic()
        subset = SUBSET_FLAGS.get(recipe.chosen or "", ())
        status = self.start(stage.command, *stage.words, "--recipe", self.options.name, *subset)
        if status == 0:
            stage.mark.touch()
            took, size = round(time.monotonic() - begun), _size(stage.output)
            _say(f"stage {number}: took {took} s, wrote {stage.output} ({size})")
        return status

    def start(self, command: str, *words: str) -> int:
        """Run the program of a stage; return its exit status."""
        module = (f"local.{command}",) if self.started_in is not None else ("zipasr", command)
        with subprocess.Popen([sys.executable, "-m", *module, *words]) as process:
            before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
            try:
                status = _wait(process)
            finally:
                signal.signal(signal.SIGTERM, before)
        return status if status >= 0 else 128 - status


def _wait(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # the terminal sends it to the stage too, which says so and ends


def stages_of(recipe: Recipe, options: Options) -> list[Stage]:
    """Return all stages, of a recipe or of its subset that was chosen."""
    data, chosen = data_dir(recipe), f"-{recipe.chosen}" if recipe.chosen else ""
    places = ("--dl-dir", options.dl_dir)
    jobs = ("--num-jobs", str(options.num_jobs))
    giga = ("--giga-dir", options.giga_dir) if options.giga_dir else ()
    mirror = ("--mirror", options.mirror) if options.mirror else ()
    archives = ("--keep-archives", str(int(options.keep_archives)))
    commands = ("--allow-commands", "1") if options.allow_commands else ()
    force = ("--force", "1") if options.force else ()
    noise = ("--noise-dir", str(options.noise_dir)) if options.noise_dir else ()
    vocabulary, lang, sizes = typed_tokens(recipe, options)
    tokens: tuple[str, ...] = ()
    if lang:
        sizes = (*sizes, "--lang-dir", str(data / f"{lang}{chosen}"))
        tokens = ("--bpe-model", str(data / f"{lang}{chosen}" / "bpe.model"))
    rows: list[tuple[str, Path, str, tuple[str, ...]]] = [
        (
            "download, check and unpack the corpus",
            Path(options.dl_dir),
            "download_corpus",
            (*places, *archives, *mirror),
        ),
        (
            "corpus -> manifests",
            data / "manifests",
            "prepare_corpus",
            (*jobs, *places, *giga, *force),
        ),
        (
            "manifests -> fbank features (about 5 s an hour of speech and core)",
            data / "fbank",
            "compute_fbank",
            (*jobs, *commands, *noise, *force),
        ),
        ("training transcripts -> tokenizer (seconds)", data, "train_bpe", (*places, *sizes)),
        (
            "check everything, report what would be dropped (seconds)",
            data,
            "validate_data",
            (*tokens, *commands),
        ),
        ("text for a language model", lm_dir(recipe), "prepare_lm_text", places),
    ]
    marks = data / f".done{chosen}"
    # Another vocabulary is other work, and so is noise.
    more = {2: "-noise" if noise else "", 3: vocabulary, 4: vocabulary}
    names = [f"{n}{more.get(n, '')}" for n in range(len(rows))]
    return [Stage(n, *row, marks / names[n]) for n, row in enumerate(rows)]


def typed_tokens(recipe: Recipe, options: Options) -> tuple[str, str, tuple[str, ...]]:
    """Return what ``--unit`` and ``--vocab-size`` ask for; nothing where the recipe decides.

    Returns:
        The end of the names of marks, the folder of the tokens, and flags of stage 3.
    """
    # An import puts the unit into the recipe that it writes.
    typed = None if options.source else options.unit
    if options.vocab_size is None and typed is None:
        return "", "", ()
    unit = typed or recipe.flags.get("unit", "bpe")
    size = str(options.vocab_size or recipe.flags.get("vocab-size", BpeConfig().vocab_size))
    words = ("--vocab-size", size, *(("--unit", unit) if typed else ()))
    mark = "-".join(["", *filter(None, [typed]), *([] if typed == "char" else [size])])
    return mark, lang_name(unit, size), words


def need_packages() -> None:
    """Look for the packages that stages need.

    Raises:
        UserError: they are not installed.
    """
    if not all(importlib.util.find_spec(name) for name in ("torch", "lhotse")):
        raise lacks_packages()


def _about(stage: Stage, recipe: Recipe) -> str:
    """Say what a stage does; what the recipe says about its needs replaces what holds for most."""
    needs = recipe.needs_of(stage.number)
    return stage.about if needs is None else f"{stage.about.partition(' (')[0]}; needs {needs}"


def _say_status(stage: Stage, recipe: Recipe) -> None:
    first, last = recipe.stages
    if stage.is_done:
        done = datetime.fromtimestamp(stage.mark.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
        _say(f"stage {stage.number}: done {done}, see {stage.output}")
    elif first <= stage.number <= last:
        _say(f"stage {stage.number}: to do: {_about(stage, recipe)}")


def _next_commands(recipe: str) -> str:
    rows = [
        (f"./train.py --recipe {recipe} --dry-run 1", "what the training will take"),
        (
            f"./train.py --recipe {recipe} --world-size 1",
            "train with one process (one for each GPU, or core); run it again to go on",
        ),
        (f"./decode.py --recipe {recipe}", "word error rates of the test sets"),
    ]
    typed = [(as_typed(command), does) for command, does in rows]
    width = max(len(command) for command, _ in typed)
    lines = [f"      {command:<{width}}   {does}" for command, does in typed]
    return "next:" + "\n".join(lines)[len("next:") :]


def _size(folder: Path) -> str:
    """Return how much the files of a folder take, such as ``1.2G``."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1024
    for unit in ("K", "M", "G"):
        if size < 1024:
            return f"{size:.2g}{unit}" if size < 10 else f"{size:.0f}{unit}"
        size /= 1024
    return f"{size:.1f}T"


def _say(line: str) -> None:
    """Write a line before the stage that follows writes its own."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
