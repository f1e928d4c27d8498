"""Bad input of every command: status 2, one line that names the argument, and nothing written."""

from __future__ import annotations

import importlib
import shlex
import shutil

import numpy as np
import pytest

from tf_prac import (
    ForgettingStats,
    Masks,
    PracConfig,
    PracSet,
    PruningConfig,
    SampleSet,
    Ticket,
    TicketSearch,
    TrainingRecipe,
)
from tf_prac.cli.main import COMMANDS, main
from tf_prac.errors import ArgumentError, TfPracError
from tf_prac.keras_api import FLAVORS
from tf_prac.storage.files import write_json
from tf_prac.storage.run_directory import RunDirectory

QUICK = ["--epochs=2", "--rounds=1", "--limit_train=300", "--batch_size=64", "--rewind=3it"]

# Words in capitals stand for paths; the fixture `places` says which. A row is a command line and
# what its one line must say; by default, and in most rows, the flag itself.
FLAGS = """
search --preset=paper
search --dataset=nothing_like_it
search --dataset=mnist --data_dir=/nowhere                 | data_dir
search --dataset=mnist --data_dir=EMPTY                    | data_dir
search --dataset=mnist --data_dir=TEXT                     | data_dir
search --dataset=folder                                    | data_dir
search --dataset=folder --data_dir=EMPTY                   | data_dir
search --dataset=folder --data_dir=TEXT                    | data_dir
search --dataset=folder --data_dir=FULL                    | data_dir
search --data_dir=/nowhere --dataset=folder                | data_dir
search --image_size=0
search --image_size=large
search --limit_train=0
search --limit_train=-4
search --limit_train=1000000
search --model=lenet
search --model=resnet50
search --keras=pytorch
search --output_dir=FULL                                   | not empty and not a run
search --output_dir=TEXT                                   | not empty and not a run
search --output_dir=TEXT/below                             | TEXT
search --output_dir=DAMAGED                                | DAMAGED/config.json: damaged
search --output_dir=NEWER                                  | schema 99; this one reads up to 1
search --output_dir=RUN                                    | epochs: 20 requested, but the run in
search --seed=-1
search --seed=x
search --seed=4294967296
search --deterministic=maybe
search --accept_versions=maybe
search --retrain=some
search --prac=both
search --epochs=0
search --epochs=1.5
search --steps=0
search --steps=many
search --batch_size=-2
search --batch_size=99999999999999999999
search --optimizer=sgdd
search --learning_rate=0
search --learning_rate=nan
search --learning_rate=inf
search --final_rate=-1
search --epsilon=0
search --epsilon=small
search --momentum=1
search --momentum_form=nesterov
search --weight_decay=-1
search --schedule=steps
search --milestones=0.5,0.2
search --milestones=a
search --milestones=0
search --decay=2
search --milestones=20000it
search --steps=100 --milestones=100it                      | --milestones
search --steps=100 --warmup=3ep                            | --warmup
search --image_size=big
search --layer_rates=embedding=0.1
search --min_layer_density=1
search --warmup=1
search --augment=cutout
search --label_smoothing=1
search --label_smoothing=some
search --validation_split=1
search --split=first
search --mixed_precision=some
search --jit_compile=some
search --tf32=some
search --rounds=0
search --rounds=two
search --prune_rate=1.5
search --prune_rate=0
search --layer_rates=conv
search --layer_rates=conv=1.5
search --scope=local
search --criterion=size
search --layers=attention
search --layers=
search --layers=conv                                       | --model
search --prune_last_dense=perhaps
search --ignore=*                                          | --model
search --rewind=5
search --rewind=20ep
search --rewind=100%
search --rewind=1.5it
search --rewind=-1it
search --lr_rewind=2
search --keep_epoch_masks=maybe
search --sparsities=0.5,0.2
search --sparsities=half
search --pattern=rows
search --pattern=m_by_n                                    | --sparsity_m_by_n
search --block_size=4
search --block_size=a,b
search --block_pooling_type=MEDIAN
search --sparsity_m_by_n=2
search --sparsity_m_by_n=4,2
search --policy=some
search --retraining=again
search --ticket_start=trained
search --ticket_start=rewind_point
search --rewind_statistics=3
search --retraining=fine_tuning --norewind_statistics      | --rewind_statistics
search --rewind_optimizer=3
search --retraining=lr_rewinding --rewind_optimizer        | --rewind_optimizer
search --score_steps=0
search --score_samples=0
search --selector=best
search --selector=random                                   | --subset_size
search --subset_size=0.5
search --subset_size=2
search --sizes_from=
search --sizes_from=MISSING                                | sizes_from
search --sizes_from=TEXT                                   | sizes_from
search --sizes_from=EMPTY                                  | EMPTY
search --sizes_from=DAMAGED                                | DAMAGED/config.json: damaged
search --sizes_from=NEWER                                  | schema 99; this one reads up to 1
search --sizes_from=UNFINISHED                             | UNFINISHED
search --cep_reference=dense
search --cep_reference=own_round --cep_network=trained     | --cep_reference
search --coverage=0
search --coverage=half
search --prac=none --coverage=0.5                          | --coverage
search --coverage_until=2
search --hard_cutoff=1
search --hard_cutoff_below=-1
search --dense_budget=30
search --dense_budget=0ep
search --dense_budget=1it                                  | --dense_budget
search --round_budget=long
search --round_schedule=linear
search --early_stop_average=1
search --early_stop_distance=both
search --early_stop_distance=order --criterion=taylor      | --early_stop_distance
search --early_stop_distance=order --sparsity_m_by_n=2,4 --rounds=1 | --early_stop_distance
search --round_schedule=one_cycle                          | --round_schedule
search --prac=fast --round_schedule=one_cycle --early_stop_eps=0.1 | early_stop_eps: off
search --prac=fast --round_schedule=one_cycle --larger_cuts=1 | larger_cuts: off
search --round_schedule=swa --early_stop_eps=0.1           | early_stop_eps
search --prac=fast --criterion=taylor                      | --criterion
search --larger_cuts=2
search --larger_cuts=half
search --larger_cuts=0.8 --prac=none --criterion=synflow   | --larger_cuts
search --largest_cut=1
search --class_balanced=some
search --prac_from=
search --prac_from=MISSING                                 | prac_from
search --prac_from=TEXT                                    | prac_from
search --prac_from=EMPTY                                   | EMPTY
search --prac_from=DAMAGED                                 | DAMAGED/config.json: damaged
search --prac_from=NEWER                                   | schema 99; this one reads up to 1
search --prac_from=UNFINISHED                              | UNFINISHED
search --prac_from_round=first
search --prac_from=RUN --selector=random --subset_size=0.5 | --prac_from
search --proxy_from=RUN
search --selector=forgetting --subset_size=0.5 --proxy_from=MISSING   | proxy_from
search --selector=forgetting --subset_size=0.5 --proxy_from=DAMAGED   | DAMAGED/config.json: damaged
search --selector=forgetting --subset_size=0.5 --proxy_from=UNFINISHED | UNFINISHED
search --pretrain_on=best
search --pretrain_on=random                                | --pretrain_size
search --pretrain_on=random --pretrain_size=0.5 --rewind=0it | --rewind
search --pretrain_size=2
search --pretrain_from=RUN
search --pretrain_on=easy --pretrain_size=0.5              | --pretrain_from
search --pretrain_on=easy --pretrain_size=0.5 --pretrain_from=MISSING    | pretrain_from
search --pretrain_on=easy --pretrain_size=0.5 --pretrain_from=UNFINISHED | UNFINISHED
search --tensorboard=3
search --quiet=maybe
search --strategy=warp
search --devices=0
search --device=tpu
search --data_placement=gpu
search --use_cet=maybe
search --use_cep=maybe
search --forget_threshold=-1
search --cet_rate=1
search --never_learned=maybe
search --cep_network=dense
search --cep_weights=worst
search --cep_from_round=-1
search --min_size=2
search --budget=time
search --early_stop_eps=0
search --early_stop_eps=never
search --early_stop_window=0
search --checkpoint_seconds=-1
search --checkpoint_steps=-1
search --early_stop_arming=late
search --no_such_flag
search --flagfile=/nowhere/flags
search --flagfile=EMPTY
search --flagfile=BINARY
search stray                                               | arguments: received 'stray'
compare --arms=prac,magic
compare --arms=
compare --seeds=0,x
compare --seeds=-1
compare --seeds=
compare --seeds=4294967296
compare --retrain=some
compare --output_dir=FULL                                  | FULL
compare --output_dir=TEXT                                  | TEXT
compare --output_dir=RUN                                   | RUN
compare --deterministic=2
compare --dataset=nothing_like_it
compare --json=maybe
reproduce --paper=lottery
reproduce --paper=prac --item=table_9                      | --item: received 'table_9'
reproduce --item=table_1 --scale=medium                    | --scale
reproduce --item=table_1 --scale=                          | --scale
reproduce --item=table_1 --keras=pytorch                   | --keras
reproduce --item=table_1 --device=tpu                      | --device
reproduce --item=table_1 --list=maybe                      | --list
reproduce --item=table_1 --json=maybe                      | --json
reproduce --item=table_1 --output_dir=TEXT                 | TEXT
reproduce --item=figure_2 --data_dir=/nowhere              | --data_dir
reproduce --item=figure_2 --data_dir=EMPTY                 | --data_dir
reproduce stray                                            | arguments: received 'stray'
sweep                                                      | --rewinds: received None
sweep --rewinds=5
sweep --rewinds=
sweep --rewinds=0it,99999it                                | --rewinds: received '99999it'
sweep --rewinds=1ep,21it --epochs=2 --batch_size=64        | 1ep is step 21 as well
sweep --rewinds=0it --controls=shuffle                     | --controls
sweep --rewinds=0it --seeds=0,x                            | --seeds
sweep --rewinds=0it --seeds=-1                             | --seeds
sweep --rewinds=0it --retrain=some                         | --retrain
sweep --rewinds=0it --deterministic=2                      | --deterministic
sweep --rewinds=0it --output_dir=FULL                      | FULL: not empty and not a sweep
sweep --rewinds=0it --output_dir=TEXT                      | TEXT: not empty and not a sweep
sweep stray                                                | arguments: received 'stray'
compare stray                                              | arguments: received 'stray'
retrain RUN --round=9
retrain RUN --round=-1
retrain RUN --round=last
retrain RUN --accept_versions=2
retrain RUN --control=magic
retrain RUN --control=reinit --control_seed=-1             | --control_seed
retrain RUN --control_seed=x
retrain RUN --data_dir                                     | data_dir
retrain RUN --epochs=3
retrain RUN --flagfile=/nowhere/flags
evaluate RUN --round=9
evaluate RUN --round=0                                     | RUN/tickets/round_00: not retrained
evaluate RUN --round=1.5
evaluate RUN --data_dir                                    | data_dir
evaluate RUN --control=reinit
evaluate RUN --json=maybe
evaluate RUN --flagfile=TEXT                               | mine
stability RUN --rounds=3
stability RUN --rounds=last
stability RUN --rounds=-1
stability RUN --copies=1
stability RUN --copies=two
stability RUN --pruning_copies=-1
stability RUN --pruning_copies=9
stability RUN --controls=shuffled
stability RUN --data_dir                                   | data_dir
stability RUN --output_dir=TEXT                            | TEXT
stability RUN --output_dir=TEXT/below                      | TEXT
connectivity RUN --rounds=3
connectivity RUN --rounds=x
connectivity RUN --copies=1
connectivity RUN --controls=ticket
connectivity RUN --successive=maybe
connectivity RUN --points=1
connectivity RUN --batch_norm=kept
connectivity RUN --samples=0
connectivity RUN --samples=many
connectivity RUN --every_epochs=0
connectivity RUN --every_epochs=1.5
connectivity RUN --output_dir=TEXT                         | TEXT
report RUN --images=3
report RUN --output=EMPTY                                  | EMPTY
tune --space=prune_rate
tune --sparsity=1 --space=prune_rate=0.1..0.5
tune --objective=best --space=prune_rate=0.1..0.5
tune --steps_weight=much --space=prune_rate=0.1..0.5
tune --oracle=delphi --space=prune_rate=0.1..0.5
tune --max_trials=0 --space=prune_rate=0.1..0.5
tune --seeds=x --space=prune_rate=0.1..0.5
tune --tuner_seed=x --space=prune_rate=0.1..0.5
info RUN --round=0
info RUN --json=maybe
export RUN                                                 | --output: received None
export RUN --output=MISSING --round=9                      | --round
export RUN --output=MISSING --round=0                      | RUN/tickets/round_00: not retrained
export RUN --output=FULL                                   | --output
export RUN --output=TEXT                                   | --output
export RUN --output=TEXT --overwrite                       | TEXT: not an export
export RUN --output=RUN --overwrite                        | run: not an export
export RUN --output=MISSING --format=torch                 | --format
export RUN --output=MISSING --content=masks                | --content
export RUN --output=MISSING --storage=int4                 | --storage
export RUN --output=MISSING --softmax=2                    | --softmax
export RUN --output=MISSING --shrink=2                     | --shrink
export RUN --output=MISSING --shrink --content=ticket      | shrink: received True
export RUN --output=MISSING --fold_batch_norm=2            | --fold_batch_norm
export RUN --output=MISSING --fold_batch_norm --content=ticket | fold_batch_norm: received True
export RUN --output=MISSING --preprocess=2                 | --preprocess
export RUN --output=MISSING --check=2                      | --check
export RUN --output=MISSING --overwrite=2                  | --overwrite
export RUN --report=2
export RUN --report --data_dir                             | data_dir
info RUN --flagfile=/nowhere/flags
completion                                                 | SHELL: received ''
completion csh                                             | SHELL: received 'csh'
completion bash zsh                                        | SHELL: received 'bash zsh'
serach                                                     | unknown command 'serach'
--flagfile=FLAGS                                           | unknown command '--flagfile=
"""

