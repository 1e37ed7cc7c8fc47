import numpy as np
import pytest

from embcli.core.maps import (
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
