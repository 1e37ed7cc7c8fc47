import pytest

from embcli.core.clustering.agreement import agreement
from embcli.core.clustering.evoc import evoc
from embcli.core.optional import require
from embcli.errors import InputError, ModelError, UsageError


@pytest.mark.ci
def test_layers_are_clusterings_of_several_sizes(caps):
    vectors, classes = caps((150, 100, 50), dim=20, width=0.12)
    found = evoc(vectors)
    inside = found.labels >= 0
    assert inside.mean() > 0.4
    assert agreement(found.labels[inside], classes[inside]).purity > 0.98
    assert found.count in found.details["layers"]
    counts = [found.count, *(level.max() + 1 for level in found.levels)]
    assert counts == sorted(counts, reverse=True)
    assert (found.strengths[found.labels < 0] == 0).all()
    assert 0 <= found.strengths.min() < found.strengths.max() <= 1
    assert evoc(vectors).labels.tolist() == found.labels.tolist()


def test_what_cannot_be_clustered_is_refused(caps):
    vectors, _ = caps()
    with pytest.raises(InputError, match="at least 60"):
        evoc(vectors[:59])
    with pytest.raises(UsageError):
        evoc(vectors, min_size=1)


def test_a_package_that_is_missing_is_named_with_what_installs_it(monkeypatch, caps):
    monkeypatch.setattr(
        "embcli.core.optional.find_spec", lambda name: None if name == "evoc" else name
    )
    with pytest.raises(ModelError, match="EVōC") as caught:
        evoc(caps()[0])
    assert caught.value.hint == "pip install 'embcli[evoc]'"
    require("sklearn", "k-means")
