"""Models that say a lot though they have learnt nothing or little: for comparing programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from tests import tones
from zipasr.base.config import to_dict
from zipasr.checkpoint.averaging import LoadedWeights
from zipasr.checkpoint.checkpoint_file import load_checkpoint, save_checkpoint
from zipasr.checkpoint.model_file import stored_model
from zipasr.data.feature_store import fbank_extractor
from zipasr.encoder.protocol import EncoderConfig
from zipasr.encoder.zipformer.config import ZipformerConfig
from zipasr.encoder.zipformer1.config import Zipformer1Config
from zipasr.lm.config import RnnLmConfig
from zipasr.lm.neural import build_lm
from zipasr.model.build import build_model
from zipasr.model.config import ModelConfig
from zipasr.text.config import SENTENCE_ENDS_ID
from zipasr.text.tokenizer import Tokenizer

SECOND = ZipformerConfig(
    num_encoder_layers=(1, 1),
    downsampling_factor=(1, 2),
    encoder_dim=(32, 40),
    encoder_unmasked_dim=(24, 32),
    feedforward_dim=(48, 64),
    num_heads=(2,),
    query_head_dim=(8,),
    value_head_dim=(8,),
    pos_head_dim=(4,),
    pos_dim=16,
    cnn_module_kernel=(7,),
    embed_channels=(4, 8, 16),
)
FIRST = Zipformer1Config(
    num_encoder_layers=(1, 1),
    zipformer_downsampling_factors=(1, 2),
    encoder_dims=(32, 40),
    encoder_unmasked_dims=(24, 32),
    feedforward_dims=(48, 64),
    nhead=(2, 2),
    attention_dims=(16, 16),
    cnn_module_kernels=(7, 7),
)
LM = RnnLmConfig(rnn_lm_embedding_dim=8, rnn_lm_hidden_dim=8, rnn_lm_num_layers=1)
HEADS = ModelConfig(decoder_dim=32, joiner_dim=32, use_ctc=True)


def write_untrained(path: Path, encoder: EncoderConfig, bpe: Path, heads: ModelConfig) -> None:
    """Write a checkpoint of a model with random weights, as train.py writes it."""
    tokenizer = Tokenizer.from_file(bpe)
    torch.manual_seed(0)
    model = build_model(encoder, heads, tokenizer.vocab_size)
    checkpoint = {
        "model": model.state_dict(),
        "vocab_size": tokenizer.vocab_size,
        "blank_id": tokenizer.blank_id,
        "tokenizer": torch.frombuffer(bytearray(tokenizer.model_bytes), dtype=torch.uint8),
        "configs": {config.schema: to_dict(config) for config in (encoder, heads)},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, checkpoint)


def write_lm(path: Path, bpe: Path) -> None:
    """Write a checkpoint of a language model with random weights, as train_lm.py writes it."""
    tokenizer = Tokenizer.from_file(bpe)
    torch.manual_seed(0)
    model = build_lm(tokenizer.vocab_size, LM, SENTENCE_ENDS_ID)
    with torch.no_grad():
        model.output_linear.bias.normal_(std=3.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {"lm_config": to_dict(LM), "token_table": tokenizer.table_hash()}
    save_checkpoint(path, {"model": model.state_dict(), **table})


def features_of(samples: np.ndarray) -> Tensor:
    return torch.from_numpy(fbank_extractor().extract(samples, tones.RATE)).unsqueeze(0)


def make_talkative(folder: Path, epoch: int = 2) -> None:
    """Let the model of a run of the corpus ``tones`` find something in every sound."""
    path = folder / "exp" / f"epoch-{epoch}.pt"
    write_talkative(path, path, next((folder / "source").rglob("*.flac")))


@torch.no_grad()
def make_pausing(folder: Path, epoch: int = 2) -> None:
    """Let the model of a run of the corpus ``tones`` find something in sound, and never in silence.

    What its decoder says counts little, so that silence is told from sound after any tokens.
    """
    path, sound = folder / "exp" / f"epoch-{epoch}.pt", next((folder / "source").rglob("*.flac"))
    checkpoint = load_checkpoint(path)
    checkpoint["model"]["joiner.decoder_proj.weight"] *= 0.1
    save_checkpoint(path, checkpoint)
    write_talkative(path, path, sound)
    checkpoint = load_checkpoint(path)
    model = stored_model(LoadedWeights(path, checkpoint, checkpoint["model"]), {}).build().eval()
    assert model.decoder is not None
    assert model.joiner is not None
    assert model.ctc_output is not None
    samples = soundfile.read(sound, dtype="float32")[0]
    features = features_of(np.pad(samples, (0, 4 * tones.RATE)))
    # Half a second behind the speech the encoder has forgotten it.
    first = len(samples) * 25 // tones.RATE + 12
    silence = model.encode(features, torch.tensor([features.size(1)])).frames[0, first:-2]
    tokens = torch.arange(model.joiner.output_linear.out_features)
    contexts = model.decoder(torch.cartesian_prod(tokens, tokens), need_pad=False).squeeze(1)
    ctc = next(layer for layer in model.ctc_output if isinstance(layer, torch.nn.Linear))
    logits = model.joiner(silence[:, None], contexts[None])
    for layer, scores in ((model.joiner.output_linear, logits), (ctc, ctc(silence))):
        layer.bias[0] += float((scores[..., 1:].amax(dim=-1) - scores[..., 0]).max()) + 0.2
    save_checkpoint(path, checkpoint | {"model": model.state_dict()})


@torch.no_grad()
def write_talkative(path: Path, target: Path, sound: Path) -> None:
    """Write the model of a checkpoint with heads that find something in every sound.

    The mean of the scores over the frames of an utterance is taken off, and what is left counts
    more; the tokens that are no text are ruled out, since the client shows them.
    """
    checkpoint = load_checkpoint(path)
    model = stored_model(LoadedWeights(path, checkpoint, checkpoint["model"]), {}).build().eval()
    assert model.decoder is not None
    assert model.joiner is not None
    assert model.ctc_output is not None
    features = features_of(soundfile.read(sound, dtype="float32")[0])
    frames = model.encode(features, torch.tensor([features.size(1)])).frames[0]
    context = model.decoder(torch.tensor([[-1, 0]]), need_pad=False)[0]
    logits = model.joiner(frames, context.expand(len(frames), -1))
    ctc = next(layer for layer in model.ctc_output if isinstance(layer, torch.nn.Linear))
    for layer, scores in ((model.joiner.output_linear, logits), (ctc, ctc(frames))):
        # As far apart as scores of a trained model are.
        gain = 3.0 / float((scores - scores.mean(0)).std())
        layer.bias -= scores.mean(0)
        layer.bias *= gain
        layer.weight *= gain
        layer.bias[1:3] = -1000.0
    save_checkpoint(target, checkpoint | {"model": model.state_dict()})
