"""The first Zipformer, of pruned_transducer_stateless7 and its streaming version.

``config``, ``construction``, ``model``, ``stack``, ``layer``, ``attention``, and ``streaming``
mirror ``zipformer``; ``scaling`` has its own ActivationBalancer, DoubleSwish, BasicNorm and Whiten.
"""
