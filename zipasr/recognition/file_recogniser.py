"""Recognisers made of exported files, with the same searches as on a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zipasr.base.config import flag_name
from zipasr.base.errors import DataError, UserError
from zipasr.encoder.protocol import ChunkSize, Geometry
from zipasr.recognition.config import ModelFileConfig, RecognitionConfig, TokenSource
from zipasr.recognition.exported_model import TABLE, Chunks, Encode, ModelFile, read_model_file
from zipasr.recognition.recogniser import with_ctc_method, with_silence
from zipasr.recognition.resources import check_resources, read_resources
from zipasr.recognition.streaming import Hearing
from zipasr.recognition.token_sources import check_vocab_size, tokenizer_of_table
from zipasr.search.components import ModelParts
from zipasr.search.ctc import CtcOutput
from zipasr.search.protocol import Search, StreamingSearch
from zipasr.search.registry import SEARCHES, search_for, streaming_search_for
from zipasr.search.transducer_step import TransducerSteps
from zipasr.text.tokenizer import Tokenizer

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class FileRecogniser:
    """A model for whole utterances in exported files.

    Attributes:
        file: the model.
        encoder: of it.
        search: from encoder frames to tokens.
        tokenizer: from tokens to text.
    """

    file: ModelFile
    encoder: Encode
    search: Search
    tokenizer: Tokenizer

    @property
    def geometry(self) -> Geometry:
        """Features in, encoder frames out."""
        return self.file.geometry

    @property
    def ctc_log_probs(self) -> CtcOutput | None:
        """The CTC head: frames (N, T', C) to log-probabilities (N, T', V)."""
        return self.file.ctc_log_probs

    @property
    def transducer(self) -> TransducerSteps | None:
        """Decoder and joiner."""
        decoder, joiner = self.file.decoder, self.file.joiner
        return None if decoder is None or joiner is None else TransducerSteps(decoder, joiner)

    def encode(self, features: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (N, T, 80) features with (N,) lengths: (N, T', C) and lengths (N,)."""
        frames, num = self.encoder(*with_silence(features, lens, self.geometry.min_frames))
        return frames, num.long()


@dataclass(frozen=True, slots=True)
class FileChunkRecogniser:
    """A model for speech as it comes in exported files; see ``streaming.HearsChunks``.

    Attributes:
        chunks: its encoder.
        search: that goes on from chunk to chunk.
        tokenizer: from tokens to text.
    """

    chunks: Chunks
    search: StreamingSearch[Any]
    tokenizer: Tokenizer

    @property
    def size(self) -> ChunkSize:
        """How speech is cut."""
        return self.chunks.size

    def start(self, num: int) -> Hearing:
        """Streams of which nothing has been heard."""
        return Hearing(self.chunks.start(num), self.search.start(num, _CPU))

    @torch.inference_mode()
    def advance(self, hearing: Hearing, features: Tensor, lens: Tensor) -> Hearing:
        """Take the next chunk (N, ``frames``, 80) of each stream, ``lens`` (N,) of it valid."""
        frames, num, states = self.chunks.step(features, lens, hearing.encoder)
        return Hearing(states, self.search.advance(hearing.search, frames, num.long()))


def load_file_recogniser(
    place: ModelFileConfig, config: RecognitionConfig, needs_ctc: bool = False
) -> FileRecogniser | FileChunkRecogniser:
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
    is_ctc = SEARCHES[config.decoding.decoding_method].head == "ctc"
    file = read_model_file(place, is_ctc or needs_ctc)
    tokenizer = tokenizer_of_file(file.path, config.tokens)
    if file.vocab_size is not None:
        check_vocab_size(file.path, file.vocab_size, tokenizer, config.tokens)
    if file.joiner is None:
        config = with_ctc_method(config)
    aids = read_resources(config, tokenizer, _CPU)
    parts = ModelParts(file.decoder, file.joiner, file.ctc_log_probs)
    if isinstance(file.encoder, Chunks):
        search = streaming_search_for(config.decoding, parts, aids)
        return FileChunkRecogniser(file.encoder, search, tokenizer)
    return FileRecogniser(
        file,
        file.encoder,
        search_for(config.decoding, file.decoder, file.joiner, file.ctc_log_probs, aids=aids),
        tokenizer,
    )


def check_settings(files: ModelFileConfig, config: RecognitionConfig) -> None:
    """Refuse settings that say something else about the model than its files.

    Raises:
        UserError: names them.
    """
    place, checkpoint = files.place, config.checkpoint.checkpoint
    if checkpoint is not None:
        raise UserError(
            f"there are two models: --checkpoint {checkpoint} and {place}.", "give one of them."
        )
    if config.model_flags:
        names = " and ".join(flag_name(name) for name in config.model_flags)
        raise UserError(
            f"{names} cannot change the model in {place}.",
            "leave it out: an exported file has its sizes and its chunks inside.",
        )
    if config.decoding.use_bf16:
        raise UserError(
            f"--use-bf16 1: {place} computes in the precision of its export.", "leave it out."
        )


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
