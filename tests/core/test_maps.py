import json

import numpy as np
import pytest

from embcli.core.maps import (
    Edits,
    Linear,
    Map,
    NotInvertibleError,
    Residual,
    Shift,
    Transform,
    Unit,
    pack,
    unpack,
)
from embcli.errors import InputError

DIM = 6


def rotation(rng, dim=DIM):
    return np.linalg.qr(rng.normal(size=(dim, dim)))[0]


def affine(rng):
    return Transform.of(Shift(rng.normal(size=DIM)), Linear(rng.normal(size=(DIM, DIM))))


def compared(map, source, target):
    a, b = map.source.apply(source), map.target.apply(target)
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return a @ b.T


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_steps_do_what_they_say(rng):
    x = rng.normal(size=(5, DIM))
    x[2] = 0
    lengths = np.linalg.norm(Unit().apply(x), axis=1)
    assert lengths == pytest.approx([1, 1, 0, 1, 1])
    a, b, c = rng.normal(size=(DIM, 9)), rng.normal(size=9), rng.normal(size=(9, DIM))
    expected = [row + np.array([max(0, h) for h in row @ a + b]) @ c for row in x]
    assert Residual(a, b, c).apply(x) == pytest.approx(np.array(expected))
    single = x.astype(np.float32)
    whole = Transform.of(Unit(), Shift(b[:DIM]), Linear(a), Unit())
    assert whole.apply(single).dtype == np.float32
    assert whole.apply(single) == pytest.approx(whole.apply(x), abs=1e-5)
    assert whole.dims == (DIM, 9)
    assert Transform().dims is None
    assert not Transform()
    assert Transform().apply(x) is x


def test_composition_is_one_after_the_other(rng):
    x = rng.normal(size=(20, DIM))
    first, second = affine(rng), affine(rng)
    joined = first.then(second)
    assert joined.apply(x) == pytest.approx(second.apply(first.apply(x)), abs=1e-12)
    turns = Transform.of(Linear(rotation(rng))).then(Transform.of(Linear(rotation(rng))))
    assert len(turns.steps) == 1
    assert len(Transform.of(Unit()).then(Transform.of(Unit())).steps) == 1


def test_inverse_leads_back(rng):
    x = rng.normal(size=(20, DIM))
    there = affine(rng).then(affine(rng))
    assert there.inverse().apply(there.apply(x)) == pytest.approx(x, abs=1e-9)
    turn = Transform.of(Linear(rotation(rng)))
    (back,) = turn.inverse().steps
    assert np.array_equal(back.matrix, turn.steps[0].matrix.T)
    scaled = Transform.of(Unit(), Linear(rotation(rng)), Unit())
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert scaled.inverse().apply(scaled.apply(x)) == pytest.approx(units, abs=1e-12)


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (Linear(np.ones((DIM, 3))), "from 6 to 3 components"),
        (Linear(np.ones((DIM, DIM))), "singular"),
        (Residual(np.ones((DIM, 2)), np.ones(2), np.ones((2, DIM))), "hidden layer"),
    ],
)
def test_what_has_no_inverse(step, why):
    with pytest.raises(NotInvertibleError, match=why):
        Transform.of(step).inverse()
    centred = Transform.of(Shift(np.ones(DIM)), Unit(), Linear(np.eye(DIM)))
    with pytest.raises(NotInvertibleError, match="between other steps"):
        centred.inverse()


def test_maps_compose_on_either_side(rng):
    """However sides are arranged, comparing a with c is comparing them through b's space."""
    a, c = rng.normal(size=(2, 8, DIM))
    one_sided = Map(affine(rng))
    for first in (one_sided, one_sided.reversed(), Map(affine(rng), affine(rng))):
        for second in (Map(affine(rng)), Map(affine(rng)).reversed()):
            whole = first.then(second)
            if not first.target:
                expected = compared(second, first.source.apply(a), c)
            elif not second.source:
                # Both b's and c's sides lead to b's space, and on.
                expected = compared(first, a, second.target.apply(c))
            else:
                back = first.target.inverse()
                expected = compared(second, back.apply(first.source.apply(a)), c)
            assert compared(whole, a, c) == pytest.approx(expected, abs=1e-6)


