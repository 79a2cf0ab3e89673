"""The supports of the layers: where they are, which slot carries them, what is crossed without a hit."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from recon.tracking import supports as sup
from recon.tracking.detector import load_detector
from recon.tracking.helix import Helix
from recon.tracking.trajectory import Crossings, Planes


def straight(*cot_theta: float) -> Helix:
    """Straight tracks from the origin along x."""
    zero = jnp.zeros(len(cot_theta))
    return Helix(zero, zero, zero, jnp.array(cot_theta), zero + 1e-9)


def hits_along_x(
    arcs: list[list[float]],
    z: list[list[float]],
    supports: list[float],
    layers: list[list[float]],
    disc: bool,
) -> tuple[Planes, Crossings]:
    """Hits of tracks along x on sensors across it (or across z), whose supports all have the same bounds."""
    arc, height = jnp.array(arcs), jnp.array(z)
    zero, one = jnp.zeros_like(arc), jnp.ones_like(arc)
    normal = [zero, zero, one] if disc else [one, zero, zero]
    planes = Planes(
        *(jnp.zeros((3, *arc.shape)),) * 2,
        w=jnp.stack(normal),
        center=jnp.zeros((3, *arc.shape)),
        local=jnp.zeros((2, *arc.shape)),
        weight=jnp.ones((2, *arc.shape)),
        thickness=one,
        support=jnp.array(supports)[:, None, None] * one,
        layer=jnp.array(layers),
        mask=jnp.ones(arc.shape, bool),
    )
    crossings = Crossings(
        arc,
        jnp.zeros((arc.shape[0], 2, arc.shape[1])),
        jnp.zeros((arc.shape[0], 2, 2, arc.shape[1])),
        one,
        jnp.stack([arc, zero, height]),
        jnp.stack([one, zero]),
    )
    return planes, crossings


@pytest.mark.parametrize(
    ("radius", "carries"),
    [(11.0, [True, False]), (15.0, [False, True]), (7.0, [True, False])],
    ids=["between", "behind both", "in front of both"],
)
def test_one_of_two_overlapping_sensors_carries_the_support(radius: float, carries: list[bool]) -> None:
    arcs, layers = [[10.0], [12.0]], [[1.0], [1.0]]
    planes, crossings = hits_along_x(arcs, [[0.0], [0.0]], [radius, -9.0, 9.0], layers, disc=False)
    found = sup.cross_supports(straight(0.0), planes, crossings)
    np.testing.assert_array_equal(found.carries[:, 0], carries)
    np.testing.assert_allclose(found.shift, [[radius - 10], [radius - 12]])
    alone = sup.cross_supports(straight(0.0), planes._replace(layer=jnp.array([[1.0], [2.0]])), crossings)
    assert alone.carries.all()


def test_a_track_can_leave_a_cylinder_before_its_support() -> None:
    """Slope 2: 3 mm further out the track is 6 mm further along z, which is behind the end at 25 mm for one."""
    arcs, layers = [[10.0, 12.0]], [[1.0, 1.0]]
    planes, crossings = hits_along_x(arcs, [[18.0, 20.0]], [13.0, -25.0, 25.0], layers, disc=False)
    found = sup.cross_supports(straight(2.0, 2.0), planes, crossings)
    np.testing.assert_array_equal(found.carries, [[True, True]])
    shorter = planes._replace(support=planes.support.at[2].set(23.0))
    found = sup.cross_supports(straight(2.0, 2.0), shorter, crossings)
    np.testing.assert_array_equal(found.carries, [[False, True]])
    np.testing.assert_allclose(found.stretch, np.full((1, 2), np.sqrt(5)), rtol=1e-6)


def test_discs_have_two_edges() -> None:
    arcs, layers = [[10.0, 30.0, 50.0]], [[1.0] * 3]
    heights = [[20.0, 60.0, 100.0]]
    planes, crossings = hits_along_x(arcs, heights, [104.0, 29.0, 51.0], layers, disc=True)
    found = sup.cross_supports(straight(2.0, 2.0, 2.0), planes, crossings)
    np.testing.assert_allclose(found.shift, [[42.0, 22.0, 2.0]], rtol=1e-6)
    # All reach z = 104 at a radius of 52: outside.
    assert not found.carries.any()
    planes = planes._replace(support=planes.support.at[2].set(53.0))
    assert sup.cross_supports(straight(2.0, 2.0, 2.0), planes, crossings).carries.all()
    np.testing.assert_allclose(found.stretch, np.full((1, 3), np.sqrt(5) / 2), rtol=1e-6)


def test_missed_supports_by_hand() -> None:
    """Hits on layers 0 and 3, to an arc of 100 mm: layers 1 and 2 are missed, 4 is behind, 5 too short."""
    barrel = jnp.array(
        [
            [0.0, 20.0, -500.0, 500.0, 0.01],
            [1.0, 40.0, -500.0, 500.0, 0.01],
            [4.0, 120.0, -500.0, 500.0, 0.01],
            [5.0, 60.0, -30.0, 30.0, 0.01],
        ]
    )
    discs = jnp.array(
        [[2.0, 80.0, 50.0, 90.0, 0.03], [6.0, -80.0, 50.0, 90.0, 0.03], [7.0, 90.0, 95.0, 99.0, 0.03]]
    )
    planes, _ = hits_along_x([[20.0], [99.0]], [[20.0], [99.0]], [0.0, 0.0, 0.0], [[0.0], [3.0]], disc=False)
    arc, path = sup.missed_supports(straight(1.0), barrel, discs, planes, jnp.array([100.0]))
    assert float(path[0]) == pytest.approx(0.04 * np.sqrt(2), rel=1e-5)
    assert float(arc[0]) == pytest.approx((40 * 0.01 + 80 * 0.03) / 0.04, rel=1e-5)


def test_complete_tracks_miss_nothing() -> None:
    barrel = jnp.array([[0.0, 20.0, -500.0, 500.0, 0.01]])
    planes, _ = hits_along_x([[20.0]], [[0.0]], [0.0, 0.0, 0.0], [[0.0]], disc=False)
    arc, path = sup.missed_supports(straight(0.0), barrel, jnp.zeros((0, 5)), planes, jnp.array([100.0]))
    assert float(arc[0]) == float(path[0]) == 0


def test_a_curved_track_meets_discs_and_cylinders_at_the_same_place() -> None:
    """A cylinder of radius 300 and a disc at the z where the helix has this radius: equal arc lengths."""
    bent = Helix(*(jnp.array([value]) for value in (0.5, 3.0, 0.2, 1.5, 5e-4)))
    cylinder = jnp.array([[0.0, 300.0, -1e4, 1e4, 0.02]])
    nothing = jnp.zeros((0, 5))
    planes, _ = hits_along_x([[20.0]], [[0.0]], [0.0, 0.0, 0.0], [[9.0]], disc=False)
    end = jnp.array([1e3])
    arc, _ = sup.missed_supports(bent, cylinder, nothing, planes, end)
    z = 3.0 + 1.5 * float(arc[0])
    for low, high, met in ((299.9, 300.1, True), (300.1, 301.0, False), (299.0, 299.9, False)):
        disc = jnp.array([[0.0, z, low, high, 0.02]])
        at, path = sup.missed_supports(bent, nothing, disc, planes, end)
        assert (float(path[0]) > 0) == met
        if met:
            assert float(at[0]) == pytest.approx(float(arc[0]), rel=1e-5)


def test_supports_lie_outside_the_pixels_and_inside_the_strips() -> None:
    detector = load_detector()
    supports = sup.layer_supports(detector)
    assert supports.layer.tolist() == list(range(48))
    assert (~supports.disc).sum() == 10
    radius = np.hypot(detector.center[:, 0], detector.center[:, 1])
    for row in np.flatnonzero(~supports.disc):
        sensors = detector.layer == supports.layer[row]
        gap = supports.level[row] - radius[sensors].mean()
        assert (2.5 < gap < 3.7) if detector.pixel[sensors][0] else (-6 < gap < -4)
    np.testing.assert_allclose(np.sort(supports.level[supports.disc])[[0, -1]], [-2950, 2950])
    thickness = [detector.thickness[detector.layer == layer][0] for layer in supports.layer]
    np.testing.assert_allclose(supports.thickness, thickness)
