"""The first Zipformer, of pruned_transducer_stateless7 and its streaming version.

``config``, ``construction``, ``model``, ``stack``, ``layer``, ``attention``, ``streaming`` and
``metadata`` mirror ``zipformer``;
``scaling`` has its own ActivationBalancer, DoubleSwish, BasicNorm and Whiten.
"""
