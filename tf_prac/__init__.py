"""Winning lottery tickets on a fraction of the data, for Keras and TensorFlow.

The names that most programs need are here. More are in the namespaces `tf_prac.callbacks`,
`tf_prac.pruning`, `tf_prac.data`, `tf_prac.export` and `tf_prac.analysis`. Each name is imported
when it is first used.
"""

from tf_prac._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
