"""A deterministic sample of `mutations.py`; its command tries as many as it is told to."""

from __future__ import annotations

import pytest
from mutations import BAD, Corpus, mutate, show

from tf_prac.keras_api import FLAVORS


@pytest.mark.slow
@pytest.mark.parametrize("flavor", FLAVORS)
def test_every_kind_of_file_is_refused_or_harmless(flavor, tmp_path, capsys):
    table, wrong = mutate(Corpus(tmp_path, flavor), count=120)
    with capsys.disabled():
        print(f"\n{show(table)}")
    assert not wrong, "\n".join(wrong)
    assert sum(counts["mutations"] for counts in table.values()) == 120
    assert len(table) >= 20 and not any(counts[name] for counts in table.values() for name in BAD)
