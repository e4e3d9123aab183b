"""Keyword arguments of the Python API: the flags of the commands with their types.

Written by ``python -m docs.keywords``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict


class SharedFlags(TypedDict, total=False):
    """Flags of all that needs a model by field."""

    attention_decoder_attention_dim: int
    attention_decoder_attention_multiple: int
    attention_decoder_dim: int
    attention_decoder_feedforward_dim: int
    attention_decoder_feedforward_multiple: int
    attention_decoder_multiple: int
    attention_decoder_num_heads: int
    attention_decoder_num_layers: int
    attention_dims: Sequence[int] | int | str
    aux_loss_scale: float
    base_dim: int
    causal: bool
    chunk_size: Sequence[int] | int | str
    cnn_module_kernel: Sequence[int] | int | str
    cnn_module_kernels: Sequence[int] | int | str
    context_size: int
    conv_params: Sequence[int] | int | str
    decode_chunk_len: int
    decoder_dim: int
    decoder_multiple: int
    downsampling_factor: Sequence[int] | int | str
    dropout: float | None
    embed_channels: Sequence[int] | int | str
    embed_multiple: int
    encoder_dim: Sequence[int] | int | str
    encoder_dims: Sequence[int] | int | str
    encoder_multiple: Sequence[int] | int | str
    encoder_type: Literal["zipformer", "zipformer1", "zapformer"]
    encoder_unmasked_dim: Sequence[int] | int | str
    encoder_unmasked_dims: Sequence[int] | int | str
    feedforward_dim: Sequence[int] | int | str
    feedforward_dims: Sequence[int] | int | str
    feedforward_multiple: Sequence[int] | int | str
    joiner_dim: int
    joiner_multiple: int
    left_context_frames: Sequence[int] | int | str
    lm_scale: float
    mask_unfilled_cache: bool
    nhead: Sequence[int] | int | str
    num_encoder_layers: Sequence[int] | int | str
    num_heads: Sequence[int] | int | str
    num_left_chunks: int
    own_heads: str
    pos_dim: int
    pos_head_dim: Sequence[int] | int | str
    query_head_dim: Sequence[int] | int | str
    short_chunk_size: int
    use_attention_decoder: bool
    use_cr_ctc: bool
    use_ctc: bool
    use_transducer: bool
    value_head_dim: Sequence[int] | int | str
    zipformer_downsampling_factors: Sequence[int] | int | str


class SearchFlags(SharedFlags, total=False):
    """Flags of a search by field."""

    allow_partial: bool
    avg: int
    backoff_id: int
    beam: float
    beam_size: int
    blank_penalty: float
    context_file: str
    context_score: float
    epoch: int | None
    exact_backoff: bool
    grammar: Path | str | None
    hlg_scale: float
    iter: int
    lang_dir: Path | str
    large_grammar: Path | str | None
    lm_avg: int
    lm_dir: Path | str
    lm_epoch: int
    lm_exp_dir: Path | str | None
    lm_type: Literal["rnn", "transformer", "ngram"]
    lm_vocab_size: int
    max_active_states: int
    max_contexts: int
    max_states: int
    max_sym_per_frame: int
    nbest_scale: float
    ngram_lm: Path | str | None
    ngram_lm_scale: float
    num_paths: int
    output_beam: float
    pad_look_ahead: bool
    rnn_lm_embedding_dim: int
    rnn_lm_hidden_dim: int
    rnn_lm_num_layers: int
    rnn_lm_tie_weights: bool
    search_beam: float
    temperature: float
    tokens_ngram: int
    transformer_lm_dim_feedforward: int
    transformer_lm_embedding_dim: int
    transformer_lm_encoder_dim: int
    transformer_lm_exp_dir: Path | str | None
    transformer_lm_nhead: int
    transformer_lm_num_layers: int
    transformer_lm_tie_weights: bool
    use_averaged_model: bool
    use_shallow_fusion: bool


class DataFlags(SharedFlags, total=False):
    """Flags of data by field."""

    allow_commands: bool
    bpe_model: Path | str
    bucketing_sampler: bool
    concatenate_cuts: bool
    drop_last: bool
    duration_factor: float
    enable_codec: bool
    enable_musan: bool
    enable_rir: bool
    enable_spec_aug: bool
    exp_dir: Path | str
    extra_manifest: Sequence[str] | str | None
    full_libri: bool
    gap: float
    giga_prob: float | None
    giga_subset: Literal["XS", "S", "M", "L", "XL"]
    input_strategy: Literal["PrecomputedFeatures", "AudioSamples"]
    join_prob: float
    longest_pause: float
    manifest_dir: Path | str
    max_cut_duration: float
    max_duration: float
    min_cut_duration: float
    mini_libri: bool
    musan_snr: Sequence[float] | float | str
    num_buckets: int
    num_workers: int
    on_the_fly_feats: bool
    pause_start_epoch: int
    return_cuts: bool
    shuffle: bool
    silence_prob: float
    spec_aug_features_mask_size: int
    spec_aug_frames_mask_size: int
    spec_aug_max_frames_mask_fraction: float
    spec_aug_num_feature_masks: int
    spec_aug_num_frame_masks: int
    spec_aug_start_epoch: int
    spec_aug_time_warp_factor: int
    spec_augment: Literal["standard", "alternating"]
    time_mask_ratio: float


class RunFlags(SearchFlags, DataFlags, total=False):
    """Flags of a trained run by field."""

    auto_avg: bool
    auto_avg_cuts: int
    checkpoint: Path | str | None
    decoding_method: str
    lm_scales: Sequence[float] | float | str
    max_len: int
    methods: Sequence[str] | str | None
    score_normalised: bool
    skip_scoring: bool
    test_sets: Sequence[str] | str | None
    use_bf16: bool


class ModelSettings(SearchFlags, total=False):
    """Flags of load_model by field."""

    overlap: float
    window: float
    word_times: Literal["auto", "ctc", "transducer"]


class TrainFlags(DataFlags, total=False):
    """Flags of train.py by field."""

    accumulate: int
    allow_data_change: bool
    am_scale: float
    attention_decoder_loss_scale: float
    average_period: int
    base_lr: float
    batches_per_epoch: int | None
    cr_loss_scale: float
    ctc_loss_scale: float
    ctc_only_batches: int
    curves: bool
    do_finetune: bool
    dry_run: bool
    finetune_ckpt: Path | str | None
    finetune_tokenizer: Literal["keep", "new"]
    freeze: Sequence[str] | str | None
    gpu_memory: str | None
    inf_check: bool
    init_modules: Sequence[str] | str | None
    keep_last_epochs: int
    keep_last_k: int
    log_interval: int
    lora_alpha: float | None
    lora_modules: Sequence[str] | str | None
    lora_rank: int
    lr_batches: float
    lr_epochs: float
    master_port: int
    max_copies: int
    memory_budget_gb: float
    min_copies: int
    num_epochs: int
    num_real_epochs: int | None
    optimizer: Literal["scaled_adam", "scaled_adam_v1", "rubik"]
    preset: Literal["small", "medium", "large", "base-64", "base-32", "base-16"]
    print_diagnostics: bool
    prune_range: int
    ref_duration: float
    rehearse: bool
    resume: bool
    rnnt_backend: Literal["auto", "torch", "numba", "triton", "k2"]
    rnnt_type: Literal["regular", "modified", "constrained"]
    save_every_epochs: int
    save_every_n: int
    seed: int
    simple_loss_scale: float
    start_batch: int
    start_epoch: int
    subset: str | None
    tensorboard: bool
    use_bf16: bool | None
    use_fp16: bool
    use_multidataset: bool
    use_mux: bool
    valid_interval: int
    valid_wer_cuts: int
    wandb: str | None
    warm_step: int
    warmup_batches: float
    warmup_start: float
    world_size: int


class DecodeFlags(RunFlags, total=False):
    """Flags of decode.py by field."""

    attention_decoder_loss_scale: float
    calibrate: bool


class ExportFlags(RunFlags, total=False):
    """Flags of export.py by field."""

    dynamic_axes: bool
    enable_int8_quantization: bool
    format: Sequence[str] | str
    fp16: bool
    jit: bool
    keep_x_lens: int
    keywords_file: Path | str | None
    output_dir: Path | str | None
    static_shapes: float
    tokens: Path | str | None
    use_int32_inputs: bool
