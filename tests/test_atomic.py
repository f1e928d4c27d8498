"""Temporaries, locks and renames: what a fault at each file operation leaves behind."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import itertools
import json
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
from file_faults import FAULTS, FileFaults

from tf_prac.errors import FileError
from tf_prac.storage import atomic
from tf_prac.storage.atomic import (
    atomic_directory,
    atomic_path,
    atomic_write,
    clean,
    is_temporary,
    remove_directory,
    restore,
    scratch_directory,
)
from tf_prac.storage.files import read_json, read_npz, write_json, write_npz
from tf_prac.storage.lock import locked

OLD, NEW = {"value": 1}, {"value": 2}
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module", autouse=True)
def frozen():
    """Keeps the garbage collector of the forked processes from copying all objects."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


# Locks

WITHOUT_LOCKS = ("EINVAL", "EPERM", "ENOLCK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP")
FAILING = ("EIO", "ESTALE", "EINTR", "ENOMEM")
TAKEN = ("EAGAIN", "EWOULDBLOCK", "EACCES")


@pytest.fixture
def flock(monkeypatch):
    """Makes `flock` answer with an error."""

    def answer(name):
        def refused(*_):
            number = getattr(errno, name)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", refused)

    return answer


@pytest.mark.parametrize("name", WITHOUT_LOCKS)
def test_a_file_system_without_locks_is_used_after_a_warning(name, flock, tmp_path):
    flock(name)
    warning = r"\.lock: this file system has no locks, so two processes"
    with pytest.warns(UserWarning, match=warning), locked(tmp_path / "run" / ".lock", "busy"):
        assert (tmp_path / "run" / ".lock").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("name", FAILING)
def test_a_lock_that_fails_is_an_error_that_names_the_file(name, flock, tmp_path):
    flock(name)
    reason = os.strerror(getattr(errno, name))
    message = rf"\.lock: cannot be locked: {reason}\. Use another file system"
    with pytest.raises(FileError, match=message), locked(tmp_path / ".lock", "busy"):
        pytest.fail("locked")


@pytest.mark.parametrize("name", TAKEN)
def test_a_lock_of_another_process_is_an_error_that_names_it(name, flock, tmp_path):
    (tmp_path / ".lock").write_text("4711\n")
    flock(name)
    message = r"^RUN is used \(process 4711\)\. Wait for it, or end it"
    with pytest.raises(FileError, match=message), locked(tmp_path / ".lock", "RUN is used"):
        pytest.fail("locked")


@pytest.mark.parametrize("name", WITHOUT_LOCKS)
def test_without_locks_temporaries_of_ended_processes_are_removed(name, flock, tmp_path):
    ended = FORK.Process(target=int)
    ended.start()
    ended.join()
    left = tmp_path / f".a.json.{ended.pid}.0123abcd.tmp"
    used = tmp_path / f".a.json.{os.getpid()}.0123abcd.tmp"
    left.touch()
    used.touch()
    flock(name)
    clean(tmp_path)
    assert list(tmp_path.iterdir()) == [used]


