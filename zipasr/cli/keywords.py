"""Keyword arguments of the Python API: the flags of the commands with their types.

Written by ``python -m docs.keywords``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict


class ModelSettings(TypedDict, total=False):
    """Flags of load_model by field."""

    allow_partial: bool
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
    avg: int
    backoff_id: int
    base_dim: int
    beam: float
    beam_size: int
    blank_penalty: float
    causal: bool
    chunk_size: Sequence[int] | int | str
    cnn_module_kernel: Sequence[int] | int | str
    cnn_module_kernels: Sequence[int] | int | str
    context_file: str
    context_score: float
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
    epoch: int | None
    exact_backoff: bool
    feedforward_dim: Sequence[int] | int | str
    feedforward_dims: Sequence[int] | int | str
    feedforward_multiple: Sequence[int] | int | str
    grammar: Path | str | None
    hlg_scale: float
    iter: int
    joiner_dim: int
    joiner_multiple: int
    lang_dir: Path | str
    large_grammar: Path | str | None
    left_context_frames: Sequence[int] | int | str
    lm_avg: int
    lm_dir: Path | str
    lm_epoch: int
    lm_exp_dir: Path | str | None
    lm_scale: float
    lm_type: Literal["rnn", "transformer", "ngram"]
    lm_vocab_size: int
    mask_unfilled_cache: bool
    max_active_states: int
    max_contexts: int
    max_states: int
    max_sym_per_frame: int
    nbest_scale: float
    ngram_lm: Path | str | None
    ngram_lm_scale: float
    nhead: Sequence[int] | int | str
    num_encoder_layers: Sequence[int] | int | str
    num_heads: Sequence[int] | int | str
    num_left_chunks: int
    num_paths: int
    output_beam: float
    overlap: float
    own_heads: str
    pad_look_ahead: bool
    pos_dim: int
    pos_head_dim: Sequence[int] | int | str
    query_head_dim: Sequence[int] | int | str
    rnn_lm_embedding_dim: int
    rnn_lm_hidden_dim: int
    rnn_lm_num_layers: int
    rnn_lm_tie_weights: bool
    search_beam: float
    short_chunk_size: int
    temperature: float
    tokens_ngram: int
    transformer_lm_dim_feedforward: int
    transformer_lm_embedding_dim: int
    transformer_lm_encoder_dim: int
    transformer_lm_exp_dir: Path | str | None
    transformer_lm_nhead: int
    transformer_lm_num_layers: int
    transformer_lm_tie_weights: bool
    use_attention_decoder: bool
    use_averaged_model: bool
    use_cr_ctc: bool
    use_ctc: bool
    use_shallow_fusion: bool
    use_transducer: bool
    value_head_dim: Sequence[int] | int | str
    window: float
    word_times: Literal["auto", "ctc", "transducer"]
    zipformer_downsampling_factors: Sequence[int] | int | str


class TrainFlags(TypedDict, total=False):
    """Flags of train.py by field."""

    accumulate: int
    allow_commands: bool
    allow_data_change: bool
    am_scale: float
    attention_decoder_attention_dim: int
    attention_decoder_attention_multiple: int
    attention_decoder_dim: int
    attention_decoder_feedforward_dim: int
    attention_decoder_feedforward_multiple: int
    attention_decoder_loss_scale: float
    attention_decoder_multiple: int
    attention_decoder_num_heads: int
    attention_decoder_num_layers: int
    attention_dims: Sequence[int] | int | str
    aux_loss_scale: float
    average_period: int
    base_dim: int
    base_lr: float
    batches_per_epoch: int | None
    bpe_model: Path | str
    bucketing_sampler: bool
    causal: bool
    chunk_size: Sequence[int] | int | str
    cnn_module_kernel: Sequence[int] | int | str
    cnn_module_kernels: Sequence[int] | int | str
    concatenate_cuts: bool
    context_size: int
    conv_params: Sequence[int] | int | str
    cr_loss_scale: float
    ctc_loss_scale: float
    ctc_only_batches: int
    curves: bool
    decode_chunk_len: int
    decoder_dim: int
    decoder_multiple: int
    do_finetune: bool
    downsampling_factor: Sequence[int] | int | str
    drop_last: bool
    dropout: float | None
    dry_run: bool
    duration_factor: float
    embed_channels: Sequence[int] | int | str
    embed_multiple: int
    enable_codec: bool
    enable_musan: bool
    enable_rir: bool
    enable_spec_aug: bool
    encoder_dim: Sequence[int] | int | str
    encoder_dims: Sequence[int] | int | str
    encoder_multiple: Sequence[int] | int | str
    encoder_type: Literal["zipformer", "zipformer1", "zapformer"]
    encoder_unmasked_dim: Sequence[int] | int | str
    encoder_unmasked_dims: Sequence[int] | int | str
    exp_dir: Path | str
    extra_manifest: Sequence[str] | str | None
    feedforward_dim: Sequence[int] | int | str
    feedforward_dims: Sequence[int] | int | str
    feedforward_multiple: Sequence[int] | int | str
    finetune_ckpt: Path | str | None
    finetune_tokenizer: Literal["keep", "new"]
    freeze: Sequence[str] | str | None
    full_libri: bool
    gap: float
    giga_prob: float | None
    giga_subset: Literal["XS", "S", "M", "L", "XL"]
    inf_check: bool
    init_modules: Sequence[str] | str | None
    input_strategy: Literal["PrecomputedFeatures", "AudioSamples"]
    join_prob: float
    joiner_dim: int
    joiner_multiple: int
    keep_last_epochs: int
    keep_last_k: int
    left_context_frames: Sequence[int] | int | str
    lm_scale: float
    log_interval: int
    longest_pause: float
    lora_alpha: float | None
    lora_modules: Sequence[str] | str | None
    lora_rank: int
    lr_batches: float
    lr_epochs: float
    manifest_dir: Path | str
    mask_unfilled_cache: bool
    master_port: int
    max_copies: int
    max_cut_duration: float
    max_duration: float
    memory_budget_gb: float
    min_copies: int
    min_cut_duration: float
    mini_libri: bool
    musan_snr: Sequence[float] | float | str
    nhead: Sequence[int] | int | str
    num_buckets: int
    num_encoder_layers: Sequence[int] | int | str
    num_epochs: int
    num_heads: Sequence[int] | int | str
    num_left_chunks: int
    num_real_epochs: int | None
    num_workers: int
    on_the_fly_feats: bool
    optimizer: Literal["scaled_adam", "scaled_adam_v1", "rubik"]
    own_heads: str
    pause_start_epoch: int
    pos_dim: int
    pos_head_dim: Sequence[int] | int | str
    preset: Literal["small", "medium", "large", "base-64", "base-32", "base-16"]
    print_diagnostics: bool
    prune_range: int
    query_head_dim: Sequence[int] | int | str
    ref_duration: float
    rehearse: bool
    resume: bool
    return_cuts: bool
    rnnt_backend: Literal["auto", "torch", "numba", "triton", "k2"]
    rnnt_type: Literal["regular", "modified", "constrained"]
    save_every_epochs: int
    save_every_n: int
    seed: int
    short_chunk_size: int
    shuffle: bool
    silence_prob: float
    simple_loss_scale: float
    spec_aug_features_mask_size: int
    spec_aug_frames_mask_size: int
    spec_aug_max_frames_mask_fraction: float
    spec_aug_num_feature_masks: int
    spec_aug_num_frame_masks: int
    spec_aug_start_epoch: int
    spec_aug_time_warp_factor: int
    spec_augment: Literal["standard", "alternating"]
    start_batch: int
    start_epoch: int
    subset: str | None
    tensorboard: bool
    time_mask_ratio: float
    use_attention_decoder: bool
    use_bf16: bool | None
    use_cr_ctc: bool
    use_ctc: bool
    use_fp16: bool
    use_multidataset: bool
    use_mux: bool
    use_transducer: bool
    valid_interval: int
    valid_wer_cuts: int
    value_head_dim: Sequence[int] | int | str
    warm_step: int
    warmup_batches: float
    warmup_start: float
    world_size: int
    zipformer_downsampling_factors: Sequence[int] | int | str


class DecodeFlags(TypedDict, total=False):
    """Flags of decode.py by field."""

    allow_commands: bool
    allow_partial: bool
    attention_decoder_attention_dim: int
    attention_decoder_attention_multiple: int
    attention_decoder_dim: int
    attention_decoder_feedforward_dim: int
    attention_decoder_feedforward_multiple: int
    attention_decoder_loss_scale: float
    attention_decoder_multiple: int
    attention_decoder_num_heads: int
    attention_decoder_num_layers: int
    attention_dims: Sequence[int] | int | str
    auto_avg: bool
    auto_avg_cuts: int
    aux_loss_scale: float
    avg: int
    backoff_id: int
    base_dim: int
    beam: float
    beam_size: int
    blank_penalty: float
    bpe_model: Path | str
    bucketing_sampler: bool
    calibrate: bool
    causal: bool
    checkpoint: Path | str | None
    chunk_size: Sequence[int] | int | str
    cnn_module_kernel: Sequence[int] | int | str
    cnn_module_kernels: Sequence[int] | int | str
    concatenate_cuts: bool
    context_file: str
    context_score: float
    context_size: int
    conv_params: Sequence[int] | int | str
    decode_chunk_len: int
    decoder_dim: int
    decoder_multiple: int
    decoding_method: str
    downsampling_factor: Sequence[int] | int | str
    drop_last: bool
    dropout: float | None
    duration_factor: float
    embed_channels: Sequence[int] | int | str
    embed_multiple: int
    enable_codec: bool
    enable_musan: bool
    enable_rir: bool
    enable_spec_aug: bool
    encoder_dim: Sequence[int] | int | str
    encoder_dims: Sequence[int] | int | str
    encoder_multiple: Sequence[int] | int | str
    encoder_type: Literal["zipformer", "zipformer1", "zapformer"]
    encoder_unmasked_dim: Sequence[int] | int | str
    encoder_unmasked_dims: Sequence[int] | int | str
    epoch: int | None
    exact_backoff: bool
    exp_dir: Path | str
    extra_manifest: Sequence[str] | str | None
    feedforward_dim: Sequence[int] | int | str
    feedforward_dims: Sequence[int] | int | str
    feedforward_multiple: Sequence[int] | int | str
    full_libri: bool
    gap: float
    giga_prob: float | None
    giga_subset: Literal["XS", "S", "M", "L", "XL"]
    grammar: Path | str | None
    hlg_scale: float
    input_strategy: Literal["PrecomputedFeatures", "AudioSamples"]
    iter: int
    join_prob: float
    joiner_dim: int
    joiner_multiple: int
    lang_dir: Path | str
    large_grammar: Path | str | None
    left_context_frames: Sequence[int] | int | str
    lm_avg: int
    lm_dir: Path | str
    lm_epoch: int
    lm_exp_dir: Path | str | None
    lm_scale: float
    lm_scales: Sequence[float] | float | str
    lm_type: Literal["rnn", "transformer", "ngram"]
    lm_vocab_size: int
    longest_pause: float
    manifest_dir: Path | str
    mask_unfilled_cache: bool
    max_active_states: int
    max_contexts: int
    max_cut_duration: float
    max_duration: float
    max_len: int
    max_states: int
    max_sym_per_frame: int
    methods: Sequence[str] | str | None
    min_cut_duration: float
    mini_libri: bool
    musan_snr: Sequence[float] | float | str
    nbest_scale: float
    ngram_lm: Path | str | None
    ngram_lm_scale: float
    nhead: Sequence[int] | int | str
    num_buckets: int
    num_encoder_layers: Sequence[int] | int | str
    num_heads: Sequence[int] | int | str
    num_left_chunks: int
    num_paths: int
    num_workers: int
    on_the_fly_feats: bool
    output_beam: float
    own_heads: str
    pad_look_ahead: bool
    pause_start_epoch: int
    pos_dim: int
    pos_head_dim: Sequence[int] | int | str
    query_head_dim: Sequence[int] | int | str
    return_cuts: bool
    rnn_lm_embedding_dim: int
    rnn_lm_hidden_dim: int
    rnn_lm_num_layers: int
    rnn_lm_tie_weights: bool
    score_normalised: bool
    search_beam: float
    short_chunk_size: int
    shuffle: bool
    silence_prob: float
    skip_scoring: bool
    spec_aug_features_mask_size: int
    spec_aug_frames_mask_size: int
    spec_aug_max_frames_mask_fraction: float
    spec_aug_num_feature_masks: int
    spec_aug_num_frame_masks: int
    spec_aug_start_epoch: int
    spec_aug_time_warp_factor: int
    spec_augment: Literal["standard", "alternating"]
    temperature: float
    test_sets: Sequence[str] | str | None
    time_mask_ratio: float
    tokens_ngram: int
    transformer_lm_dim_feedforward: int
    transformer_lm_embedding_dim: int
    transformer_lm_encoder_dim: int
    transformer_lm_exp_dir: Path | str | None
    transformer_lm_nhead: int
    transformer_lm_num_layers: int
    transformer_lm_tie_weights: bool
    use_attention_decoder: bool
    use_averaged_model: bool
    use_bf16: bool
    use_cr_ctc: bool
    use_ctc: bool
    use_shallow_fusion: bool
    use_transducer: bool
    value_head_dim: Sequence[int] | int | str
    zipformer_downsampling_factors: Sequence[int] | int | str


class ExportFlags(TypedDict, total=False):
    """Flags of export.py by field."""

    allow_commands: bool
    allow_partial: bool
    attention_decoder_attention_dim: int
    attention_decoder_attention_multiple: int
    attention_decoder_dim: int
    attention_decoder_feedforward_dim: int
    attention_decoder_feedforward_multiple: int
    attention_decoder_multiple: int
    attention_decoder_num_heads: int
    attention_decoder_num_layers: int
    attention_dims: Sequence[int] | int | str
    auto_avg: bool
    auto_avg_cuts: int
    aux_loss_scale: float
    avg: int
    backoff_id: int
    base_dim: int
    beam: float
    beam_size: int
    blank_penalty: float
    bpe_model: Path | str
    bucketing_sampler: bool
    causal: bool
    checkpoint: Path | str | None
    chunk_size: Sequence[int] | int | str
    cnn_module_kernel: Sequence[int] | int | str
    cnn_module_kernels: Sequence[int] | int | str
    concatenate_cuts: bool
    context_file: str
    context_score: float
    context_size: int
    conv_params: Sequence[int] | int | str
    decode_chunk_len: int
    decoder_dim: int
    decoder_multiple: int
    decoding_method: str
    downsampling_factor: Sequence[int] | int | str
    drop_last: bool
    dropout: float | None
    duration_factor: float
    dynamic_axes: bool
    embed_channels: Sequence[int] | int | str
    embed_multiple: int
    enable_codec: bool
    enable_int8_quantization: bool
    enable_musan: bool
    enable_rir: bool
    enable_spec_aug: bool
    encoder_dim: Sequence[int] | int | str
    encoder_dims: Sequence[int] | int | str
    encoder_multiple: Sequence[int] | int | str
    encoder_type: Literal["zipformer", "zipformer1", "zapformer"]
    encoder_unmasked_dim: Sequence[int] | int | str
    encoder_unmasked_dims: Sequence[int] | int | str
    epoch: int | None
    exact_backoff: bool
    exp_dir: Path | str
    extra_manifest: Sequence[str] | str | None
    feedforward_dim: Sequence[int] | int | str
    feedforward_dims: Sequence[int] | int | str
    feedforward_multiple: Sequence[int] | int | str
    format: Sequence[str] | str
    fp16: bool
    full_libri: bool
    gap: float
    giga_prob: float | None
    giga_subset: Literal["XS", "S", "M", "L", "XL"]
    grammar: Path | str | None
    hlg_scale: float
    input_strategy: Literal["PrecomputedFeatures", "AudioSamples"]
    iter: int
    jit: bool
    join_prob: float
    joiner_dim: int
    joiner_multiple: int
    keep_x_lens: int
    keywords_file: Path | str | None
    lang_dir: Path | str
    large_grammar: Path | str | None
    left_context_frames: Sequence[int] | int | str
    lm_avg: int
    lm_dir: Path | str
    lm_epoch: int
    lm_exp_dir: Path | str | None
    lm_scale: float
    lm_scales: Sequence[float] | float | str
    lm_type: Literal["rnn", "transformer", "ngram"]
    lm_vocab_size: int
    longest_pause: float
    manifest_dir: Path | str
    mask_unfilled_cache: bool
    max_active_states: int
    max_contexts: int
    max_cut_duration: float
    max_duration: float
    max_len: int
    max_states: int
    max_sym_per_frame: int
    methods: Sequence[str] | str | None
    min_cut_duration: float
    mini_libri: bool
    musan_snr: Sequence[float] | float | str
    nbest_scale: float
    ngram_lm: Path | str | None
    ngram_lm_scale: float
    nhead: Sequence[int] | int | str
    num_buckets: int
    num_encoder_layers: Sequence[int] | int | str
    num_heads: Sequence[int] | int | str
    num_left_chunks: int
    num_paths: int
    num_workers: int
    on_the_fly_feats: bool
    output_beam: float
    output_dir: Path | str | None
    own_heads: str
    pad_look_ahead: bool
    pause_start_epoch: int
    pos_dim: int
    pos_head_dim: Sequence[int] | int | str
    query_head_dim: Sequence[int] | int | str
    return_cuts: bool
    rnn_lm_embedding_dim: int
    rnn_lm_hidden_dim: int
    rnn_lm_num_layers: int
    rnn_lm_tie_weights: bool
    score_normalised: bool
    search_beam: float
    short_chunk_size: int
    shuffle: bool
    silence_prob: float
    skip_scoring: bool
    spec_aug_features_mask_size: int
    spec_aug_frames_mask_size: int
    spec_aug_max_frames_mask_fraction: float
    spec_aug_num_feature_masks: int
    spec_aug_num_frame_masks: int
    spec_aug_start_epoch: int
    spec_aug_time_warp_factor: int
    spec_augment: Literal["standard", "alternating"]
    static_shapes: float
    temperature: float
    test_sets: Sequence[str] | str | None
    time_mask_ratio: float
    tokens: Path | str | None
    tokens_ngram: int
    transformer_lm_dim_feedforward: int
    transformer_lm_embedding_dim: int
    transformer_lm_encoder_dim: int
    transformer_lm_exp_dir: Path | str | None
    transformer_lm_nhead: int
    transformer_lm_num_layers: int
    transformer_lm_tie_weights: bool
    use_attention_decoder: bool
    use_averaged_model: bool
    use_bf16: bool
    use_cr_ctc: bool
    use_ctc: bool
    use_int32_inputs: bool
    use_shallow_fusion: bool
    use_transducer: bool
    value_head_dim: Sequence[int] | int | str
    zipformer_downsampling_factors: Sequence[int] | int | str