RUN_ARGUMENTS = """
                | RUN: received ''
RUN RUN         | RUN: received
MISSING         | RUN: received
TEXT            | RUN: received
EMPTY           | EMPTY: not a run of tf_prac
FULL            | FULL: not a run of tf_prac
DAMAGED         | DAMAGED/config.json: damaged
NEWER           | schema 99; this one reads up to 1
UNFINISHED      | UNFINISHED
OTHERS          | OTHERS/config.json: damaged, or of another run
LEADING_OUT     | LEADING_OUT/config.json: a link that points outside
"""


def _rows():
    for line in FLAGS.strip().splitlines():
        text, _, named = (part.strip() for part in line.partition("|"))
        yield text, named or next(w for w in text.split() if w.startswith("--")).partition("=")[0]
    for command in COMMANDS:
        if "RUN" not in _flags(command).usage:
            continue
        for line in RUN_ARGUMENTS.strip("\n").splitlines():
            text, _, named = (part.strip() for part in line.partition("|"))
            if text != "UNFINISHED" or command not in ("info", "report"):  # they say how far
                more = "--output=MISSING/new" if command == "export" else ""
                yield f"{command} {text} {more}".strip(), named


def _flags(command):
    return importlib.import_module(f"tf_prac.cli.{command}").define_flags()


