"""The Zipformer: stacks of layers at several frame rates, in the shape of a U."""
