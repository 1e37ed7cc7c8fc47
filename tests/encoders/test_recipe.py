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


def test_differences_are_named():
    other = Recipe({**SETTINGS, "pooling": "cls", "new": 1})
    assert Recipe(SETTINGS).differences(other) == ["new: None → 1", "pooling: mean → cls"]


def test_fingerprint_is_of_the_bytes(home):
    (home / "weights").write_bytes(b"abc")
    expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_fingerprint(home / "weights") == expected