def test_the_warning_is_one_line_of_the_command(tmp_path):
    """On the command line, where nothing formats warnings otherwise."""
    script = (
        "import fcntl, errno\n"
        "def flock(*_): raise OSError(errno.EINVAL, 'Invalid argument')\n"
        "fcntl.flock = flock\n"
        "from tf_prac.cli import main\n"
        "import tf_prac.storage.atomic as atomic\n"
        "def info(arguments):\n"
        "    with atomic.exclusive('out', 'busy'): return 0\n"
        "main.main = info\n"
        "main.run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "info"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent.parent)},
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("tf-prac: warning: out/.lock: this file system has no locks")


# Temporaries


NAMES = {
    ".round.json.12.0123abcd.tmp": True,
    ".round.json.12.tmp": True,  # of tf_prac 0.1, as the next three
    ".step_000000003.12.removed.tmp": True,
    ".served.12.old": True,
    ".model.tmp.keras": True,
    ".served.12.0123abcd.old": True,
    "round.json": False,
    ".lock": False,
    ".notes.tmp": False,
    ".12.tmp": False,
    "a.12.tmp": False,
    ".a.12.0123abcd.tmp.json": False,
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_temporaries(name):
    assert is_temporary(name) == NAMES[name]


@contextlib.contextmanager
def ended_while(action):
    """Runs a generator function in a process until its first `yield`, then kills it."""
    ready, child_ready = FORK.Pipe()

    def target():
        for _ in action():
            child_ready.send(None)
            signal.pause()

    process = FORK.Process(target=target)
    process.start()
    assert ready.poll(30), "the other process did not get there"
    try:
        yield process
    finally:
        process.kill()
        process.join()


WRITERS = {
    "file": lambda path: atomic_write(path),
    "path": lambda path: atomic_path(path),
    "directory": lambda path: atomic_directory(path, replace=True),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_temporaries_in_use_are_kept_and_those_of_killed_processes_removed(writer, tmp_path):
    def write():
        with WRITERS[writer](tmp_path / "a"):
            yield

    with ended_while(write):
        (temporary,) = tmp_path.iterdir()
        clean(tmp_path)
        assert list(tmp_path.iterdir()) == [temporary]
    clean(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("writer", WRITERS)
def test_the_next_writer_of_a_name_removes_its_temporaries(writer, tmp_path):
    def write(name):
        with WRITERS[writer](tmp_path / name):
            yield

    with ended_while(lambda: write("a")), ended_while(lambda: write("a.b")):
        pass
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_write(tmp_path / "a") as file:
        file.write(b"new")
    (kept,) = [path.name for path in tmp_path.iterdir() if path.name != "a"]
    assert kept.startswith(".a.b."), "a temporary for another name is not touched"


def test_scratch_directories_of_killed_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def use():
        with scratch_directory() as path:
            (path / "file").touch()
            yield

    with ended_while(use), scratch_directory() as mine:
        assert mine.stat().st_mode & 0o777 == 0o700
        assert len(list(tmp_path.iterdir())) == 2
    with scratch_directory() as mine:
        assert list(tmp_path.iterdir()) == [mine]
    assert list(tmp_path.iterdir()) == []


def test_links_with_names_of_temporaries_are_removed_and_not_followed(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    no_process = 2**31 - 1  # a link has no lock: whether its process exists decides
    link = tmp_path / "run" / f".a.{no_process}.0123abcd.tmp"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "kept")
    clean(tmp_path / "run")
    assert not link.is_symlink() and (tmp_path / "kept" / "file").exists()


# Replacing a directory


@pytest.fixture(params=["exchange", "two renames"])
def renames(request, monkeypatch):
    """Directories are exchanged in one operation, or by two renames."""
    if request.param == "two renames":
        monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    return request.param


def write_directory(path, value):
    with atomic_directory(path, replace=True) as new:
        (new / "below").mkdir()
        write_json(new / "below" / "a.json", "a", value)


def test_a_directory_is_replaced_and_nothing_else_is_left(renames, tmp_path):
    write_directory(tmp_path / "o", OLD)
    write_directory(tmp_path / "o", NEW)
    assert read_json(tmp_path / "o" / "below" / "a.json", "a") == NEW
    assert [p.name for p in tmp_path.iterdir()] == ["o"]


def test_a_directory_that_appears_in_the_meantime_is_kept(tmp_path):
    message = "o: exists, another process has written it"
    with pytest.raises(FileError, match=message), atomic_directory(tmp_path / "o"):
        (tmp_path / "o").mkdir()
        (tmp_path / "o" / "file").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["o"]


def test_a_second_process_that_writes_a_directory_is_refused(tmp_path):
    def write():
        with atomic_directory(tmp_path / "o"):
            yield

    with ended_while(write) as process:
        message = rf"o: another process writes it \(process {process.pid}"
        with pytest.raises(FileError, match=message):
            write_directory(tmp_path / "o", NEW)
    write_directory(tmp_path / "o", NEW)
    assert [p.name for p in tmp_path.iterdir()] == ["o"]


def test_a_replacement_that_was_interrupted_by_0_1_is_undone(tmp_path):
    write_directory(tmp_path / ".o.4711.old", OLD)
    restore(tmp_path / "o")
    assert read_json(tmp_path / "o" / "below" / "a.json", "a") == OLD


# Every fault at every operation


def write_file(path, value):
    write_json(path, "a", value)


def write_arrays(path, value):
    write_npz(path, "a", {name: np.array(v) for name, v in value.items()})


def write_by_library(path, value):
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value))


def read_directory(path):
    restore(path)
    return read_json(path / "below" / "a.json", "a")


KINDS = {
    "json": (write_file, lambda path: read_json(path, "a")),
    "npz": (write_arrays, lambda path: {n: int(v) for n, v in read_npz(path, "a").items()}),
    "library": (write_by_library, lambda path: json.loads(path.read_text())),
    "directory": (write_directory, read_directory),
}


def disturbed(directory, write, point=None, fault="kill"):
    """Writes in a process that a fault may kill; returns its status, points and error."""
    parent, child = FORK.Pipe(duplex=False)

    def target():
        faults = FileFaults([directory, directory.parent / "scratch"], point, *FAULTS[fault])
        error = None
        with faults.injected():
            try:
                write(directory / "below" / "a")
            except FileError as caught:
                error = str(caught)
        child.send((len(faults.points), error))

    process = FORK.Process(target=target)
    process.start()
    child.close()
    try:
        points, error = parent.recv()
    except EOFError:
        points, error = 0, None
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), f"point {point}: a traceback"
    return process.exitcode, points, error


QUICK = {"kill", "EIO", "power_failure"}


def is_quick(fault, _, again, exchanged):
    return again and fault in (QUICK if exchanged else {"kill"})


CASES = [
    pytest.param(*case, marks=[] if is_quick(*case) else pytest.mark.slow)
    for case in itertools.product(FAULTS, KINDS, (True, False), (True, False))
    if case[0] != "hold"  # it waits for another process
    if case[3] or (case[1] == "directory" and case[2])
]


@pytest.mark.parametrize(("fault", "kind", "again", "exchanged"), CASES)
def test_a_fault_leaves_the_old_or_the_new_content(
    fault, kind, again, exchanged, tmp_path, monkeypatch
):
    """And the next writing leaves the new content, and nothing else."""
    write, read = KINDS[kind]
    if not exchanged:
        monkeypatch.setattr(atomic, "exchange", lambda one, other: False)
    (tmp_path / "scratch").mkdir()

    def new_directory(name):
        directory = tmp_path / name
        directory.mkdir()
        if again:
            write(directory / "below" / "a", OLD)
        return directory

    _, points, _ = disturbed(new_directory("undisturbed"), lambda path: write(path, NEW))
    assert points >= 10
    for point in range(points):
        directory = new_directory(str(point))
        path = directory / "below" / "a"
        status, _, error = disturbed(directory, lambda path: write(path, NEW), point, fault)
        restore(path)
        content = read(path) if path.exists() else None
        if status or error:
            assert content in (NEW, OLD if again else None), f"point {point}"
        else:
            assert content == NEW, f"point {point}"
        assert error is None or str(directory) in error and error.endswith("."), error
        write(path, NEW)
        assert read(path) == NEW
        assert [p.name for p in path.parent.iterdir()] == ["a"], f"point {point}"


@pytest.mark.parametrize("fault", ["kill", "EIO", "read_only"])
def test_removing_a_directory_leaves_all_of_it_or_nothing(fault, tmp_path):
    (tmp_path / "scratch").mkdir()
    for point in range(12):
        directory = tmp_path / str(point)
        path = directory / "below" / "a"
        write_directory(path, OLD)
        disturbed(directory, remove_directory, point, fault)
        assert not path.exists() or read_directory(path) == OLD
        clean(directory, below=True)
        assert [p.name for p in path.parent.iterdir()] in ([], ["a"])


def test_an_error_in_a_scratch_directory_names_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    message = r"missing/a: cannot be written: No such file"
    with pytest.raises(FileError, match=message), scratch_directory() as scratch:
        (scratch / "missing" / "a").touch()
    with pytest.raises(FileNotFoundError), scratch_directory():
        (tmp_path / "elsewhere" / "a").touch()
    assert list(tmp_path.iterdir()) == []
