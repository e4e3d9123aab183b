"""LibriSpeech: what to download, and the manifests of its parts and of MUSAN's noise."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.recipes.librispeech import parse_utterance

from zipasr.audio.quarantine import too_many_lost
from zipasr.base.errors import DataError, UserError, nearest
from zipasr.base.progress import Progress
from zipasr.corpora import openslr
from zipasr.corpora.manifest_files import write_manifests
from zipasr.corpora.openslr import write_noise_manifests
from zipasr.corpora.published import Download, near_by

logger = logging.getLogger(__name__)

_ROOT = "LibriSpeech"
_OPTIONS = ("lm", "musan")
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class LibriSpeechCorpus:
    """The parts of LibriSpeech that a recipe names.

    Attributes:
        download_dir: holds ``LibriSpeech`` and ``musan`` in the layout of the archives.
        parts: such as ``train-clean-100``.
        musan: prepare the noise of MUSAN, too.
        lm: names of the files of ``openslr.LM_FILES`` to download.
    """

    download_dir: Path
    parts: tuple[str, ...]
    musan: bool = True
    lm: tuple[str, ...] = ()
    name: ClassVar[str] = "librispeech"

    @classmethod
    def from_settings(
        cls, download_dir: Path, parts: Sequence[str], settings: Mapping[str, Any]
    ) -> LibriSpeechCorpus:
        """Read the two settings, ``musan`` (a boolean) and ``lm`` (a list of file names).

        Raises:
            UserError: a part, a setting or a file that there is not.
        """
        musan, lm = settings.get("musan", True), settings.get("lm", [])
        _check_known("option", settings, _OPTIONS)
        _check_known("part", parts, openslr.PARTS)
        if not isinstance(musan, bool):
            raise UserError(f"corpus 'librispeech': musan = {musan!r} is neither true nor false.")
        if not isinstance(lm, list):
            raise UserError(f"corpus 'librispeech': lm = {lm!r} is no list of files.")
        _check_known("file for language models", lm, openslr.LM_FILES)
        return cls(download_dir, tuple(parts), musan, tuple(lm))

    def downloads(self) -> list[Download]:
        """Return the archives and files of the recipe."""
        parts = [_download(part, self.download_dir) for part in self.parts]
        noise = [Download(openslr.MUSAN, self.download_dir, PurePosixPath("musan"))]
        texts = [Download(openslr.LM_FILES[name], self.download_dir / "lm") for name in self.lm]
        return parts + noise * self.musan + texts

    def lm_text(self) -> Path | None:
        """Return the file with text for language models; None when it was not downloaded."""
        return self._lm_file(openslr.LM_TEXT.name)

    def lexicon(self) -> Path | None:
        """Return the published pronunciations; None when they were not downloaded."""
        return self._lm_file(openslr.LEXICON.name)

    def _lm_file(self, name: str) -> Path | None:
        path = self.download_dir / "lm" / name
        return path if name in self.lm and path.is_file() else None

    def prepare(self, manifest_dir: Path, num_jobs: int) -> dict[str, int]:
        """Write the manifests of all parts, and those of the noise; see ``Corpus.prepare``."""
        root = self.download_dir / _ROOT
        _require_parts(root, self.parts)
        counts = {part: _prepare_part(root / part, manifest_dir, num_jobs) for part in self.parts}
        if self.musan:
            write_noise_manifests(self.download_dir / "musan", manifest_dir)
        return counts


def _download(part: str, folder: Path) -> Download:
    return Download(openslr.PARTS[part], folder, PurePosixPath(_ROOT, part))


def _check_known(what: str, names: Any, known: Any) -> None:
    for name in names:
        if name not in known:
            hint = nearest(str(name), known) or f"there are {', '.join(known)}."
            raise UserError(f"corpus 'librispeech' has no {what} {name!r}.", hint)


def _require_parts(root: Path, parts: Sequence[str]) -> None:
    absent = [part for part in parts if not (root / part).is_dir()]
    if absent:
        raise DataError(
            f"{root / absent[0]} does not exist; {_what_is_there(root)}",
            near_by(_download(absent[0], root.parent))
            or "run ./prepare.sh --stage 0 first, which downloads and unpacks it, "
            f"or tell with --dl-dir where the folder {_ROOT} is",
        )


def _what_is_there(root: Path) -> str:
    folder = root if root.is_dir() else root.parent
    if not folder.is_dir():
        return f"nor does {folder}."
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return f"{folder} holds {', '.join(names[:10]) or 'nothing'}."


def _prepare_part(folder: Path, manifest_dir: Path, num_jobs: int) -> int:
    lines = list(_transcript_lines(folder))
    found = list(_utterances(folder, lines, num_jobs))
    _report_lost([line.split()[0] for line, it in zip(lines, found, strict=True) if not it], folder)
    recordings = RecordingSet.from_recordings(it[0] for it in found if it)
    supervisions = SupervisionSet.from_segments(it[1] for it in found if it)
    published = openslr.UTTERANCES[folder.name]
    if len(found) != published:
        logger.warning(
            "%s: %d utterances, where the published part has %d", folder, len(found), published
        )
    return write_manifests(
        manifest_dir, LibriSpeechCorpus.name, folder.name, recordings, supervisions
    )


def _transcript_lines(folder: Path) -> Iterator[str]:
    """Yield ``utterance-id TEXT`` in a fixed order."""
    paths = sorted(folder.rglob("*.trans.txt"))
    if not paths:
        raise DataError(
            f"{folder} has no transcripts (*.trans.txt).",
            "delete the folder and run ./prepare.sh --stage 0 --force, which unpacks it again",
        )
    for path in paths:
        for number, line in enumerate(_text(path).splitlines(), start=1):
            if line.strip():
                if len(line.split(maxsplit=1)) < 2:
                    raise DataError(f"{path}, line {number}: there is no text: {line!r}.")
                yield line


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise DataError(
            f"{path}, line {line}: {content[problem.start : problem.end]!r} is no UTF-8.",
            "take the file from the published archive again",
        ) from problem


_Utterance = tuple[Recording, SupervisionSegment] | None


def _utterances(folder: Path, lines: list[str], num_jobs: int) -> Iterator[_Utterance]:
    """Yield what lhotse makes of each line; None where the audio is missing or no audio."""

    def read(line: str) -> _Utterance:
        try:
            utterance: _Utterance = parse_utterance(folder, line, {})
        # lhotse raises whatever its decoders raise.
        except Exception as problem:
            logger.warning("%s: %s", line.split()[0], " ".join(str(problem).split())[:200])
            return None
        return utterance

    with (
        ThreadPoolExecutor(num_jobs) as pool,
        Progress(f"utterances of {folder.name}", len(lines)) as progress,
    ):
        for utterance in pool.map(read, lines):
            progress.step()
            yield utterance


def _report_lost(names: list[str], folder: Path) -> None:
    if not names:
        return
    total = sum(1 for _ in _transcript_lines(folder))
    message = (
        f"{folder}: the audio of {len(names)} of {total} utterances is missing or damaged, "
        f"such as {', '.join(names[:_EXAMPLES])}"
    )
    if too_many_lost(len(names), total):
        raise DataError(
            f"{message}.",
            "delete the folder and run ./prepare.sh --stage 0 --force, which unpacks it again",
        )
    logger.warning("%s; going on without them", message)
