"""Makes the files of this directory: `python tests/saved_by_0_1/make.py DIRECTORY`.

They were made with commit 9ab3a7f, before modules moved and file formats got their present writers.
Figures and locks are left out, and each directory is one archive.
"""

import contextlib
import pathlib
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import test_saved_by_0_1 as saved

from tf_prac import Comparison, TicketSearch, export, prune, strip
from tf_prac.training.checkpoint import Checkpoints, SavedState


def main(out: pathlib.Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for flavor in ("keras", "tf_keras"):
        directory = pathlib.Path(tempfile.mkdtemp()) / "run"
        search = TicketSearch(
            saved.make_model(flavor),
            saved.RECIPE,
            saved.PRUNING,
            directory=directory,
            retrain=(3,),
            verbose=False,
        )
        result = search.run(saved.TRAIN, test=saved.TEST)
        pack(directory, out / f"search_{flavor}.zip")
        model = prune(saved.make_model(flavor)(), ticket=result.tickets[-1])
        model.compile("sgd", "mse")
        model.save(out / f"pruned_{flavor}.keras")
        if flavor == "keras":
            export.saved_model(strip(model), directory.parent / "export")
            pack(directory.parent / "export", out / "export.zip")
    with mock.patch.object(Checkpoints, "save", interrupting(saved.INTERRUPTED)):
        directory = pathlib.Path(tempfile.mkdtemp()) / "run"
        with contextlib.suppress(KeyboardInterrupt):
            saved.frequent_search(directory).run(saved.TRAIN, test=saved.TEST)
    pack(directory, out / "interrupted.zip")
    directory = pathlib.Path(tempfile.mkdtemp()) / "comparison"
    Comparison(*saved.COMPARED, directory=directory, seeds=(0,), verbose=False).run(
        saved.TRAIN, test=saved.TEST
    )
    pack(directory, out / "comparison.zip")


def interrupting(step: int) -> Callable[[Checkpoints, SavedState], None]:
    """Returns a `Checkpoints.save` after which round 1 is interrupted at a step."""
    save = Checkpoints.save

    def save_and_interrupt(self: Checkpoints, state: SavedState) -> None:
        save(self, state)
        if self.path.parent.name == "round_01" and state.step == step:
            raise KeyboardInterrupt

    return save_and_interrupt


def pack(directory: pathlib.Path, archive: pathlib.Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(p for p in directory.rglob("*") if p.is_file()):
            if path.suffix not in (".png", ".svg") and path.name != ".lock":
                file.write(path, path.relative_to(directory))
    shutil.rmtree(directory)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
