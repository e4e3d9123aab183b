"""Files and command lines for the clients of an exported model, keyword spotters among them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from zipasr.base.errors import DataError, UserError
from zipasr.encoder.protocol import ExportLayout
from zipasr.exporting.config import ExportConfig
from zipasr.model.config import ModelConfig
from zipasr.recognition.config import KINDS, PARTS, EndpointConfig, Kind
from zipasr.recognition.export_check import SAMPLE, SETTINGS, TABLE
from zipasr.recognition.exported_files import kind_of
from zipasr.search.config import HotWordsConfig
from zipasr.text.phrases import phrases_of
from zipasr.text.text_io import read_lines
from zipasr.text.tokenizer import Tokenizer

#: Entries of the settings: what tokens are, and the flag --modeling-unit of sherpa-onnx.
UNIT, MODELING_UNIT = "unit", "modeling_unit"
#: A page of Python that needs onnxruntime alone.
PAGE = "onnxruntime_client.py"
#: Phrases for the keyword spotter.
KEYWORDS = "keywords.txt"
#: Folder of links with the file names of onnx-asr, which its command makes.
ONNX_ASR = "onnx-asr"

_PROGRAMS = "sherpa-onnx-bin"
_PORT = 6006
_LONGEST = 90  # characters of a command that stands on one line


@dataclass(frozen=True, slots=True)
class ClientCommand:
    """What is typed in an exported folder to run it in a client.

    Attributes:
        client: the program, and what it does.
        packages: what pip installs for it.
        steps: words of each command, one after the other.
    """

    client: str
    packages: str
    steps: tuple[tuple[str, ...], ...]

    @property
    def line(self) -> str:
        """All of it in one line, to paste."""
        return " && ".join(map(shlex.join, self.steps))

    @property
    def block(self) -> str:
        """All of it for a page; long commands have a line for each flag."""
        return "\n".join(map(_in_lines, self.steps))


def _in_lines(words: Sequence[str]) -> str:
    line = shlex.join(words)
    if len(line) <= _LONGEST:
        return line
    return " \\\n  ".join([shlex.join(words[:2]), *map(shlex.quote, words[2:])])


@dataclass(frozen=True, slots=True)
class ExportedFiles:
    """The files of a folder, as commands name them.

    Attributes:
        folder: the files.
        layout: of the encoder's file.
        is_plain: whether the files take sound of any length, as those of published exports.
    """

    folder: Path
    layout: ExportLayout
    is_plain: bool

    @property
    def has_graphs(self) -> bool:
        """Whether there are ONNX files."""
        return any(self.folder.glob("*.onnx"))

    @property
    def for_sherpa(self) -> bool:
        """Whether sherpa-onnx runs the files."""
        return self.is_plain and self.layout.has_client

    @property
    def wave(self) -> str:
        """The sample; where there is none, a name to replace."""
        return SAMPLE if (self.folder / SAMPLE).is_file() else "YOUR.wav"

    def setting(self, key: str) -> object:
        """Return an entry of the settings."""
        return json.loads((self.folder / SETTINGS).read_text(encoding="utf-8"))[key]

    def parts(self, kind: Kind) -> list[str]:
        """Return encoder, decoder and joiner in a precision; empty without."""
        found = [self._file(part, kind) for part in PARTS]
        return found if all(found) else []

    def heads(self, kind: Kind) -> Iterator[list[str]]:
        """Yield the flags that give the files of a precision to sherpa-onnx, for each head."""
        if parts := self.parts(kind):
            yield [f"--{part}={file}" for part, file in zip(PARTS, parts, strict=True)]
        streams, model = self.layout.is_streaming, self._file("model", kind)
        if model and (self.layout.streams_ctc or not streams):
            yield [f"--zipformer{'2' if streams else ''}-ctc-model={model}"]

    def _file(self, part: str, kind: Kind) -> str:
        names = sorted(path.name for path in self.folder.glob("*.onnx"))
        fit = (name for name in names if name.startswith((f"{part}-", f"{part}.")))
        return next((name for name in fit if kind_of(name) == kind), "")


def client_commands(files: ExportedFiles) -> list[ClientCommand]:
    """Return the commands of each client that runs the files, the first of each in float32."""
    if not files.has_graphs:
        return []
    packages = "onnxruntime kaldi-native-fbank soundfile"
    alone = ClientCommand("onnxruntime alone", packages, (("python", PAGE, files.wave),))
    return [*(_clients(files) if files.for_sherpa else ()), alone]


def _clients(files: ExportedFiles) -> Iterator[ClientCommand]:
    streams = files.layout.is_streaming
    heads = [flags for kind in KINDS for flags in files.heads(kind)]
    program = "sherpa-onnx" if streams else "sherpa-onnx-offline"
    for flags in heads:
        words = (program, f"--tokens={TABLE}", *flags, files.wave)
        yield ClientCommand("sherpa-onnx", _PROGRAMS, (words,))
    server = f"sherpa-onnx-{'online' if streams else 'offline'}-websocket-server"
    for flags in heads[:1]:
        words = (server, f"--port={_PORT}", f"--tokens={TABLE}", *flags)
        yield ClientCommand("sherpa-onnx as a server", _PROGRAMS, (words,))
    if heads and streams:
        words = ("sherpa-onnx-online-websocket-client", f"--server-port={_PORT}", files.wave)
        yield ClientCommand("sherpa-onnx asking that server", _PROGRAMS, (words,))
    if (files.folder / KEYWORDS).is_file():
        words = ("sherpa-onnx-keyword-spotter", f"--tokens={TABLE}", *heads[0])
        words = (*words, f"--keywords-file={KEYWORDS}", files.wave)
        yield ClientCommand("sherpa-onnx spotting keywords", _PROGRAMS, (words,))
    # onnx-asr has transducers for whole recordings, and no pieces of bytes.
    if not streams and files.setting(UNIT) != "byte-bpe" and (parts := files.parts("")):
        yield ClientCommand("onnx-asr", "'onnx-asr[cpu]'", _onnx_asr_steps(parts, files.wave))


def _onnx_asr_steps(parts: Sequence[str], wave: str) -> tuple[tuple[str, ...], ...]:
    """Return the commands that give the files the names that onnx-asr knows, and that run it."""
    named = zip(PARTS, parts, strict=True)
    links = [("ln", "-f", file, f"{ONNX_ASR}/{part}.onnx") for part, file in named]
    links += [("ln", "-f", TABLE, f"{ONNX_ASR}/{TABLE}")]
    return (("mkdir", "-p", ONNX_ASR), *links, ("onnx-asr", "kaldi-rnnt", "-p", ".", wave))


def own_command(files: ExportedFiles) -> str:
    """Return the command of this project that runs the folder."""
    place, tokens = files.folder, ("--tokens", str(files.folder / TABLE))
    words: tuple[str, ...] = ("--checkpoint", str(place / "pretrained.pt"), *tokens)
    for script in place.glob("jit_script*.pt"):
        words = ("--nn-model-filename", str(script), *tokens)
    if files.has_graphs and files.is_plain:
        words = ("--model", str(place))
    has_sample = files.wave == SAMPLE
    return shlex.join(
        ["./transcribe.py", *words, str(place / SAMPLE) if has_sample else files.wave]
    )


def lines_to_paste(files: ExportedFiles) -> str:
    """Return a line for each client, under its name as a comment of the shell."""
    lines = ["# this project", own_command(files)]
    commands = {one.client: one for one in reversed(client_commands(files))}
    if commands:
        lines += ["# the others, in the folder", shlex.join(["cd", str(files.folder)])]
    for client, one in reversed(commands.items()):
        lines += [f"# {client}: pip install {one.packages}", one.line]
    return "\n".join(lines) + "\n"


def page_of_commands(files: ExportedFiles) -> list[str]:
    """Return the lines of a page that tells how the files are run."""
    lines, before = [], None
    for one in client_commands(files):
        if before is None:
            lines += ["Run these commands in this folder, the one that holds this page.", ""]
        if before is None or before.client != one.client:
            lines += [f"## In {one.client}", ""]
        if before is None or before.packages != one.packages:
            lines += [f"`pip install {one.packages}` brings what it takes.", ""]
        lines += ["```bash", one.block, "```", ""]
        before = one
    if files.for_sherpa and files.parts(""):
        lines += _hot_words(files)
    if files.for_sherpa and files.layout.is_streaming:
        lines += _ends_of_utterances()
    return lines


def endpoint_settings() -> dict[str, object]:
    """Return what says to a client when an utterance has ended, by its own names of flags."""
    return asdict(EndpointConfig(enable_endpoint=True))


def _ends_of_utterances() -> list[str]:
    """Return which flags say when an utterance has ended."""
    rules = endpoint_settings() | {"enable_endpoint": "true"}
    flags = " ".join(f"--{name.replace('_', '-')}={value}" for name, value in rules.items())
    return [
        "## Ends of utterances in sherpa-onnx",
        "",
        f"`{flags}`: silence after nothing and after words, and longest utterance, in seconds.",
        "These are the defaults of the programs. In Python an `OnlineRecognizer` takes the same",
        "names, and `enable_endpoint_detection=True` switches them on.",
        "",
    ]


def _hot_words(files: ExportedFiles) -> list[str]:
    """Return which flags cut hot-words into tokens as the model does, if the client can."""
    unit = files.setting(MODELING_UNIT)
    vocabulary = "" if unit == "cjkchar" else " --bpe-vocab=bpe.vocab"
    if vocabulary and not (files.folder / "bpe.vocab").is_file():
        return []
    score = HotWordsConfig().context_score
    method = f"--decoding-method=modified_beam_search --hotwords-score={score:g}"
    flags = f"{method} --hotwords-file=FILE --modeling-unit={unit}{vocabulary}"
    return [
        "## Hot-words in sherpa-onnx",
        "",
        "One phrase a line, and behind a colon its own bonus for each token (`NEW YORK :3.5`):",
        "",
        f"`{flags}`",
        "",
    ]


_LINE = re.compile(r"\s*(?P<phrase>.*?)(?P<options>(?:\s+[:#@]\S+)*)\s*")
_NUMBER = re.compile(r"[:#]\d+(?:\.\d+)?")


def keywords_text(path: Path, tokenizer: Tokenizer) -> str:
    """Return a file of phrases as the spotter reads it: the pieces of one in each line.

    A line of the file is a phrase in the spelling of the transcripts. Behind it may stand what each
    of its tokens is raised by, the probability that it needs, and the name that is reported, as in
    ``HEY COMPUTER :2.0 #0.3 @HEY_COMPUTER``; without a name it is the phrase.

    Args:
        path: of the phrases.
        tokenizer: of the model.

    Raises:
        DataError: the file is missing or empty, a number is none, or the model cannot write a
            phrase.
    """
    source, pieces, lines = f"--keywords-file {path}", tokenizer.pieces(), []
    for number, line in enumerate(read_lines(path, source), start=1):
        found = _LINE.fullmatch(line)
        if found is None or not found["phrase"]:
            continue
        phrase, options = " ".join(found["phrase"].split()), found["options"].split()
        for option in options:
            if option[0] != "@" and not _NUMBER.fullmatch(option):
                raise DataError(f"{source}:{number}: {option[1:]!r} is not a number.")
        if not any(option[0] == "@" for option in options):
            options.append(f"@{phrase.replace(' ', '_')}")
        ((tokens,), _) = phrases_of([phrase], f"{source}:{number}", tokenizer)
        lines.append(" ".join([*(pieces[token] for token in tokens), *options]))
    if not lines:
        raise DataError(f"{source} has no phrase.", "write one phrase per line.")
    return "\n".join(lines) + "\n"


def keywords_of(
    export: ExportConfig, layout: ExportLayout, heads: ModelConfig, tokenizer: Tokenizer | None
) -> str:
    """Return what ``--keywords-file`` names, see ``keywords_text``; empty without.

    Raises:
        UserError: sherpa-onnx spots no keywords with the files of the model.
        DataError: the file is missing, or the model cannot write a phrase.
    """
    if export.keywords_file is None:
        return ""
    is_spotted = layout.is_streaming and layout.has_client and heads.use_transducer
    if not is_spotted or "onnx" not in export.formats or export.shape.client_limits():
        raise UserError(
            "--keywords-file: sherpa-onnx spots keywords with the ONNX files of a transducer for "
            "speech as it comes.",
            "export a causal model with --chunk-size and --left-context-frames.",
        )
    if tokenizer is None:
        raise UserError(
            "--keywords-file: a table does not say how phrases are cut into tokens.",
            "add --bpe-model, the tokenizer of the model.",
        )
    return keywords_text(export.keywords_file, tokenizer)
