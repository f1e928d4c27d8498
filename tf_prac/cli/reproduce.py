"""`tf-prac reproduce`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_prac.checks import check_choice
from tf_prac.cli.arguments import define_device_flag, refuse_positional
from tf_prac.cli.flags import Flags
from tf_prac.cli.output import define_json_flag, print_json
from tf_prac.cli.quiet import load_tensorflow
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS
from tf_prac.registry import PAPERS, item_names
from tf_prac.storage.names import check_name
from tf_prac.tables import wrapped

SCALES = ("paper", "small")


def define_flags() -> Flags:
    """Defines the flags of the command."""
    flags = Flags(
        "reproduce --paper=PAPER --item=ITEM [--flags]",
        "Runs what one figure or table of a paper needs, and writes its table and figure next to "
        "the published numbers, with a verdict by a stated test. Without --item it lists the items "
        "of the paper and the training steps that each takes. Run the same command again to "
        "resume; items of one paper share their runs.",
    )
    flags.group("Reproduction")
    flags.string("paper", "prac", f"Paper, one of {', '.join(PAPERS)}.")
    flags.string("item", None, "Figure or table, such as table_a3. Default: list them.")
    flags.string(
        "scale",
        "small",
        "paper (its networks, data and schedule, three seeds: days on a GPU) or small (minutes on "
        "a CPU; only qualitative statements are judged).",
    )
    flags.boolean("list", False, "List the items of the paper and their steps; run nothing.")
    flags.path(
        "data_dir", None, "Directory of the data sets. Default: that of TensorFlow Datasets."
    )
    flags.string("keras", "keras", f"Flavor of Keras, one of {', '.join(FLAVORS)}.")
    flags.path("output_dir", None, "Output directory. Default: reproductions/PAPER_SCALE_KERAS.")
    define_device_flag(flags)
    define_json_flag(flags)
    return flags


def main(flags: Flags, positional: list[str]) -> int:
    """Lists the items of a paper, or runs one."""
    refuse_positional(positional)
    names = item_names(flags.paper)
    check_choice("scale", flags.scale, SCALES)
    check_choice("keras", flags.keras, FLAVORS)
    if flags.item is not None and flags.item not in names:
        raise ArgumentError("item", flags.item, f"one of {', '.join(names)}")

    load_tensorflow(flags.keras, device=flags.device, quiet=flags.quiet)
    from tf_prac.analysis.reproduce.item import get_item
    from tf_prac.analysis.reproduce.run import reproduce

    if flags.item is None or flags.list:
        return _list(flags, names if flags.item is None else [flags.item])
    item = get_item(flags.paper, flags.item)
    directory = flags.output_dir or f"reproductions/{flags.paper}_{flags.scale}_{flags.keras}"
    check_name(directory)
    if not (flags.quiet or flags.json):
        print(wrapped(f"{item.title}: {item.count(flags.scale).text} steps"))
    result = reproduce(
        item,
        flags.scale,
        directory,
        keras=flags.keras,
        data_dir=flags.data_dir,
        verbose=not (flags.quiet or flags.json),
    )
    path = f"{directory}/{item.name}"
    if flags.json:
        print_json("reproduce", {"directory": path, **result})
        return 0
    print(f"\n{_checks_text(result)}\n")
    print(f"verdict  {result['verdict']}")
    written = ", ".join([*result["files"], "verdict.json"])
    print(wrapped(f"results  {written} in {path}", indent=9))
    return 0


def _list(flags: Flags, names: list[str]) -> int:
    """Prints the items with the steps and samples that each scale takes."""
    from tf_prac.analysis.reproduce.item import get_item

    items = []
    for name in names:
        item = get_item(flags.paper, name)
        counts = {scale: item.count(scale) for scale in SCALES}
        items.append((item, counts))
    if flags.json:
        entries = [
            {
                "item": item.name,
                "title": item.title,
                "source": item.source,
                "scales": {
                    scale: {"steps": c.steps, "samples": c.samples, "at_most": c.at_most}
                    for scale, c in counts.items()
                },
            }
            for item, counts in items
        ]
        print_json("reproduce", {"paper": flags.paper, "items": entries})
        return 0
    indent = 2 + max(len(item.name) for item, _ in items)
    for item, counts in items:
        steps = ", ".join(f"{_bound(counts[scale])} ({scale})" for scale in SCALES)
        print(wrapped(f"{item.name:<{indent}}{item.title}", indent=indent))
        print(f"{' ' * indent}steps: {steps}")
    print("\n≤: a bound; an early stop or the size of a set decides.")
    return 0


def _bound(count: Any) -> str:
    return f"{'≤ ' if count.at_most else ''}{count.steps:,}"


def _checks_text(result: Mapping[str, Any]) -> str:
    return "\n".join(
        wrapped(f"{check['status']:<12} {check['statement']}: {_measured(check)}")
        for check in result["checks"]
    )


def _measured(check: Mapping[str, Any]) -> str:
    measured, published = _text(check["measured"]), check["published"]
    return measured if published is None else f"{measured}, paper {_text(published)}"


def _text(value: Any) -> str:
    """Returns a number or text, such as "79.03%"; "none" if there is no result."""
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 0.1 else f"{value:.2g}"
    return f"{value:,}" if isinstance(value, int) else str("none" if value is None else value)
