"""The optimizer room: gradients in, changed parameters out.

``groups`` decides which parameters are trained and how fast, ``parameter_batches`` lays their
state out in stacks of equal shape, ``clipping`` watches the gradient norm, ``steps`` turns
gradients into a motion, ``scaled_adam`` makes it (``scaled_adam_v1`` as the first recipes did),
``eden`` gives the learning rate. The room knows named parameters, never the model.
"""
