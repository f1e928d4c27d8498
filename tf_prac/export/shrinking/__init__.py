"""Exact removal of the channels that masks have made dead or constant.

shrink.py      `shrink`                        fold.py      `fold_batch_norm`
channels.py    groups of channels
network.py     which channels are removed      rebuild.py   the smaller model
kinds.py       how kinds of layers treat channels: those that pass them on
readers.py     those that compute new channels from them: dense, convolutions, attention
report.py      `ShrinkReport`                  check.py     compares outputs
"""
