"""Recognisers made of exported files, with the same searches as on a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zipasr.base.errors import DataError
from zipasr.encoder.protocol import ChunkSize, Geometry
from zipasr.recognition.acoustic_model import with_silence
from zipasr.recognition.config import ModelFileConfig, RecognitionConfig, TokenSource
from zipasr.recognition.export_check import TABLE
from zipasr.recognition.exported_files import check_settings
from zipasr.recognition.exported_model import Chunks, Encode, ModelFile, read_model_file
from zipasr.recognition.recogniser import Recogniser, recogniser_with, with_ctc_method
from zipasr.recognition.resources import ResourceReader, check_resources
from zipasr.recognition.streaming import ChunkwiseRecogniser
from zipasr.recognition.token_sources import check_vocab_size, tokenizer_of_table
from zipasr.search.components import ModelParts
from zipasr.search.methods import check_streams, method_of
from zipasr.search.protocol import Search
from zipasr.search.registry import build_search
from zipasr.text.tokenizer import Tokenizer

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class FileModel:
    """A model for whole utterances in exported files.

    Attributes:
        file: the model.
        encoder: of it.
    """

    file: ModelFile
    encoder: Encode

    @property
    def geometry(self) -> Geometry:
        """Features in, encoder frames out."""
        return self.file.geometry

    @property
    def about(self) -> tuple[str, ...]:
        """Where it was read from."""
        return (str(self.file.path),)

    @property
    def parts(self) -> ModelParts:
        """What searches read beside encoder frames."""
        return _parts(self.file)

    def encode(self, features: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (N, T, 80) features with (N,) lengths: (N, T', C) and lengths (N,)."""
        frames, num = self.encoder(*with_silence(features, lens, self.geometry.min_frames))
        return frames, num.long()


@dataclass(frozen=True)
class FileChunkRecogniser(ChunkwiseRecogniser):
    """A model for speech as it comes in exported files.

    Attributes:
        chunks: its encoder.
        parts: its heads.
        tokenizer: from tokens to text.
    """

    chunks: Chunks
    parts: ModelParts
    search: Search[Any]
    tokenizer: Tokenizer
    reads_ctc: bool = False

    @property
    def device(self) -> torch.device:
        """Exported files are for the CPU."""
        return _CPU

    def heads(self) -> ModelParts:
        """Return what searches read beside encoder frames."""
        return self.parts

    @property
    def size(self) -> ChunkSize:
        """How speech is cut."""
        return self.chunks.size

    def start_encoder(self, num: int) -> Any:
        """State of the encoder before anything was heard."""
        return self.chunks.start(num)

    def encode(self, features: Tensor, lens: Tensor, state: Any) -> tuple[Tensor, Tensor, Any]:
        """Frames of the next chunk, and the state after it; see ``ChunkwiseRecogniser``."""
        frames, num, after = self.chunks.step(features, lens, state)
        return frames, num.long(), after


def load_file_recogniser(
    place: ModelFileConfig, config: RecognitionConfig, needs_ctc: bool = False
) -> Recogniser[FileModel] | FileChunkRecogniser:
    """Read the model of --nn-model-filename, --model, or the three files of a transducer.

    Args:
        place: the files.
        config: settings; of tokens, decoding and resources.
        needs_ctc: whether the CTC head is read where a folder has both, whatever the method.

    Raises:
        CheckpointError: a file is missing or holds something else, or the tokens are of another
            model.
        DataError: there are no tokens.
        ResourceError: onnxruntime is not installed.
        UserError: flags that do not go with such files.
    """
    check_settings(place, config)
    check_resources(config)
    is_ctc = method_of(config.decoding.decoding_method).head == "ctc"
    file = read_model_file(place, is_ctc or needs_ctc)
    tokenizer = tokenizer_of_file(file.path, config.tokens)
    if file.vocab_size is not None:
        check_vocab_size(file.path, file.vocab_size, tokenizer, config.tokens)
    if file.joiner is None:
        config = with_ctc_method(config)
    reader = ResourceReader(tokenizer, _CPU)
    if not isinstance(file.encoder, Chunks):
        return recogniser_with(FileModel(file, file.encoder), reader, config)
    parts = _parts(file)
    search = build_search(config.decoding, parts, reader.read(config))
    method = method_of(config.decoding.decoding_method)
    check_streams(method)
    return FileChunkRecogniser(file.encoder, parts, search, tokenizer, method.head == "ctc")


def _parts(file: ModelFile) -> ModelParts:
    return ModelParts(file.decoder, file.joiner, file.ctc_log_probs)


def tokenizer_of_file(path: Path, source: TokenSource) -> Tokenizer:
    """Return the tokens of a model: --tokens, --bpe-model, or the table that stands beside it.

    Raises:
        DataError: there are none, or the file is damaged.
        CheckpointError: --tokens and --bpe-model contradict each other.
    """
    if source.tokens is None and source.is_bpe_model_given:
        return Tokenizer.from_file(source.bpe_model)
    table = source.tokens or path.with_name(TABLE)
    if not table.is_file() and source.tokens is None:
        raise DataError(f"there is no {TABLE} beside {path}.", f"give --tokens, its {TABLE}.")
    return tokenizer_of_table(table, source)
