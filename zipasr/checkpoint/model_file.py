"""The model that a checkpoint holds: its settings, written beside the weights or read off them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_type_hints

import torch
from torch import Tensor

from zipasr.base.config import (
    flag_name,
    from_dict,
    is_same_value,
    schema_of,
    shown,
    to_dict,
    word_parser,
)
from zipasr.base.errors import CheckpointError, UserError
from zipasr.checkpoint.averaging import LoadedWeights
from zipasr.checkpoint.checkpoint_file import first_line
from zipasr.checkpoint.weights import StateDict, differences, load_model, summary
from zipasr.encoder.protocol import EncoderConfig
from zipasr.encoder.registry import DEFAULT_ENCODER, ENCODER_TYPES
from zipasr.model.build import WithoutInitialValues, build_model, describe, shapes_of
from zipasr.model.config import ModelConfig
from zipasr.model.infer_config import infer_config
from zipasr.model.transducer import AsrModel, TransducerHeads
from zipasr.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")
Flags = Mapping[str, Any]

#: What a model needs beside its weights.
KEPT = ("configs", "tokenizer", "vocab_size", "blank_id", "env_info")

#: Whose fields are the flags of a model.
MODEL_CONFIGS: tuple[type[EncoderConfig] | type[ModelConfig], ...] = (
    *ENCODER_TYPES.values(),
    ModelConfig,
)

#: The only flag of the model that is no field of its settings.
_ENCODER_TYPE = "encoder_type"

# A typed value of it settles what the shapes of plain weights leave open; so do flags of encoders.
_OPEN_FLAG = "attention_decoder_num_heads"


class StoredModel(NamedTuple):
    """A model in a file.

    Attributes:
        path: of the file.
        encoder: settings of the encoder.
        model: settings of the heads.
        vocab_size: V.
        weights: state dict.
        notes: sentences for the user: where the settings come from, if not from the file.
    """

    path: Path
    encoder: EncoderConfig
    model: ModelConfig
    vocab_size: int
    weights: StateDict
    notes: tuple[str, ...] = ()

    def describe(self, built: AsrModel | None = None) -> str:
        """Name the model in a line; ``built`` is what ``build`` returned, where that is known."""
        return f"{self.path}: {describe(self.encoder, self.model, self.vocab_size, built)}"

    def without_own_heads(self) -> StoredModel:
        """Return the same without the heads of another corpus, which have a part in training only.

        So published files of pruned_transducer_stateless8 are.
        """
        if not self.model.own_heads:
            return self
        own = {f"{name}_{self.model.own_heads}" for name in TransducerHeads._fields}
        weights = {n: t for n, t in self.weights.items() if n.split(".")[0] not in own}
        return self._replace(model=replace(self.model, own_heads=""), weights=weights)

    def build(self) -> AsrModel:
        """Return the model with its weights, in training mode on the CPU.

        Raises:
            CheckpointError: the weights do not fit to the settings.
        """
        try:
            with WithoutInitialValues():
                model = build_model(self.encoder, self.model, self.vocab_size)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as problem:
            raise CheckpointError(
                f"no model can be built with the settings in {self.path}: {first_line(problem)}.",
                "choose another checkpoint.",
            ) from problem
        load_model(model, self.weights, self.path)
        return model


def stored_model(chosen: LoadedWeights, typed: Flags, free: Sequence[str] = ()) -> StoredModel:
    """Find out what model was stored.

    A checkpoint of ours says it. icefall's says it less reliably, in flags beside the weights, or
    not at all: there the weights themselves tell their sizes.

    Args:
        chosen: weights and the checkpoint that they come from.
        typed: field -> value of the model flags on the command line.
        free: more fields that typed flags may change, beside those that any use of a model may.

    Raises:
        CheckpointError: typed flags contradict the file; or it holds no Zipformer.
        UserError: a typed value is out of range.
    """
    if stored := _with_settings(chosen):
        return _with_typed(stored, typed, (*stored.encoder.free_when_decoding, *free))
    stored = _plain(chosen, typed)
    unseen = (*stored.encoder.not_inferable, *ModelConfig.free_on_resume)
    return _with_typed(stored, typed, (*unseen, *free))


def untrained(chosen: LoadedWeights, typed: Flags) -> list[str]:
    """Say which typed settings a streaming model of ours has not met in training.

    Args:
        chosen: weights and the checkpoint that they come from.
        typed: field -> value of the model flags on the command line.
    """
    stored = _with_settings(chosen)
    if stored is None:
        return []
    return [
        f"{flag_name(name)} {shown(typed[name])}: {stored.path} was trained for {shown(values)}; "
        "expect more errors."
        for name, values in stored.encoder.choices().items()
        if not {*typed.get(name, ())} <= {*values}
    ]


def untrained_transducer(chosen: LoadedWeights) -> str | None:
    """Say that a run had trained the CTC head alone so far; ``None`` where it had gone on."""
    checkpoint = chosen.checkpoint
    configs = checkpoint.get("configs")
    configs = configs if isinstance(configs, Mapping) else {}
    loss, finetune = (configs.get(name) or {} for name in ("LossConfig", "FinetuneConfig"))
    first, done = loss.get("ctc_only_batches", 0), checkpoint.get("batch_idx_train")
    if not first or done is None or done > first or finetune.get("do_finetune"):
        return None
    if "joiner.output_linear.weight" not in chosen.weights:
        return None
    return (
        f"{chosen.path}: the transducer is not trained yet: the first {first} batches train the "
        f"CTC head alone, and {done} are done"
    )


def stored_tokenizer(checkpoint: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer in a checkpoint's entry ``tokenizer``, uint8 (size of the file,).

    Raises:
        CheckpointError: the entry is something else.
    """
    stored = checkpoint["tokenizer"]
    if not isinstance(stored, Tensor) or stored.dtype != torch.uint8 or stored.dim() != 1:
        raise CheckpointError(
            "the tokenizer in the checkpoint is none.", "choose another checkpoint."
        )
    return Tokenizer.from_bytes(bytes(stored.tolist()))


