"""The optimizer room: gradients in, changed parameters out.

``groups`` decides which parameters are trained and how fast, ``parameter_batches`` lays their
state out in stacks of equal shape, ``clipping`` watches the gradient norm, ``scaled_adam`` makes
the step, ``eden`` gives the learning rate. The room knows named parameters, never the model.
"""
