"""CEP over the training set against two plain `predict` passes over it.

    python benchmarks/critical.py --dataset=cifar10 --data_dir=DATA --model=resnet20

CEP compares the predictions of the dense and of a sparse network. The dense predictions are made
once, in round 0, and stored, so later rounds should cost about half of two passes.
"""

from __future__ import annotations

import tempfile

import common_flags
import numpy as np
from absl import app
from common_flags import FLAGS
from networks import network_for
from turns import rows, table, take_turns, write

from tf_prac import Masks, prunable_weights, random_mask, snapshot
from tf_prac.config import PracConfig, SearchConfig, TrainingRecipe
from tf_prac.data.pipeline import evaluation_batches
from tf_prac.data.splits import DataSplits, Split
from tf_prac.search.context import SearchContext
from tf_prac.search.critical_samples import CriticalSamples
from tf_prac.search.selection import RoundOutcome
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.trained_network import untrained
from tf_prac.training.trainer import Trainer

common_flags.define(*common_flags.DATA, *common_flags.NETWORK, "repeats", "output")

PREDICT_BATCH = 256


def main(_) -> None:
    """Times both and prints the table."""
    samples = common_flags.load_data().train
    train = Split(samples, np.arange(len(samples)))
    network = network_for(samples)
    batches = evaluation_batches(*train, batch_size=PREDICT_BATCH)
    inputs = np.concatenate([x["inputs"].numpy() for x, _ in batches])
    weights = snapshot(network)
    dense = Masks.ones_like(prunable_weights(network))
    sparse = random_mask(dense, 0.2, seed=0)
    trained = untrained(weights, len(samples), 0)
    with tempfile.TemporaryDirectory() as directory:
        trainer = Trainer(network, TrainingRecipe(), samples)
        context = SearchContext(
            config=SearchConfig(prac=PracConfig(use_cet=False)),
            seed=0,
            data=DataSplits(train, None, None),
            trainer=trainer,
            run=RunDirectory(directory),
        )
        critical = CriticalSamples(context)
        first, second = (RoundOutcome(n, trained, dense, sparse, train.ids) for n in (0, 1))
        critical.select(first)
        alternatives = {
            "two predicts": lambda: [
                network.predict(inputs, batch_size=PREDICT_BATCH, verbose=0).argmax(-1)
                for _ in range(2)
            ],
            "CEP": lambda: critical.select(second),
        }
        results = rows(take_turns(alternatives, FLAGS.repeats), "two predicts", len(samples))
    print(table(results, "two predicts"))
    write(FLAGS.output, results)


if __name__ == "__main__":
    app.run(main)