def test_a_chain_breaks_where_nothing_can_be_undone(rng):
    lost = Transform.of(Linear(rng.normal(size=(DIM, 3))))
    other = Transform.of(Linear(rng.normal(size=(DIM, 3))))
    with pytest.raises(NotInvertibleError):
        Map(affine(rng), lost).then(Map(other))
    # The other side can be undone instead.
    a, c = rng.normal(size=(2, 8, DIM))
    turn = Transform.of(Linear(rotation(rng)))
    whole = Map(lost, lost).then(Map(turn))
    assert compared(whole, a, c) == pytest.approx(
        compared(Map(lost, lost), a, turn.inverse().apply(c)), abs=1e-9
    )


def test_what_both_do_in_the_middle_need_not_be_undone(rng):
    centring = Transform.of(Unit(), Shift(rng.normal(size=DIM)), Unit())
    a, c = rng.normal(size=(2, 8, DIM))
    turns = [Transform.of(Linear(rotation(rng))) for _ in range(2)]
    first = Map(centring.then(turns[0]), centring)
    second = Map(centring.then(turns[1]), affine(rng))
    whole = first.then(second)
    direct = second.source.steps[3:]
    expected = compared(Map(Transform(direct), second.target), first.source.apply(a), c)
    assert compared(whole, a, c) == pytest.approx(expected, abs=1e-12)


def test_lengths_that_were_lost_are_not_made_up(rng):
    """A shift needs them: where they are gone, there is no way, rather than a wrong one."""
    turn = Linear(rotation(rng))
    shift = Shift(rng.normal(size=DIM))
    narrow = Linear(rng.normal(size=(DIM, 3)))
    with pytest.raises(NotInvertibleError):
        Transform.of(shift, turn, Unit()).inverse()
    with pytest.raises(NotInvertibleError):
        Map(Transform.of(Unit(), turn)).then(Map(Transform.of(shift, narrow)))
    with pytest.raises(NotInvertibleError):
        Map(Transform.of(turn), Transform.of(turn, Unit())).then(Map(Transform.of(shift, narrow)))
    # Unless the other side can be led there.
    a, c = rng.normal(size=(2, 8, DIM))
    whole = Map(Transform.of(Unit(), turn)).then(Map(Transform.of(shift)))
    expected = compared(Map(Transform.of(turn)), a, c - shift.vector)
    assert compared(whole, a, c) == pytest.approx(expected, abs=1e-12)
    x = rng.normal(size=(9, DIM))
    there = Transform.of(Unit(), shift, turn)
    units = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert there.inverse().apply(there.apply(x)) == pytest.approx(units, abs=1e-12)


def test_lengths_that_squares_do_not_hold(rng):
    x = rng.normal(size=(4, DIM))
    scales = np.array([1e-25, 1e25, 1, 0])[:, None]
    scaled = Unit().apply((x * scales).astype(np.float32))
    assert np.linalg.norm(scaled, axis=1) == pytest.approx([1, 1, 1, 0], abs=1e-6)
    assert scaled[:3] == pytest.approx(Unit().apply(x[:3]), abs=1e-6)


def test_hidden_layers_are_applied_in_blocks(rng):
    x = rng.normal(size=(10_000, DIM))
    hidden = Residual(*(rng.normal(size=shape) for shape in ((DIM, 9), 9, (9, DIM))))
    chain = Transform.of(Unit(), hidden)
    expected = hidden.apply(Unit().apply(x))
    assert chain.apply(x) == pytest.approx(expected, abs=1e-12)


def test_inverse_of_a_map_is_one_sided(rng):
    a, b = rng.normal(size=(2, 8, DIM))
    map = Map(affine(rng), Transform.of(Linear(rotation(rng))))
    back = map.inverse()
    assert not back.target
    assert map.source.apply(back.source.apply(b)) == pytest.approx(map.target.apply(b), abs=1e-9)
    assert compared(map.reversed(), b, a) == pytest.approx(compared(map, a, b).T)


def test_parts_make_the_same_map_again(rng):
    hidden = Residual(np.ones((6, 2)), np.ones(2), np.ones((2, 6)))
    map = Map(affine(rng).then(Transform.of(Unit(), hidden)), Transform.of(Unit()))
    layout, arrays = pack(map)
    again = unpack(layout, arrays)
    x = rng.normal(size=(5, DIM))
    for side in ("source", "target"):
        assert np.array_equal(getattr(again, side).apply(x), getattr(map, side).apply(x))


