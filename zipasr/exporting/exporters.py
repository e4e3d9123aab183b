"""All files of a model in one format, each compared with the model as soon as it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from zipasr.encoder.protocol import ChunkSize, EncoderConfig, ExportLayout
from zipasr.exporting.config import Shape
from zipasr.exporting.parity import (
    TOLERANCE,
    Check,
    ParityMode,
    Search,
    chunkwise,
    compare,
    one_by_one,
)
from zipasr.lm.neural import NeuralLm
from zipasr.model.joiner import Joiner
from zipasr.model.transducer import AsrModel
from zipasr.recognition.acoustic_model import LOG_ZERO
from zipasr.recognition.config import Kind
from zipasr.recognition.exported_files import in_kind
from zipasr.recognition.exported_model import Encode
from zipasr.search.ctc_greedy import CtcGreedySearch, CtcHead
from zipasr.search.greedy import GreedySearch
from zipasr.search.transducer_step import TransducerSteps

if TYPE_CHECKING:
    from zipasr.exporting.onnx_files import Graph


def fit_utterances(shape: Shape, utterances: Sequence[Tensor]) -> list[Tensor]:
    """Return utterances (T, 80) that the files take, to compare them with the model.

    They are cut to the length of the files, or of the shortest where there is no padding.
    """
    longest = max(map(len, utterances))
    if shape.is_fixed and shape.frames is not None:
        longest = shape.frames
    elif not shape.takes_lengths:
        longest = min(map(len, utterances))
    cut = [utterance[:longest] for utterance in utterances]
    return cut if shape.takes_lengths else [pad_to_shape(shape, u.unsqueeze(0))[0] for u in cut]


def pad_to_shape(shape: Shape, features: Tensor) -> Tensor:
    """Return features (N, T, 80) with silence up to the length of the files, if it is fixed."""
    if not shape.is_fixed or shape.frames is None:
        return features
    return F.pad(features, (0, 0, 0, shape.frames - features.size(1)), value=LOG_ZERO)


#: Lengths of the sentences with which a language model is compared.
LM_LENGTHS = (1, 2, 7, 12, 30)


@dataclass(frozen=True, slots=True)
class ExportJob:
    """Model, tokens and settings of an export.

    Attributes:
        model: in evaluation mode on the CPU.
        config: of its encoder.
        folder: to write to.
        suffix: of the files of a transducer, such as ``-epoch-30-avg-9``.
        utterances: (T, 80) features each, to compare with.
        shape: what ONNX files of whole utterances take.
        known: what the model itself makes of features, by their bytes.
    """

    model: AsrModel
    config: EncoderConfig
    folder: Path
    suffix: str
    utterances: Sequence[Tensor]
    shape: Shape = field(default_factory=Shape)
    known: dict[bytes, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def layout(self) -> ExportLayout:
        """Names, metadata and states of the files."""
        return self.config.export_layout()

    @property
    def streaming(self) -> bool:
        """Whether the files work on speech as it comes."""
        return self.layout.is_streaming

    def start(self, num: int) -> list[Tensor]:
        """Return the states of ``num`` streams before the first chunk."""
        return self.model.init_state(num)

    def step(self, features: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Encode the next chunk (N, T, 80) of streams: frames, and the states after."""
        lens = torch.full((features.size(0),), features.size(1))
        encoded, after = self.model.encode_chunk(features, lens, states)
        return encoded.frames, after

    @property
    def size(self) -> ChunkSize:
        """How speech is cut."""
        return self.model.chunk_encoder.size()

    @property
    def chunks(self) -> str:
        """The part of file names that says so."""
        return self.layout.chunks_name


def export_onnx(job: ExportJob, kinds: Sequence[Kind]) -> list[Check]:
    """Write the ONNX files of all heads.

    Args:
        job: what is exported.
        kinds: precisions to write, float32 among them.
    """
    from zipasr.exporting import onnx_files

    # The files may take one length alone, so they are compared on utterances that they take.
    job = replace(job, utterances=fit_utterances(job.shape, job.utterances))
    checks = []
    if job.model.decoder is not None:
        graphs = onnx_files.transducer_graphs(job.model, job.layout)
        paths = {part: job.folder / f"{part}{job.suffix}{job.chunks}.onnx" for part in graphs}
        for part, usual in graphs.items():
            graph = onnx_files.shaped(usual, job.shape)
            _write(paths[part], graph, kinds, is_decoder=part == "decoder")
        checks += [_check_transducer(job, paths, kind) for kind in kinds]
    if job.model.ctc_output is not None:
        path = job.folder / f"model{job.chunks}.onnx"
        graph = onnx_files.shaped(onnx_files.ctc_graph(job.model, job.layout), job.shape)
        _write(path, graph, kinds, is_decoder=False)
        checks += [_check_ctc(job, path, kind) for kind in kinds]
    return checks


def _write(path: Path, graph: Graph, kinds: Sequence[Kind], is_decoder: bool) -> None:
    from zipasr.exporting import onnx_files

    onnx_files.write_onnx(path, graph)
    if "int8" in kinds:
        onnx_files.write_int8(in_kind(path, "int8"), path, is_decoder)
    if "fp16" in kinds:
        onnx_files.write_fp16(in_kind(path, "fp16"), path)