ROWS = list(_rows())


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The paths that the rows name."""
    directory = tmp_path_factory.mktemp("places")
    names = "RUN MISSING EMPTY FULL TEXT BINARY DAMAGED NEWER UNFINISHED OTHERS LEADING_OUT"
    places = {name: directory / name.lower() for name in names.split()}
    for name in ("EMPTY", "FULL", "DAMAGED", "NEWER", "UNFINISHED", "LEADING_OUT"):
        places[name].mkdir()
    assert main(["search", *QUICK, f"--output_dir={places['RUN']}"]) == 0
    (places["FULL"] / "notes.txt").write_text("mine")
    places["TEXT"].write_text("mine\n")
    places["BINARY"].write_bytes(b"\xff\xfe--epochs=3\x00\n")
    config = (places["RUN"] / "config.json").read_text()
    (places["DAMAGED"] / "config.json").write_text(config[:-99])
    (places["NEWER"] / "config.json").write_text(config.replace('"schema": 1', '"schema": 99'))
    (places["UNFINISHED"] / "config.json").write_text(config)
    (places["LEADING_OUT"] / "config.json").symlink_to(places["RUN"] / "config.json")
    shutil.copytree(places["RUN"], places["OTHERS"])
    other = RunDirectory(places["OTHERS"]).config()
    write_json(places["OTHERS"] / "config.json", "config", {**other, "train_samples": 271})
    return places


def _content(directory):
    files = (p for p in directory.rglob("*") if p.is_file())
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


def _fill_in(text, places):
    for name in sorted(places, key=len, reverse=True):
        text = text.replace(name, str(places[name]))
    return text


@pytest.mark.parametrize(("text", "named"), ROWS, ids=[row[0] for row in ROWS])
def test_one_line_names_it_and_nothing_is_written(
    text, named, places, tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    before = _content(places["RUN"].parent)
    assert main(shlex.split(_fill_in(text, places))) == 2
    out, error = capfd.readouterr()
    assert len(error.splitlines()) == 1 and error.startswith("tf-prac")
    named = named if named.startswith("RUN: ") else _fill_in(named, places)
    assert named.removeprefix("--") in error and "Traceback" not in error
    assert _content(places["RUN"].parent) == before
    assert list(tmp_path.iterdir()) == []


def test_every_flag_of_every_command_has_a_bad_value():
    """A flag that a command shares with `search` is tested there."""
    assert len(ROWS) >= 60 and len(set(ROWS)) == len(ROWS)
    tested = {(text.split()[0], flag) for text, _ in ROWS for flag in _named_flags(text)}
    lacking = [
        f"{command} --{name}"
        for command in COMMANDS
        for name in _flags(command).values
        if name not in ("help", "h") and not {(command, name), ("search", name)} & tested
    ]
    assert lacking == []


def _named_flags(text):
    return [w[2:].partition("=")[0] for w in text.split() if w.startswith("--")]


MISUSES = {
    "epochs": lambda: TrainingRecipe(epochs=2**31),
    "milestones": lambda: TrainingRecipe(milestones="0.5"),
    "rewind": lambda: PruningConfig(rewind="later"),
    "layers": lambda: PruningConfig(layers="conv"),
    "min_size": lambda: PracConfig(min_size="1%"),
    "seed": lambda: TicketSearch(lambda: None, directory="run", seed=2**32),
    "retrain": lambda: TicketSearch(lambda: None, directory="run", retrain=True),
    "cet": lambda: PracSet([0.5], (), 3),
    "cep": lambda: PracSet((), [3], 3),
    "ids: ": lambda: SampleSet([3], 3),
    "filled": lambda: PracSet((), (), 3, filled=[[1]]),
    "num_samples": lambda: ForgettingStats(0),
    "ids": lambda: ForgettingStats(3).update(np.array([0.5]), np.array([1])),
    "sample ids": lambda: ForgettingStats(3).update(np.array([1, 1]), np.array([1, 0])),
    "correct": lambda: ForgettingStats(3).update(np.array([1]), np.array([1, 0])),
    "forget_threshold": lambda: ForgettingStats(3).critical_for_training(-1),
    "masks": lambda: Masks({"a": np.array([2])}),
    "weights": lambda: Ticket(Masks({"a": np.ones(2)}), {}, 0, 0),
    "a": lambda: Ticket(Masks({"a": np.ones(2)}), {"a": np.ones(3)}, 0, 0),
    "round": lambda: Ticket(Masks({}), {}, -1, 0),
    "rewind_step": lambda: Ticket(Masks({}), {}, 0, 1.5),
    "lr_rewind": lambda: Ticket(Masks({}), {}, 0, 0, "yes"),
    "nowhere": lambda: Ticket.load("nowhere"),
    "prac_set.npz": lambda: PracSet.load("prac_set.npz"),
}


@pytest.mark.parametrize("named", MISUSES)
def test_misuse_of_the_api_names_the_argument_and_writes_nothing(named, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TfPracError) as caught:
        MISUSES[named]()
    assert named in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flavor", FLAVORS)
def test_what_a_newcomer_does_first_is_told_plainly(flavor, tmp_path):
    keras = importlib.import_module(flavor)
    layers = keras.layers

    def too_few():
        return keras.Sequential([layers.InputLayer((4,)), layers.Dense(8), layers.Dense(2)])

    data = np.zeros((30, 4), np.float32), np.arange(30) % 3
    with pytest.raises(ArgumentError, match="model: received '2 outputs'.*each of the 3 classes"):
        TicketSearch(too_few, directory=tmp_path / "run", verbose=False).run(data)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ArgumentError, match="model: received '2 outputs'.*each of the 3 classes"):
        TicketSearch(too_few(), directory=tmp_path / "run", verbose=False).run(data)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ArgumentError, match="model_fn: received 'builtins.str'; allowed: a func"):
        TicketSearch("lenet300", directory=tmp_path)
