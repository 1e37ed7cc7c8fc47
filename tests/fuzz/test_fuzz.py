"""Damaged files of every kind, some hundred of each; and, with ``-m long``, a million."""

import os
from contextlib import nullcontext, suppress
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from embcli.errors import EmbcliError
from embcli.store.where import compile_where
from tests.fuzz.campaign import MILLION, campaign, report, shares
from tests.fuzz.targets import damaged, targets

TARGETS = targets()
# These take milliseconds each.
SLOW = (
    "store", "store: a value", "map: its description", "vectors: embcli", "patterns",
    "parts: manifest", "parts: report", "parts: parquet",
)  # fmt: skip
PACKAGES = {
    "parquet": "pyarrow",
    "parts": "pyarrow",
    "arrow": "pyarrow",
    "hdf5": "h5py",
    "image": "PIL",
}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """The undamaged files of a target, made once."""
    made = {}

    def seeds(name):
        for part, package in PACKAGES.items():
            if part in name:
                pytest.importorskip(package)
        if name not in made:
            made[name] = TARGETS[name].seeds(tmp_path_factory.mktemp("seeds"))
        return made[name]

    return seeds


@pytest.mark.parametrize("name", TARGETS)
def test_undamaged_files_are_read(name, seeds, home):
    if "fastText" in name or TARGETS[name].wrap is not None:
        pytest.skip("not a file as it is, or of a kind that is refused")
    for data in seeds(name):
        # What cannot be told from its content alone has to be named.
        with suppress(EmbcliError) if "found out" in name else nullcontext():
            TARGETS[name].run(data, home)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused(name, seeds, home):
    """Whatever is not an `EmbcliError` fails, a warning too."""
    target, files = TARGETS[name], seeds(name)

    @settings(
        max_examples=15 if name in SLOW else 40,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**64 - 1))
    def check(seed):
        with suppress(EmbcliError):
            target.run(damaged(target, Random(seed), files), home)

    check()


@given(text=st.text(max_size=60))
@settings(max_examples=300, derandomize=True, database=None, deadline=None)
def test_filters_are_compiled_or_refused_and_values_are_bound(text):
    try:
        sql, parameters = compile_where(text)
    except EmbcliError:
        return
    assert sql.count("?") == len(parameters)


@pytest.mark.long
@pytest.mark.parametrize("name", TARGETS)
def test_campaign(name, seeds):
    """A million cases over all targets; EMBCLI_FUZZ_FIRST gives others than last time."""
    cases = shares(list(TARGETS), MILLION)[name]
    found = campaign(name, cases, int(os.environ.get("EMBCLI_FUZZ_FIRST", "0")))
    print(report([found]).splitlines()[2])
    assert not found.failures
    assert found.cases == cases
