"""The sound of a corpus of one's own: commands run, files written anew where that is needed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zipasr.audio.audio_info import AudioInfo
from zipasr.audio.loading import SAMPLING_RATE, convert, needs_conversion
from zipasr.base.errors import DataError
from zipasr.base.files import atomic_path
from zipasr.base.progress import Progress
from zipasr.corpora.utterances import Utterance


def run_commands(utterances: Sequence[Utterance], num_jobs: int) -> None:
    """Let the commands of Kaldi's ``wav.scp`` write their sound; what is there already is kept.

    Raises:
        DataError: a command fails.
    """
    commands = {u.audio: u.command for u in utterances if u.command and not u.audio.is_file()}
    with ThreadPoolExecutor(num_jobs, "pipe") as pool:
        list(pool.map(_run, commands, commands.values()))


def _run(target: Path, command: str) -> None:
    with atomic_path(target) as temporary:
        # A line of the user's own data directory: Kaldi gives it to the shell as well.
        with temporary.open("wb") as out:
            done = subprocess.run(
                command, shell=True, stdout=out, stderr=subprocess.PIPE, text=True, check=False
            )
        if done.returncode != 0:
            said = " ".join(done.stderr.split())[:200]
            raise DataError(f"wav.scp: {command!r} ended with {done.returncode}: {said}.")


def num_samples(facts: AudioInfo) -> int:
    """Return the length of a file at the rate of the recipes."""
    return -(-facts.num_samples * SAMPLING_RATE // facts.rate)


def converted(
    utterances: Sequence[Utterance],
    facts: Mapping[Path, AudioInfo],
    target_of: Callable[[Path, int | None], Path],
    num_jobs: int,
) -> dict[Utterance, Path]:
    """Return the file of each utterance: 16 kHz, one channel.

    Files that are so already are used where they are. The others are written anew, unless that
    was done and they have not changed since.

    Args:
        utterances: of files without faults.
        facts: about the files.
        target_of: where to write a file, or one channel of it.
        num_jobs: threads.
    """
    sources = dict.fromkeys((u.audio, u.channel) for u in utterances)
    targets = {
        key: target_of(*key) if needs_conversion(key[0], facts[key[0]]) else key[0]
        for key in sources
    }
    missing = [key for key in sources if _is_stale(targets[key], key[0])]

    def write(key: tuple[Path, int | None]) -> None:
        convert(key[0], facts[key[0]], targets[key], key[1])

    with (
        ThreadPoolExecutor(num_jobs, "convert") as pool,
        Progress("converting audio files", len(missing)) as progress,
    ):
        for _ in pool.map(write, missing):
            progress.step()
    return {u: targets[u.audio, u.channel] for u in utterances}


def _is_stale(target: Path, source: Path) -> bool:
    if target == source:
        return False
    return not target.is_file() or target.stat().st_mtime_ns < source.stat().st_mtime_ns
