"""Flags built from dataclasses, and their help text."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re

import pytest
from absl import flags as absl_flags

from tf_prac.cli.flags import Flags
from tf_prac.cli.main import COMMANDS, main
from tf_prac.config import PracConfig, PruningConfig, TrainingRecipe
from tf_prac.errors import ArgumentError

CONFIGS = {"Training": TrainingRecipe, "Pruning": PruningConfig, "PrAC": PracConfig}


@dataclasses.dataclass(frozen=True)
class Every:
    """One field of each type.

    Example:

        >>> Every().count
        1

    Args:
        count: how many. Default 1.
        rate: how fast, in `units`
            a second. Default 0.5.
        name: what it is called: "a" or "b".
        fast: whether to hurry.
        rates: several rates.
        names: several names.
        limit: where to end; None: never.
        place: where to look; None: nowhere.
        most: how many at most; None: any.
        points: several fractions or points.
        point: one of them.
    """

    count: int = 1
    rate: float = 0.5
    name: str = "a"
    fast: bool = False
    rates: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    limit: float | None = 0.1
    place: str | None = None
    most: int | None = None
    points: tuple[float | str, ...] = ()
    point: float | str = 0.0


def make(*arguments, config=Every):
    """Flags of one dataclass, parsed."""
    flags = Flags("test [--flags]", "Does a thing.")
    flags.options("Options", config)
    flags.parse(list(arguments))
    return flags


def every_flag():
    """All option flags of a search, and one of each other type."""
    flags = Flags("search [--flags]", "Finds a ticket. " * 20)
    flags.group("Run")
    flags.string("dataset", "digits", "Name of the data set.")
    flags.string("output_dir", None, "Where to write.")
    flags.integer("seed", 0, "Of everything.")
    flags.boolean("deterministic", False, "Slower. " * 40)
    flags.boolean("progress", True, "Show bars.")
    for title, config in CONFIGS.items():
        flags.options(title, config)
    return flags


def test_only_flags_that_were_given_are_given():
    assert make().given(Every) == {}
    assert make("--count=3").given(Every) == {"count": 3}
    assert make("--count=1").given(Every) == {"count": 1}, "the default, but asked for"


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--count=3", 3),
        ("--rate=1e-3", 1e-3),
        ("--rate=2", 2.0),
        ("--name=b", "b"),
        ("--name=", ""),
        ("--fast", True),
        ("--nofast", False),
        ("--fast=false", False),
        ("--rates=0.5,0.75", (0.5, 0.75)),
        ("--rates= 0.5 , 1 ", (0.5, 1.0)),
        ("--rates=", ()),
        ("--names=conv,dense", ("conv", "dense")),
        ("--names=", ()),
        ("--limit=0.08", 0.08),
        ("--limit=off", None),
        ("--place=run", "run"),
        ("--place=off", None),
        ("--points=0.5,20000it", (0.5, "20000it")),
        ("--points=", ()),
        ("--point=5ep", "5ep"),
        ("--point=0.1", 0.1),
        ("--most=5", 5),
        ("--most=off", None),
    ],
)
def test_values_have_the_type_of_their_field(argument, value):
    found = make(argument).given(Every)
    name = argument.strip("-").partition("=")[0].removeprefix("no")
    assert found == {name: value}
    assert type(found[name]) is type(value)
    if isinstance(value, tuple):
        assert [type(item) for item in found[name]] == [type(item) for item in value]


@pytest.mark.parametrize(
    "argument", ["--count=x", "--count=1.5", "--rate=fast", "--fast=maybe", "--unknown=3", "--coun"]
)
def test_absl_refuses_what_it_cannot_read(argument):
    with pytest.raises(absl_flags.Error):
        make(argument)


@pytest.mark.parametrize(
    ("argument", "name", "received", "allowed"),
    [
        ("--rates=0.5,x", "rates", "x", "numbers separated by commas"),
        ("--rates=0.5;0.7", "rates", "0.5;0.7", "numbers separated by commas"),
        ("--limit=never", "limit", "never", "a number, or off"),
        ("--limit=", "limit", "", "a number, or off"),
        ("--limit=None", "limit", "None", "a number, or off"),
        ("--most=1.5", "most", "1.5", "a whole number, or off"),
    ],
)
def test_what_absl_leaves_as_text_is_refused_by_the_flags_name(argument, name, received, allowed):
    with pytest.raises(ArgumentError) as caught:
        make(argument).given(Every)
    error = caught.value
    assert (error.argument, error.received, error.allowed) == (name, received, allowed)


def test_the_early_stop_can_be_off():
    assert make("--early_stop_eps=off", config=PracConfig).given(PracConfig) == {
        "early_stop_eps": None
    }
    text = " ".join(make(config=PracConfig).help().split())
    assert '"off"' in text


@pytest.mark.parametrize("config", CONFIGS.values())
def test_every_option_can_be_given_as_its_own_default(config):
    arguments = []
    for field in dataclasses.fields(config):
        value = getattr(config(), field.name)
        if isinstance(value, bool):
            arguments.append(f"--{'' if value else 'no'}{field.name}")
        else:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            text = "off" if value is None else text
            arguments.append(f"--{field.name}={text}")
    given = make(*arguments, config=config).given(config)
    assert given == dataclasses.asdict(config())
    assert config(**given) == config()


def test_a_value_out_of_bounds_is_refused_by_the_flags_name():
    given = make("--prune_rate=1.5", config=PruningConfig).given(PruningConfig)
    with pytest.raises(ArgumentError, match="^prune_rate: received 1.5"):
        PruningConfig(**given)


def test_other_flags_have_defaults_and_values():
    flags = every_flag()
    assert flags.parse(["RUN", "--seed=3", "--noprogress", "more"]) == ["RUN", "more"]
    assert (flags.seed, flags.progress, flags.deterministic) == (3, False, False)
    assert (flags.dataset, flags.output_dir) == ("digits", None)
    with pytest.raises(AttributeError):
        _ = flags.no_such_flag


def test_a_path_may_start_with_the_home_directory(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    flags = Flags("x", "Does nothing.")
    flags.path("output_dir", None, "Where to write.")
    flags.path("data_dir", "~/data", "Where to read.")
    flags.path("output", None, "Not given.")
    flags.parse(["--output_dir=~/runs/a~b"])
    assert flags.output_dir == "/home/someone/runs/a~b"
    assert (flags.data_dir, flags.output) == ("/home/someone/data", None)


def test_flags_of_one_command_are_not_those_of_another():
    one, other = make("--count=3"), make("--count=4")
    assert (one.count, other.count) == (3, 4)
    assert "count" not in absl_flags.FLAGS


def test_flags_can_come_from_a_file(tmp_path):
    file = tmp_path / "flags"
    file.write_text("# a comment\n--count=7\n--rates=0.1,0.2\n--nofast\n")
    assert make(f"--flagfile={file}", "--count=8").given(Every) == {
        "count": 8,
        "rates": (0.1, 0.2),
        "fast": False,
    }
    with pytest.raises(ArgumentError, match="flagfile.*allowed: an existing text file"):
        make(f"--flagfile={tmp_path / 'nothing'}")


@pytest.mark.parametrize("spelling", ["flags", "./flags", "link"])
@pytest.mark.parametrize("separate", [False, True])
def test_a_file_of_flags_that_includes_itself_is_refused(spelling, separate, tmp_path):
    file, other = tmp_path / "flags", tmp_path / "other"
    (tmp_path / "link").symlink_to(file)
    file.write_text(f"--count=7\n--flagfile={other}\n")
    other.write_text(f"--flagfile={tmp_path}/{spelling}\n")
    arguments = ["--flagfile", str(file)] if separate else [f"--flagfile={file}"]
    with pytest.raises(ArgumentError, match="allowed: a file that does not include itself"):
        make(*arguments)


def test_files_of_flags_have_limits(tmp_path):
    for number in range(40):
        text = f"--flagfile={tmp_path / str(number + 1)}\n" * 2
        (tmp_path / str(number)).write_text(text if number < 39 else "")
    with pytest.raises(ArgumentError, match="allowed: at most 100 files in all"):
        make(f"--flagfile={tmp_path / '0'}")
    (tmp_path / "large").write_bytes(b"\n" * (2**20 + 1))
    os.mkfifo(tmp_path / "pipe")
    for name in ("large", "pipe"):
        with pytest.raises(ArgumentError, match="of at most 1048576 bytes"):
            make(f"--flagfile={tmp_path / name}")
    (tmp_path / "nul").write_bytes(b"--name=a\0b\n")
    with pytest.raises(ArgumentError, match="name: .*allowed: text in UTF-8, without NUL"):
        make(f"--flagfile={tmp_path / 'nul'}")


@pytest.mark.parametrize("argument", ["--help", "-h", "--h"])
def test_help_can_be_asked_for(argument):
    assert make(argument).values["help"].value is True
    assert make().values["help"].value is False


def test_the_help_tells_of_every_flag_once_and_alone():
    flags = every_flag()
    lines = flags.help().splitlines()
    for name in flags.values:
        if name == "h":
            continue
        starts = [
            line for line in lines if line.strip().startswith((f"--{name} ", f"--[no]{name} "))
        ]
        assert len(starts) == 1, name
        assert len(starts[0].split()) > 1 and "no help" not in starts[0], f"{name} has no text"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_fits_a_terminal_and_shows_real_defaults(command):
    text = importlib.import_module(f"tf_prac.cli.{command}").define_flags().help()
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)
    assert not re.search(r"Default:? (None|\(|\"|\.)|`", " ".join(text.split()))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_is_found_both_ways(command, capsys):
    assert main(["help", command]) == 0
    by_help = capsys.readouterr().out
    assert main([command, "--help"]) == 0
    assert by_help == capsys.readouterr().out and by_help.startswith(f"usage: tf-prac {command}")


def test_help_of_an_unknown_command_is_refused(capsys):
    assert main(["help", "searhc"]) == 2
    error = capsys.readouterr().err
    assert "unknown command 'searhc'" in error and error.endswith("Did you mean search?\n")


def test_the_list_of_commands_fits_a_terminal(capsys):
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for name, summary in COMMANDS.items():
        assert [line.split() for line in lines].count([name, *summary.split()]) == 1


@pytest.mark.parametrize(
    ("documented", "shown"),
    [
        ('Default "sgd".', "Default sgd."),
        ("Default 0.", "Default 0."),
        ("Default True.", "Default True."),
        ('Default ("conv", "dense").', "Default conv,dense."),
        ('None ("off" on the command line): never. Default None.', '"off": never. Default off.'),
        ('Default "2%", about right.', "Default 2%, about right."),
        ("Default (): the last.", "Default: the last."),
        ("Default None.", ""),
        ("Default False.", ""),
        ("Default ().", ""),
    ],
)
def test_a_documented_default_is_shown_as_on_the_command_line(documented, shown):
    options = dataclasses.make_dataclass("Options", [("value", str)])
    options.__doc__ = f"Options.\n\nArgs:\n    value: some value. {documented}\n"
    text = " ".join(make(config=options).help().split())
    assert f"--value Some value. {shown}".strip() + " Help:" in text


def test_the_help_fits_a_terminal():
    lines = every_flag().help().splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)


def test_the_help_has_groups_in_order_and_ends_with_help():
    lines = every_flag().help().splitlines()
    assert lines[0] == "usage: tf-prac search [--flags]"
    assert lines[2].startswith("Finds a ticket.")
    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Run:", "Training:", "Pruning:", "PrAC:", "Help:"]
    assert "--seed" in lines[lines.index("Run:") + 3]


def test_the_help_says_the_docstring_and_the_defaults():
    text = " ".join(make().help().split())
    assert "--count How many. Default 1. --rate" in text
    assert "--rate How fast, in units a second. Default 0.5. --name" in text
    assert '--name What it is called: "a" or "b". --[no]fast' in text
    assert "--limit Where to end; None: never. --place Where to look; None: nowhere. " in text
    assert "--most How many at most; None: any. --points Several fractions" in text
    assert "--point One of them. Help:" in text
    text = " ".join(every_flag().help().split())
    assert "--seed Of everything. Default 0." in text
    assert "--dataset Name of the data set. Default digits." in text
    assert "--output_dir Where to write. --seed" in text
    assert "--[no]progress Show bars. Default True." in text


def test_a_field_without_a_line_in_the_docstring_can_still_be_given():
    @dataclasses.dataclass
    class Bare:
        depth: int = 1

    assert make("--depth=2", config=Bare).given(Bare) == {"depth": 2}
    assert "--depth (no help available)" in " ".join(make(config=Bare).help().split())