@torch.no_grad()
def export_lm(folder: Path, model: NeuralLm) -> Check:
    """Write a language model for the client's rescoring, and compare what it says of sentences."""
    from zipasr.exporting import onnx_files
    from zipasr.recognition.onnx_runtime import OnnxGraph

    path = folder / "lm.onnx"
    onnx_files.write_onnx(path, onnx_files.lm_graph(model))
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(
        2, model.vocab_size, (len(LM_LENGTHS), max(LM_LENGTHS)), generator=generator
    )
    (found,) = OnnxGraph(path)(tokens, torch.tensor(LM_LENGTHS))
    sentences = [row[:length].tolist() for row, length in zip(tokens, LM_LENGTHS, strict=True)]
    wanted = torch.stack([model.nll([sentence]).sum() for sentence in sentences])
    gaps = (found - wanted).abs().nan_to_num(torch.inf) / wanted
    same = int((gaps <= TOLERANCE).sum())
    check = Check(path.name, len(LM_LENGTHS), LM_LENGTHS, float(gaps.max()), same, must_agree=True)
    return check.of_files(path)


def export_torchscript(job: ExportJob) -> list[Check]:
    """Write the TorchScript file."""
    from zipasr.exporting.torchscript import scripted

    stem = "jit_script" + job.chunks.replace("-", "_")
    path = job.folder / f"{stem}.pt"
    # On a full disk torch's own writer would end the process.
    path.write_bytes(scripted(job.model, job.streaming).save_to_buffer())
    module = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    if job.streaming:
        step = partial(_scripted_step, module.encoder)
        encode: Encode = chunkwise(job.start, job.size, step)
    else:
        encode = module.encoder
    search = (
        _search(module.decoder, module.joiner)
        if (job.model.decoder is not None)
        else _ctc(module.ctc_output)
    )
    plain = _reference(job, torch.nn.Identity())
    model = job.model
    right = (
        _search(model.decoder, model.joiner)
        if (model.decoder is not None)
        else _ctc(model.ctc_log_probs)
    )
    way, reference = ParityMode(encode, search), ParityMode(plain, right)
    return [compare(path.name, way, reference, job.utterances, True).of_files(path)]


def _check_transducer(job: ExportJob, paths: Mapping[str, Path], kind: Kind) -> Check:
    from zipasr.recognition.onnx_runtime import onnx_steps

    decoder, joiner = job.model.decoder, job.model.joiner
    assert decoder is not None
    assert joiner is not None
    files = {part: in_kind(path, kind) for part, path in paths.items()}
    steps = onnx_steps(files["decoder"], files["joiner"], decoder.context_size)
    way = ParityMode(_onnx_encode(job, files["encoder"]), GreedySearch(steps))
    right = TransducerSteps(decoder, _Projected(joiner))
    reference = ParityMode(_reference(job, joiner.encoder_proj), GreedySearch(right))
    check = compare(files["encoder"].name, way, reference, job.utterances, must_agree=not kind)
    return check.of_files(*files.values())


def _check_ctc(job: ExportJob, path: Path, kind: Kind) -> Check:
    head, file = job.model.ctc_log_probs, in_kind(path, kind)
    search = _ctc(torch.nn.Identity())
    way, reference = (
        ParityMode(_onnx_encode(job, file), search),
        ParityMode(_reference(job, head), search),
    )
    return compare(file.name, way, reference, job.utterances, must_agree=not kind).of_files(file)


class _Projected:
    """A joiner whose frames were projected by the encoder's file."""

    def __init__(self, joiner: Joiner) -> None:
        self.encoder_proj = torch.nn.Identity()
        self.decoder_proj = joiner.decoder_proj
        self._joiner = joiner

    def __call__(self, frames: Tensor, predictions: Tensor, project_input: bool = False) -> Tensor:
        logits: Tensor = self._joiner(frames, predictions, project_input=project_input)
        return logits


def _reference(job: ExportJob, head: Callable[[Tensor], Tensor]) -> Encode:
    """Return the encoder of the model itself, with a head; it computes each batch once."""
    frames_of = chunkwise(job.start, job.size, job.step) if job.streaming else job.model.encode

    def encode(features: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
        features = pad_to_shape(job.shape, features)
        key = features.numpy().tobytes()
        if key not in job.known:
            job.known[key] = frames_of(features, lens)
        frames, num = job.known[key]
        return head(frames), num

    return encode


def _onnx_encode(job: ExportJob, path: Path) -> Encode:
    from zipasr.recognition.onnx_runtime import OnnxGraph

    graph = OnnxGraph(path)
    if not job.streaming:

        def encode(features: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
            lengths = (lens,) if job.shape.takes_lengths else ()
            frames, *nums = graph(pad_to_shape(job.shape, features), *lengths)
            return frames, nums[0] if nums else torch.full((len(frames),), frames.size(1))

        return encode

    def step(features: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        frames, *after = graph(features, *states)
        return frames, after

    encode_chunks = chunkwise(lambda num: job.layout.to_file(job.start(num)), job.size, step)
    return one_by_one(encode_chunks) if job.shape.is_fixed else encode_chunks


def _scripted_step(
    encoder: torch.nn.Module, features: Tensor, states: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    frames, _, after = encoder(features, torch.full((features.size(0),), features.size(1)), states)
    return frames, after


def _search(decoder: object, joiner: object) -> Search:
    return GreedySearch(TransducerSteps(decoder, joiner))  # type: ignore[arg-type]


def _ctc(output: object) -> Search:
    return CtcGreedySearch(CtcHead(output))  # type: ignore[arg-type]
