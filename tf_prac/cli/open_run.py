"""Building a search from `Settings`, or from the config.json of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tf_prac.cli.settings import Settings
from tf_prac.config import OTHER_RUNS, SearchConfig
from tf_prac.data.datasets import LoadedData, load_dataset
from tf_prac.errors import ArgumentError, DamagedFileError, FileError, MismatchError
from tf_prac.models import build_model
from tf_prac.search.ticket_search import TicketSearch
from tf_prac.storage.documents import COUNT, TEXT
from tf_prac.storage.layout import CONFIG
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.storage.schema import Invalid, Nullable, Record

LABELS = Record(
    {"dataset": TEXT, "model": TEXT, "data_dir": Nullable(TEXT), "limit_train": Nullable(COUNT)},
    {"image_size": Nullable(COUNT), **{name: TEXT for name in OTHER_RUNS}},
)
"""The labels of a run of the command line."""


def load_data(settings: Settings) -> LoadedData:
    """Loads the data set of the settings."""
    labels = settings.labels
    size = labels.get("image_size")
    return load_dataset(
        labels["dataset"],
        data_dir=labels["data_dir"],
        limit_train=labels["limit_train"],
        image_size=None if size is None else (size, size),
    )


def model_function(settings: Settings, data: LoadedData) -> Callable[[], Any]:
    """Returns a function that builds the network of the settings for the data."""

    num_classes = data.train.num_classes
    assert num_classes is not None  # data sets by name have classes

    def model_fn() -> Any:
        return build_model(
            settings.labels["model"],
            keras=settings.keras,
            input_shape=data.train.input_shape,
            num_classes=num_classes,
        )

    return model_fn


def make_search(settings: Settings, data: LoadedData, **options: Any) -> TicketSearch:
    """Returns a search with the network of the settings."""
    return TicketSearch(
        model_function(settings, data),
        settings.config,
        labels=settings.labels,
        **options,
    )


def reopen(
    run: RunDirectory, data_dir: str | None, **options: Any
) -> tuple[TicketSearch, LoadedData]:
    """Builds the search of a finished run again, and loads its data.

    Args:
        run: the run.
        data_dir: directory of the data set; None: the one in the run's configuration.
        **options: of `TicketSearch` that do not change results, such as `strategy`.

    Raises:
        FileError: If the run is not finished, or its configuration is damaged.
        MismatchError: If the data set is not the one of the run.
    """
    run.summary()
    settings, data = reopen_data(run, data_dir)
    options = {**run.config()["search"], **options}
    with _damaged(run):
        return make_search(settings, data, directory=run.path, **options), data


@contextlib.contextmanager
def _damaged(run: RunDirectory) -> Iterator[None]:
    """Names config.json in errors about options and labels that are read from it."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, Invalid, ArgumentError) as error:
        if isinstance(error, ArgumentError) and error.argument == "data_dir":
            raise
        raise DamagedFileError(f"{run.path / CONFIG}: damaged ({error}).") from error


def is_of_command(config: Mapping[str, Any]) -> bool:
    """Whether the run of a configuration was made by a command, which recorded its data set."""
    return "dataset" in (config.get("labels") or {})


def reopen_data(run: RunDirectory, data_dir: str | None) -> tuple[Settings, LoadedData]:
    """Loads the data of a run, finished or not.

    Raises:
        FileError: If the run was made from Python, or its configuration is damaged.
        MismatchError: If the data set is not the one of the run.
    """
    config = run.config()
    if not is_of_command(config):
        raise FileError(
            f"{run.path}: this run was made from Python, where its model and data are. Use "
            "Ticket.load(...).retrain(model, data), or tf_prac.load_model on the model.keras of a "
            "ticket and its evaluate."
        )
    labels = config["labels"]
    with _damaged(run):
        LABELS.check(labels, "labels")
        settings = Settings(
            {**labels, "data_dir": data_dir or labels["data_dir"]},
            config["keras"],
            SearchConfig.from_json(config, **{n: labels[n] for n in OTHER_RUNS if n in labels}),
        )
        data = load_data(settings)
    identity = data.train.identity.to_json()
    if identity != config["dataset"]:
        raise MismatchError(
            f"data_dir: contains the data set {identity}, but the run used {config['dataset']}."
        )
    return settings, data
