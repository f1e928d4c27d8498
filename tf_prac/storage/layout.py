"""The files of a run: their names, and where each is stored.

    config.json               every option that decides the result
    config_1a2b3c4d.json      an earlier config.json, of another number of rounds; named after its
                              SHA-256
    rewind.npz                W_k, the weights that every round starts from
    pretraining/              rewind.npz pretrained.json, if W_k is trained on other samples
    round_00/                 masks.npz forgetting.npz prac_set.npz predictions.npz history.csv
                              round.json (metrics, and the SHA-256 of the other files);
                              weights.npz and averaged.npz if the next round needs them
    round_00/tentative/       with keep_epoch_masks: epoch_001.npz, the mask after that epoch
    tickets/round_03/         masks.npz ticket.json, which refers to rewind.npz; weights.npz if the
                              ticket starts from other weights; after retraining trained.npz,
                              forgetting.npz, history.csv, retrained.json and, if Keras can save
                              it, model.keras
    tickets/round_03/controls/reinit_0/    the same files of a control, with weights.npz
    copies/                   replicates: networks trained from W_k, one .npz for each data order;
                              NAME_during.npz has the weights during training, if requested
    summary.json              the metrics of the whole run
    report.html               the report of `tf-prac report`
    tensorboard/              events of `tf-prac search --tensorboard`

While a network trains, checkpoints/step_000001234/ in its directory contains the training state:
checkpoint.json and tensors.*. A running search holds a lock on `.lock`.
"""

from __future__ import annotations

import os
import pathlib

from tf_prac.errors import FileError
from tf_prac.storage.files import inside
from tf_prac.storage.names import check_name

CONFIG, REWIND, SUMMARY, REPORT = "config.json", "rewind.npz", "summary.json", "report.html"
EARLIER_CONFIGS = "config_" + 8 * "[0-9a-f]" + ".json"
EXPERIMENTS = ("comparison.json", "sweep.json")
MASKS, FORGETTING, PRAC_SET = "masks.npz", "forgetting.npz", "prac_set.npz"
TENTATIVE = "tentative"
PREDICTIONS, HISTORY, ROUND = "predictions.npz", "history.csv", "round.json"
TICKET, WEIGHTS, AVERAGED = "ticket.json", "weights.npz", "averaged.npz"
TRAINED, RETRAINED, MODEL = "trained.npz", "retrained.json", "model.keras"
TENSORBOARD = "tensorboard"
CHECKPOINTS, CHECKPOINT = "checkpoints", "checkpoint.json"
PRETRAINED = "pretrained.json"


class RunLayout:
    """The paths of one run.

    Args:
        path: the directory; created when the first file is written.

    Raises:
        FileError: If no directory can have this name.
    """

    def __init__(self, path: str | os.PathLike):
        check_name(path)
        self.path = pathlib.Path(path)

    def earlier_config_path(self, digest: str) -> pathlib.Path:
        """The file of a configuration with this SHA-256, of another number of rounds."""
        return inside(self.path, f"config_{digest[:8]}.json")

    def round_path(self, number: int) -> pathlib.Path:
        """The directory of a round."""
        return self._directory(f"round_{number:02d}")

    def ticket_path(self, number: int, control: str = "") -> pathlib.Path:
        """The directory of the ticket that round `number` starts from, or of one of its controls.

        Args:
            number: number of prunings, 0 for the dense network.
            control: name of the control, such as "reinit_0". Default "", the ticket.
        """
        below = ("controls", control) if control else ()
        return self._directory("tickets", f"round_{number:02d}", *below)

    @property
    def pretraining_path(self) -> pathlib.Path:
        """The directory of the training to W_k, if it uses other samples."""
        return self._directory("pretraining")

    def replicate_path(self, number: int, network: str, replicate: int) -> pathlib.Path:
        """The file of a replicate, a network that `Replicates` trains from W_k."""
        return self.path / "copies" / f"round_{number:02d}_{network}_{replicate:02d}.npz"

    def trajectory_path(self, number: int, network: str, replicate: int) -> pathlib.Path:
        """The file with the weights of a replicate during its training."""
        name = f"round_{number:02d}_{network}_{replicate:02d}_during.npz"
        return self.path / "copies" / name

    @property
    def in_experiment(self) -> bool:
        """Whether the run is part of a comparison or sweep."""
        directory = self.path.resolve().parent.parent
        return any((directory / name).exists() for name in EXPERIMENTS)

    def _directory(self, *names: str) -> pathlib.Path:
        path = inside(self.path, *names)
        if path.exists() and not path.is_dir():
            raise FileError(f"{path}: not a directory. Remove it, or name another run.")
        return path
