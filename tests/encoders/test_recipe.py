import pytest

from embcli.encoders.recipe import Recipe, file_fingerprint

SETTINGS = {"model": "m", "dim": 3, "normalized": True, "pooling": "mean"}


def test_identity_ignores_the_order_of_keys():
    assert Recipe(SETTINGS).hash == Recipe(dict(reversed(SETTINGS.items()))).hash


def test_identity_changes_with_every_setting():
    others = [{**SETTINGS, key: "other"} for key in SETTINGS] + [{**SETTINGS, "new": None}]
    hashes = {Recipe(settings).hash for settings in (SETTINGS, *others)}
    assert len(hashes) == len(others) + 1


def test_round_trip():
    recipe = Recipe.from_json(Recipe(SETTINGS).json)
    assert recipe == Recipe(SETTINGS)
    assert (recipe.model, recipe.dim, recipe.normalized) == ("m", 3, True)


@pytest.mark.parametrize(
    "change",
    [
        {"model": None}, {"model": 5}, {"model": "\ud800"}, {"dim": 0}, {"dim": "3"}, {"dim": True},
        {"dim": 3.0}, {"normalized": 1}, {"base": 5}, {"base": {"model": "m"}},
        {"base": SETTINGS | {"base": []}},
    ],
)  # fmt: skip
def test_what_is_no_recipe_is_refused(change):
    assert Recipe.checked(SETTINGS | {"base": SETTINGS}).root == Recipe(SETTINGS)
    with pytest.raises(ValueError, match=r"no |surrogates"):
        Recipe.checked(SETTINGS | change)
    with pytest.raises(ValueError, match="no JSON object"):
        Recipe.checked([SETTINGS])


def test_differences_are_named():
    other = Recipe({**SETTINGS, "pooling": "cls", "new": 1})
    assert Recipe(SETTINGS).differences(other) == ["new: None → 1", "pooling: mean → cls"]


def test_fingerprint_is_of_the_bytes(home):
    (home / "weights").write_bytes(b"abc")
    expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_fingerprint(home / "weights") == expected