def test_words_of_their_own_stay_and_are_replaced(rng):
    before, after = rng.normal(size=(2, 4, DIM)).astype(np.float32)
    untouched = after.copy()
    edits = Edits(("king", "he"), ("she", "king"), rng.normal(size=(2, DIM)))
    edited = edits.apply(["he", "tree", "she", "king"], before, after)
    assert edited.dtype == np.float32
    assert np.array_equal(edited[:2], [before[0], after[1]])
    assert edited[2:] == pytest.approx(edits.vectors)  # whoever is named twice is replaced
    assert np.array_equal(after, untouched)
    assert np.array_equal(edits.apply(["tree"], before[:1], after[:1]), after[:1])
    with pytest.raises(NotInvertibleError, match="single words"):
        Map(Transform(), edits=edits).inverse()
    with pytest.raises(NotInvertibleError, match="single words"):
        Map(Transform()).then(Map(Transform(), edits=edits))


@pytest.mark.parametrize("scaled", [True, False])
def test_what_a_map_does_besides_is_kept_with_it(rng, scaled):
    edits = Edits(("he", "him"), ("she",), rng.normal(size=(1, DIM)).astype(np.float32))
    single = Transform.of(Shift(rng.normal(size=DIM).astype(np.float32)))
    layout, arrays = pack(Map(single, Transform(), edits, scaled))
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float64)}
    again = unpack(json.loads(json.dumps(layout)), arrays)
    assert (again.scaled, again.edits.kept, again.edits.replaced) == (
        scaled,
        ("he", "him"),
        ("she",),
    )
    assert np.array_equal(again.edits.vectors, edits.vectors)
    # Fields that would say what all maps are anyway are left out: hashes stay what they were.
    assert pack(Map(single))[0].keys() == {"source", "target"}
    assert unpack(*pack(Map(single))).scaled is True
    assert unpack(*pack(Map(single))).edits is None
    for broken in (np.ones((2, DIM)), np.ones(DIM), np.full((1, DIM), np.inf)):
        with pytest.raises(InputError, match=r"replaces 1 words|not finite"):
            unpack(layout, arrays | {"edits": broken})
    with pytest.raises(InputError, match="no map"):
        unpack(layout | {"edits": {"kept": []}}, arrays)


def test_rounded_to_float32_it_does_the_same(rng):
    hidden = Residual(*(rng.normal(size=shape) for shape in ((DIM, 2), 2, (2, DIM))))
    whole = Transform.of(Unit(), *affine(rng).steps, hidden)
    single = whole.rounded()
    arrays = [vars(step).values() for step in single.steps]
    assert {array.dtype for some in arrays for array in some} == {np.dtype(np.float32)}
    x = rng.normal(size=(7, DIM)).astype(np.float32)
    for step in (*whole.steps, *single.steps):
        assert step.apply(x).dtype == np.float32
    assert single.apply(x) == pytest.approx(whole.apply(x.astype(np.float64)), abs=1e-4)


@pytest.mark.parametrize("unit", [False, True])
def test_what_a_projection_leaves_nothing_of_has_vanished(rng, unit):
    line = rng.normal(size=DIM)
    line /= np.linalg.norm(line)
    away = Linear(np.eye(DIM) - np.outer(line, line))
    steps = (Unit(), away) if unit else (away,)
    x = rng.normal(size=(5, DIM))
    x[1], x[2], x[3] = 1e4 * line, 0, 1e-4 * line
    x = x.astype(np.float32)
    for size in (1, 1000):  # of vectors that are not scaled, it is a share of their length
        before = x * np.float32(size)
        transform = Transform(steps)
        after = transform.apply(before)
        assert transform.vanished(before, after).tolist() == [False, True, True, True, False]
    shifted = Transform.of(Shift(np.ones(DIM)))
    assert shifted.vanished(x, shifted.apply(x)).tolist() == [False, False, True, False, False]


