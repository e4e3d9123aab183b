"""The first Zipformer, of pruned_transducer_stateless7 and its streaming version.

``config``, ``build``, ``model``, ``stack``, ``layer``, ``attention``, ``streaming``, ``infer`` and
``metadata`` mirror ``zipformer``;
``scaling`` has its own ActivationBalancer, DoubleSwish, BasicNorm and Whiten.
"""