def kept_entries(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model needs beside its weights, and icefall's flags under their own names."""
    names = (*KEPT, *plain_flags(checkpoint))
    return {name: checkpoint[name] for name in names if name in checkpoint}


def entries_of(stored: StoredModel, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file of the weights of a model holds, for every command and for icefall.

    Args:
        stored: the model.
        checkpoint: that it comes from.
    """
    kept = kept_entries(checkpoint)
    if "configs" in kept:
        kept["configs"] = current_schemas(kept["configs"]) | {
            ModelConfig.schema: to_dict(stored.model)
        }
    return {"model": stored.weights, **kept}


def current_schemas(configs: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that a file of any version holds, by the names of this version.

    Args:
        configs: name of a config -> field -> value.
    """
    former = {old: schema_of(cls) for cls in MODEL_CONFIGS for old in cls.former_schemas}
    return {former.get(name, name): values for name, values in configs.items()}


def plain_flags(
    checkpoint: Mapping[str, Any], configs: Iterable[type[DataclassInstance]] = MODEL_CONFIGS
) -> dict[str, Any]:
    """Return the flags that icefall keeps as entries beside the weights: field -> value.

    Args:
        checkpoint: what a file holds.
        configs: classes whose fields are looked for; without them, those of a model.
    """
    found = {}
    for cls in configs:
        hints = get_type_hints(cls)
        names = [field.name for field in fields(cls)]
        for name in [name for name in names if checkpoint.get(name) is not None]:
            # What has another meaning there is left out: the weights tell all that counts.
            with suppress(ValueError, argparse.ArgumentTypeError):
                found[name] = word_parser(hints[name])(shown(checkpoint[name]))
    return found


def _with_settings(chosen: LoadedWeights) -> StoredModel | None:
    """Read the settings that our own checkpoints hold."""
    configs, vocab_size = (chosen.checkpoint.get(name) for name in ("configs", "vocab_size"))
    if configs is None or vocab_size is None or (isinstance(configs, Mapping) and not configs):
        return None
    if not (isinstance(configs, Mapping) and isinstance(vocab_size, int) and vocab_size > 0):
        raise CheckpointError(
            f"{chosen.path} does not say what model it holds: its entries 'configs' and "
            "'vocab_size' are something else.",
            "choose another checkpoint.",
        )
    configs = current_schemas(configs)
    encoder = next((c for c in ENCODER_TYPES.values() if c.schema in configs), DEFAULT_ENCODER)
    return StoredModel(
        chosen.path,
        _read(encoder, configs, chosen.path),
        _read(ModelConfig, configs, chosen.path),
        vocab_size,
        chosen.weights,
    )


def _read(cls: type[C], configs: Mapping[str, Any], path: Path) -> C:
    try:
        return from_dict(cls, configs[schema_of(cls)])
    except ValueError as refusal:
        raise CheckpointError(f"{path} holds a model that is refused: {refusal}.") from refusal
    except (AttributeError, KeyError, TypeError) as problem:
        raise CheckpointError(
            f"{path} was written by another version: its {cls.__name__} does not fit ({problem})."
        ) from problem


def _plain(chosen: LoadedWeights, typed: Flags) -> StoredModel:
    """Read the settings off the weights, with the help of flags beside them."""
    beside = plain_flags(chosen.checkpoint)
    names = {_OPEN_FLAG, *chain(*(cls.settling_flags(typed) for cls in ENCODER_TYPES.values()))}
    settling = {name: value for name, value in typed.items() if name in names}
    found = infer_config(chosen.weights, beside | settling, str(chosen.path))
    whole = {
        name: value
        for name, value in beside.items()
        if name not in settling and _counts(name, found.model)
    }
    note = "sizes are read off the weights; the file does not say them"
    if whole:
        note = "sizes are read off the weights, and agree with the flags in the file"
    stored = StoredModel(chosen.path, *found[:3], chosen.weights, (note, *found.guesses))
    wrong = _unequal(stored, whole)
    if wrong:
        held = ", ".join(f"{name} {shown(whole[name])}" for name in wrong)
        raise CheckpointError(
            f"{chosen.path} contradicts itself: its flags say {held}, its weights are those of "
            f"a {describe(*found[:3])}.",
            "choose another file, or download it again.",
        )
    return stored


def _counts(name: str, model: ModelConfig) -> bool:
    """Say whether a flag has anything to do with a model, or is of a head that is off."""
    heads = {
        "decoder_dim": model.use_transducer,
        "joiner_dim": model.use_transducer,
        "context_size": model.use_transducer,
        "use_cr_ctc": model.use_ctc,
    }
    if name.startswith("attention_decoder_"):
        return model.use_attention_decoder
    return heads.get(name, True)


def _with_typed(stored: StoredModel, typed: Flags, free: Sequence[str]) -> StoredModel:
    """Take over typed values that are free, and refuse the others unless they are the same."""
    _check_generation(stored, typed)
    typed = {name: value for name, value in typed.items() if name != _ENCODER_TYPE}
    _check_streaming_flags(stored, typed)
    fixed = {name: value for name, value in typed.items() if name not in free}
    if wrong := _unequal(stored, fixed):
        raise _contradiction(stored, typed, wrong)
    return _replaced(stored, {name: typed[name] for name in typed if name in free})


def _check_generation(stored: StoredModel, typed: Flags) -> None:
    """Refuse another encoder, and its flags."""
    wanted = typed.get(_ENCODER_TYPE)
    if wanted is not None and ENCODER_TYPES[wanted] is not type(stored.encoder):
        raise CheckpointError(
            f"{flag_name(_ENCODER_TYPE)} {wanted} was asked for, but there is another encoder in "
            f"{stored.describe()}.",
            f"leave {flag_name(_ENCODER_TYPE)} out: the checkpoint knows its model.",
        )
    known = {f.name for cls in (type(stored.encoder), ModelConfig) for f in fields(cls)}
    known.add(_ENCODER_TYPE)
    strange = [flag_name(name) for name in typed if name not in known]
    if strange:
        raise CheckpointError(
            f"{strange[0]} is not a setting of {stored.describe()}.",
            f"leave {' and '.join(strange)} out: the checkpoint knows its model.",
        )


def _check_streaming_flags(stored: StoredModel, typed: Flags) -> None:
    for name in stored.encoder.free_when_decoding:
        if (
            name in typed
            and not stored.encoder.causal
            and typed[name] != getattr(stored.encoder, name)
        ):
            raise CheckpointError(
                f"{flag_name(name)} {shown(typed[name])} is for streaming models, which "
                f"{stored.path} is not.",
                f"leave {flag_name(name)} out.",
            )


def _unequal(stored: StoredModel, values: Flags) -> list[str]:
    """Return the names of the values that are not those of the model, in the order of fields."""
    names = [field.name for cls in (type(stored.encoder), ModelConfig) for field in fields(cls)]
    return [
        name
        for name in names
        if name in values and not is_same_value(values[name], _value(stored, name))
    ]


def _value(stored: StoredModel, name: str) -> Any:
    is_of_heads = name in ModelConfig.__dataclass_fields__
    return getattr(stored.model if is_of_heads else stored.encoder, name)


def _replaced(stored: StoredModel, values: Flags) -> StoredModel:
    """Return the same with other settings; a value out of range is a ``UserError``."""
    of_heads = {n: v for n, v in values.items() if n in ModelConfig.__dataclass_fields__}
    of_encoder = {n: v for n, v in values.items() if n not in of_heads}
    try:
        return stored._replace(
            encoder=replace(stored.encoder, **of_encoder),
            model=replace(stored.model, **of_heads),
        )
    except ValueError as refusal:
        raise UserError(str(refusal)) from refusal


def _contradiction(stored: StoredModel, typed: Flags, wrong: Sequence[str]) -> CheckpointError:
    """Say what was asked for and what there is, as values, as models and as tensors."""
    asked = _asked(stored, typed)
    shapes = shapes_of(asked.encoder, asked.model, asked.vocab_size).state_dict()
    unlike = differences(stored.weights, shapes)
    models = (
        f" The flags describe a {describe(asked.encoder, asked.model, asked.vocab_size)}, the "
        f"file holds a {describe(stored.encoder, stored.model, stored.vocab_size)}; "
        f"{summary(unlike)}."
    )
    flags = [flag_name(name) for name in wrong]
    pairs = [f"{flag} {shown(typed[name])}" for flag, name in zip(flags, wrong, strict=True)]
    values = [shown(_value(stored, name)) for name in wrong]
    if len(wrong) > 1:
        values = [f"{flag} {value}" for flag, value in zip(flags, values, strict=True)]
    return CheckpointError(
        f"{' '.join(pairs)} {'was' if len(wrong) == 1 else 'were'} asked for, but {stored.path} "
        f"was trained with {' '.join(values)}.{models if unlike else ''}",
        f"leave {' and '.join(flags)} out: the checkpoint knows its model.",
    )


def _asked(stored: StoredModel, typed: Flags) -> StoredModel:
    """Return the model that flags describe: changes to the stored one, else all of another one."""
    try:
        return _replaced(stored, typed)
    except UserError:
        plain = stored._replace(encoder=type(stored.encoder)(), model=ModelConfig())
        return _replaced(plain, typed)
