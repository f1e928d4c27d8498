"""The documentation: every public name and page has its place, and Sphinx has nothing to say."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest
from source_tree import ROOT

import tf_prac
from tf_prac import export

DOCS = ROOT / "docs"
DICTIONARIES = {"PRAC_VARIANTS", "PRESETS"}


def test_the_reference_has_every_public_name():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    there = {name.split(".")[-1] for name in re.findall(r"^\.\. auto\w+:: (\S+)", text, re.M)}
    public = {*tf_prac.__all__, *export.__all__} - {"__version__", "export"} - DICTIONARIES
    assert not public - there, f"docs/api.md: add {', '.join(sorted(public - there))}"
    assert all(f"`{name}`" in text for name in DICTIONARIES)


def test_every_page_is_in_the_contents():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = {p.relative_to(DOCS).with_suffix("").as_posix() for p in DOCS.rglob("*.md")}
    missing = [page for page in pages - {"index"} if f"\n{page}\n" not in index]
    assert not missing, f"docs/index.md: add {', '.join(sorted(missing))}"


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {tf_prac.__version__}\n" in citation


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="needs the extra docs")
def test_the_pages_build_without_warnings(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "api.html").stat().st_size > 100_000
