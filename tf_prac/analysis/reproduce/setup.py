"""`Setup`: data, network and options of an experiment. `Scale`: the setups that items use."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tf_prac.config import SearchConfig
from tf_prac.presets import PRESETS

if TYPE_CHECKING:
    from tf_prac.data.datasets import LoadedData

TRAIN_SIZES = {
    "digits": 1_442,
    "mnist": 60_000,
    "fashion_mnist": 60_000,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "tiny_imagenet": 100_000,
    "imagenet2012": 1_281_167,
}
"""Training samples of each data set, so that steps are counted before data is loaded."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """The data, network and options of an experiment.

    Example:

        >>> setup = Setup.of_preset("cifar10_resnet20", prac="official", rounds=16)
        >>> setup.name, setup.config.pruning.rounds, setup.train_size
        ('cifar10_resnet20', 16, 45000)

    Attributes:
        name: names the directory of its runs; setups with other options have other names.
        dataset: name of the data set.
        model: a key of `tf_prac.models.MODELS`.
        config: the options of a search.
        image_size: height and width that images are resized to; None: not resized.
        limit_train: use only the first n training samples; None: all.
        same_start: whether all seeds have the initial weights of seed 0, and differ in split, data
            order and augmentation only.
    """

    name: str
    dataset: str
    model: str
    config: SearchConfig
    image_size: int | None = None
    limit_train: int | None = None
    same_start: bool = False

    @classmethod
    def of_preset(cls, preset: str, prac: str | None = None, **options: Any) -> Setup:
        """Returns the setup of a preset.

        Args:
            preset: a key of `PRESETS`; it is also the name of the setup.
            prac: the PrAC variant in place of the preset's.
            **options: options of a search, of any group, that replace the preset's.
        """
        chosen = PRESETS[preset]
        return cls(
            name=preset,
            dataset=chosen.dataset,
            model=chosen.model,
            config=chosen.config(prac, **options),
            image_size=chosen.image_size,
        )

    @classmethod
    def small(
        cls,
        preset: str,
        model: str,
        limit_train: int,
        image_size: int | None = None,
        **options: Any,
    ) -> Setup:
        """Returns a small stand-in for a preset, with its optimizer, schedule and pruning.

        Args:
            preset: a key of `PRESETS`; all but its first word is in the name of the setup.
            model: replaces the network.
            limit_train: use only the first n training samples.
            image_size: height and width that images are resized to. Default None: not resized.
            **options: options of a search, of any group, that replace the preset's.
        """
        return dataclasses.replace(
            cls.of_preset(preset, **options),
            name=f"small_{preset.partition('_')[2]}",
            model=model,
            limit_train=limit_train,
            image_size=image_size,
        )

    def replace(self, name: str = "", **options: Any) -> Setup:
        """Returns a setup with other options of a search.

        Args:
            name: is added to the name of the setup. Default "".
            **options: new values, of any group.
        """
        full_name = f"{self.name}_{name}" if name else self.name
        return dataclasses.replace(self, name=full_name, config=self.config.replace(**options))

    @property
    def train_size(self) -> int:
        """Number of training samples, without those held out for validation."""
        from tf_prac.data.ids import split_validation

        count = self.limit_train or TRAIN_SIZES[self.dataset]
        fraction = self.config.recipe.validation_split
        if not fraction:
            return count
        return len(split_validation(count, fraction=fraction, method="last", seed=0)[0])

    def labels(self, data_dir: str | os.PathLike | None) -> dict[str, Any]:
        """Returns the labels of its runs, from which commands load data and network again."""
        return {
            "dataset": self.dataset,
            "data_dir": None if data_dir is None else str(data_dir),
            "image_size": self.image_size,
            "limit_train": self.limit_train,
            "model": self.model,
        }

    def load(self, data_dir: str | os.PathLike | None) -> LoadedData:
        """Loads the data set.

        Args:
            data_dir: directory of the data sets of TensorFlow Datasets; Tiny-ImageNet is in its
                subdirectory tiny_imagenet, if there is one.
        """
        from tf_prac.data.datasets import load_dataset

        size, folder = self.image_size, pathlib.Path(data_dir or "", self.dataset)
        if self.dataset == "tiny_imagenet" and folder.is_dir():
            data_dir = folder
        return load_dataset(
            self.dataset,
            data_dir=data_dir,
            limit_train=self.limit_train,
            image_size=None if size is None else (size, size),
        )

    def model_fn(self, data: LoadedData, keras: str) -> Callable[[], Any]:
        """Returns a function that builds the network.

        Args:
            data: the data set.
            keras: the flavor.
        """
        from tf_prac.keras_api import copy_of, seed_everything
        from tf_prac.models import build_model

        num_classes = data.train.num_classes
        assert num_classes is not None  # data sets by name have classes

        def build() -> Any:
            return build_model(
                self.model,
                keras=keras,
                input_shape=data.train.input_shape,
                num_classes=num_classes,
            )

        if not self.same_start:
            return build
        seed_everything(0)
        network = build()
        return lambda: copy_of(network)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the experiments of an item are: as in the paper, or on a CPU in minutes.

    Attributes:
        name: "paper", where published numbers are judged, or another name.
        about: one line: networks, data and schedule.
        seeds: of initial weights, split, data order and augmentation.
        setups: setups by the name of the paper's preset; for another name, `Setup.of_preset`.
        options: options of a search that replace those of a preset without an entry.
        prac: the PrAC variant of presets without an entry; None: the preset's own.
    """

    name: str
    about: str
    seeds: tuple[int, ...] = (0, 1, 2)
    setups: Mapping[str, Setup] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    prac: str | None = None

    @property
    def is_paper(self) -> bool:
        """Whether published numbers are judged."""
        return self.name == "paper"

    def available(self, presets: Iterable[str]) -> list[str]:
        """Returns the presets that have a setup at this scale; all of them at the paper's."""
        return [name for name in presets if self.is_paper or name in self.setups]

    def setup(self, preset: str, name: str = "", **options: Any) -> Setup:
        """Returns the setup that takes the place of a preset at this scale.

        Args:
            preset: a key of `PRESETS`.
            name: is added to the name of the setup. Default "".
            **options: options of a search that an item changes.
        """
        if preset in self.setups:
            return self.setups[preset].replace(name, **options)
        return Setup.of_preset(preset, self.prac, **self.options).replace(name, **options)


def rewinding_scales(lenet: str, resnets: Iterable[str]) -> dict[str, Scale]:
    """Returns the scales of the papers on rewinding, by name: "paper" and "small".

    Args:
        lenet: the preset of LeNet on MNIST.
        resnets: presets of ResNet-20 on CIFAR-10.
    """
    resnet: dict[str, Any] = {"steps": 500, "batch_size": 64, "prune_rate": 0.5, "rounds": 3}
    setups = {lenet: Setup.small(lenet, "lenet300", 6_000, steps=1_000)} | {
        name: Setup.small(name, "resnet8", 5_120, image_size=16, rewind="0it", **resnet)
        for name in resnets  # every item replaces the rewind point
    }
    about = (
        "LeNet-300-100 on 6,000 images of MNIST for 1,000 steps; ResNet-8 on 5,120 images of "
        "CIFAR-10 at 16 x 16 for 500 steps, with half of the weights pruned in each of 3 rounds, "
        "in place of ResNet-20; three seeds"
    )
    paper = "networks, data and schedules of the paper, three initializations"
    return {
        "paper": Scale(name="paper", about=paper),
        "small": Scale(name="small", about=about, setups=setups),
    }
