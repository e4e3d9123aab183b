"""The first Zipformer, of pruned_transducer_stateless7 and its streaming version."""