def test_the_source_does_what_the_target_need_not(rng):
    a, c = rng.normal(size=(2, 8, DIM))
    turn, other = Linear(rotation(rng)), Linear(rotation(rng))
    narrow = Linear(rotation(rng)[:, :3])
    shift = Shift(rng.normal(size=DIM))
    for target, left in (
        ((turn,), 0),
        ((turn, Unit(), other, Unit()), 0),
        ((shift, Unit(), turn), 1),
        ((shift, turn), 1),
        ((Unit(), turn, narrow), 3),
        ((turn, Linear(rng.normal(size=(DIM, DIM)))), 2),
    ):
        map = Map(Transform.of(Linear(rng.normal(size=(DIM, DIM)))), Transform(target))
        if narrow in target:
            map = Map(map.source.then(Transform.of(narrow)), map.target)
        simpler = map.on_source()
        assert len(simpler.target.steps) == left
        assert compared(simpler, a, c) == pytest.approx(compared(map, a, c), abs=1e-9)


def test_sides_that_are_treated_alike(rng):
    step = Linear(rng.normal(size=(DIM, DIM)))
    same = Transform.of(Unit(), Linear(step.matrix.copy()))
    assert Map(Transform.of(Unit(), step), same).treats_alike
    assert not Map(Transform.of(Unit(), step)).treats_alike
    assert not Map(Transform.of(step, Unit()), same).treats_alike


def test_nearly_a_rotation_is_not_inverted_as_one(rng):
    """Off by no more than 1e-10, its transpose would still be a wrong inverse."""
    turn = Linear(rotation(rng) + 1e-10 * rng.normal(size=(DIM, DIM)))
    x = 100 * rng.normal(size=(5, DIM))
    back = Transform.of(turn).inverse()
    assert back.apply(turn.apply(x)) == pytest.approx(x, abs=1e-11)


def test_shifts_become_one(rng):
    first, second = (Shift(row) for row in rng.normal(size=(2, DIM)))
    whole = Transform.of(Linear(np.eye(DIM)), Unit(), first).then(Transform.of(second))
    x = rng.normal(size=(5, DIM))
    assert [step.name for step in whole.steps] == ["linear", "unit", "shift"]
    assert whole.apply(x) == pytest.approx(second.apply(first.apply(Unit().apply(x))), abs=1e-12)


def test_lengths_lost_in_the_middle(rng):
    """Vectors were scaled on the way: how long those of the next space are is not known."""
    turn, more = Linear(rotation(rng)), Linear(rotation(rng))
    shift, narrow = Shift(rng.normal(size=DIM)), Linear(rng.normal(size=(DIM, 3)))
    for side in ((turn, Unit(), more), (Unit(), shift, turn)):
        with pytest.raises(NotInvertibleError):
            Map(Transform(side)).then(Map(Transform.of(shift, narrow)))


def test_steps_fit_if_what_comes_out_goes_in(rng):
    wide, narrow = Linear(rng.normal(size=(3, DIM))), Linear(rng.normal(size=(DIM, 3)))
    hidden = Residual(np.ones((3, 5)), np.ones(5), np.ones((5, 3)))
    chain = Transform.of(narrow, Shift(np.ones(3)), hidden, Unit(), wide, Shift(np.ones(DIM)))
    layout, arrays = pack(Map(chain, Transform.of(Unit())))
    again = unpack(layout, arrays)
    assert (again.source.dims, again.target.dims) == ((DIM, DIM), None)
    with pytest.raises(InputError, match="do not fit: 6 and 3"):
        unpack(*pack(Map(Transform.of(wide, hidden))))
    for key, array in (("bias", np.ones(4)), ("outer", np.ones((5, 4)))):
        with pytest.raises(InputError, match="shapes"):
            unpack(layout, arrays | {f"source.2.{key}": array})


def test_what_is_no_map_is_refused(rng):
    layout, arrays = pack(Map(affine(rng)))
    for key in arrays:
        with pytest.raises(InputError, match="no map"):
            unpack(layout, {name: array for name, array in arrays.items() if name != key})
        with pytest.raises(InputError, match="not finite"):
            unpack(layout, arrays | {key: arrays[key] * np.nan})
        with pytest.raises(InputError, match="shapes"):
            unpack(layout, arrays | {key: arrays[key][None]})
    with pytest.raises(InputError, match="do not fit"):
        unpack(layout, arrays | {"source.0.vector": np.ones(5)})
    with pytest.raises(InputError, match="no map"):
        unpack({"source": [{"step": "magic"}], "target": []}, {})
    with pytest.raises(InputError, match="no map"):
        unpack({"source": []}, {})
