"""Training with masks and recorded forgetting, in Keras's `fit` and in searches."""
