"""A training loop of one's own around an encoder, losses, an optimizer and a search of zipasr."""

import sys

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from zipasr import encoder, losses, optim, search

LETTERS = "_ aehinorst"  # the first one stands for blank
torch.manual_seed(int(sys.argv[1]) if sys.argv[1:] else 0)
spectra = torch.randn(len(LETTERS), 80)


def speak(letters: Tensor) -> Tensor:  # (T, 80): 60 to 110 ms of a spectrum for each, in noise
    spoken = spectra[letters].repeat_interleave(torch.randint(6, 12, letters.shape), dim=0)
    return pad(spoken, (0, 0, 8, 8)) + 0.5 * torch.randn(len(spoken) + 16, 80)


class Decoder(nn.Embedding):  # knows the last token alone
    context_size, blank_id = 1, 0

    def forward(self, y: Tensor, need_pad: bool = True) -> Tensor:  # noqa: ARG002
        return super().forward(y)


class Joiner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder_proj, self.decoder_proj = nn.Linear(64, 32), nn.Linear(32, 32)
        self.output = nn.Sequential(nn.Tanh(), nn.Linear(32, len(LETTERS)))

    def forward(self, am: Tensor, lm: Tensor, project_input: bool = False) -> Tensor:  # noqa: ARG002
        return self.output(am + lm)


sizes = encoder.ZipformerConfig(
    downsampling_factor=(1, 2), num_encoder_layers=(1,), encoder_dim=(64,), num_heads=(2,),
    encoder_unmasked_dim=(64,), feedforward_dim=(96,), cnn_module_kernel=(7,),
    embed_channels=(4, 8, 16),
)  # fmt: skip
zipformer, decoder, joiner = encoder.Zipformer(sizes), Decoder(len(LETTERS), 32), Joiner()
simple_am, simple_lm = nn.Linear(64, len(LETTERS)), nn.Linear(32, len(LETTERS))
model = nn.ModuleList([zipformer, decoder, joiner, simple_am, simple_lm])
optimizer = optim.ScaledAdam(model.named_parameters(), lr=0.045, clipping_scale=2.0)
schedule = optim.Eden(optimizer, lr_batches=200, lr_epochs=10, warmup_batches=20)

for step in range(201):
    schedule.step_batch(step)
    symbols = torch.randint(1, len(LETTERS), (8, 8))
    spoken = [speak(row) for row in symbols]
    num_frames = torch.tensor([len(features) for features in spoken])
    am, lens = zipformer(pad_sequence(spoken, batch_first=True), num_frames)
    lm = decoder(pad(symbols, (1, 0)))
    boundary = torch.tensor([[0, 0, 8, num] for num in lens])
    simple, occupations = losses.rnnt_loss_smoothed(
        simple_lm(lm), simple_am(am), symbols, 0, boundary=boundary, return_grad=True
    )
    ranges = losses.get_rnnt_prune_ranges(*occupations, boundary, s_range=5)
    band = losses.do_rnnt_pruning(joiner.encoder_proj(am), joiner.decoder_proj(lm), ranges)
    pruned = losses.rnnt_loss_pruned(joiner(*band), symbols, ranges, 0, boundary=boundary)
    optimizer.zero_grad()
    (0.5 * simple + pruned).backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:3}  loss {pruned.item():.2f}")

model.eval()
said = "the rain on the stone"
features = speak(torch.tensor([LETTERS.index(letter) for letter in said]))
frames, lens = zipformer(features[None], torch.tensor([len(features)]))
find = search.transducer_search(decoder, joiner, method="modified_beam_search", beam_size=4)
(heard,) = find(frames, lens)
print(f"said:  {said}\nheard: {''.join(LETTERS[token] for token in heard.tokens)}")
