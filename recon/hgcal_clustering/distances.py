"""How far apart points are, and how much a neighbour adds to a density: the metrics and kernels of CLUEstering.

Both are a name and a few numbers. The name is known when a program is compiled, the numbers are not, so another
period or another width needs no new program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from recon.errors import ConfigError
from recon.types import Array

METRICS = ("euclidean", "manhattan", "chebyshev", "weighted", "weighted_chebyshev", "periodic")
KERNELS = {"flat": 1, "exponential": 2, "gaussian": 3}
"""Name and number of parameters."""

_SQUARED = ("euclidean", "weighted", "periodic")


@dataclass(frozen=True)
class Metric:
    """A distance between points.

    With differences x_k of their coordinates: `euclidean` sqrt(sum x_k^2), `manhattan` sum |x_k|, `chebyshev`
    max |x_k|, `weighted` sqrt(sum values_k x_k^2), `weighted_chebyshev` max(values_k |x_k|), and `periodic`,
    Euclidean where coordinate k comes back to itself after `values_k` (infinite for a coordinate that does not).

    Attributes:
        name: one of `METRICS`.
        values: one number a coordinate, weights or periods; empty for the others.

    Raises:
        ConfigError: an unknown name, values that are missing or too many, or that are not positive.
    """

    name: str = "euclidean"
    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in METRICS:
            raise ConfigError(f"metric {self.name!r}: allowed are {', '.join(METRICS)}")
        wanted = self.name in ("weighted", "weighted_chebyshev", "periodic")
        if wanted != bool(self.values):
            need = "one positive value a coordinate" if wanted else "no values"
            raise ConfigError(f"the metric {self.name!r} takes {need}, it was given {self.values}")
        if not all(value > 0 for value in self.values):
            raise ConfigError(
                f"the metric {self.name!r} was given {self.values}: allowed are positive values"
            )

    def on_axes(self, n_axes: int) -> np.ndarray:
        """The values as an array, ones where the metric has none.

        Raises:
            ConfigError: as many values as coordinates are needed.
        """
        if self.values and len(self.values) != n_axes:
            raise ConfigError(
                f"the metric {self.name!r} has {len(self.values)} values, the points have {n_axes} coordinates"
            )
        return np.asarray(self.values or (1.0,) * n_axes, np.float32)

    def reach(self, radius: float, n_axes: int) -> np.ndarray:
        """How far apart points within `radius` are along each coordinate at most."""
        values = self.on_axes(n_axes).astype(float)
        if self.name == "weighted":
            return radius / np.sqrt(values)
        return radius / values if self.name == "weighted_chebyshev" else np.full(n_axes, float(radius))

    def periods(self, n_axes: int) -> np.ndarray:
        """Period of each coordinate, infinite where there is none."""
        return self.on_axes(n_axes).astype(float) if self.name == "periodic" else np.full(n_axes, np.inf)


@dataclass(frozen=True)
class Kernel:
    """What a neighbour at distance d adds to a density, as a factor on its weight (a point itself always adds 1).

    `flat` (c): c. `exponential` (a, A): A exp(-a d). `gaussian` (m, s, A): A exp(-(d - m)^2 / (2 s^2)).

    Attributes:
        name: one of `KERNELS`.
        parameters: as above.

    Raises:
        ConfigError: an unknown name, a wrong number of parameters, or some that are negative or not finite.
    """

    name: str = "flat"
    parameters: tuple[float, ...] = (0.5,)

    def __post_init__(self) -> None:
        if self.name not in KERNELS:
            raise ConfigError(f"kernel {self.name!r}: allowed are {', '.join(KERNELS)}")
        if len(self.parameters) != KERNELS[self.name]:
            raise ConfigError(
                f"the kernel {self.name!r} takes {KERNELS[self.name]} parameters, it was given {self.parameters}"
            )
        finite = np.isfinite(self.parameters).all() and min(self.parameters) >= 0
        if not finite or (self.name == "gaussian" and self.parameters[1] == 0):
            raise ConfigError(
                f"the kernel {self.name!r} was given {self.parameters}: "
                "allowed are finite values, none below 0 and a width above 0"
            )


def as_metric(metric: str | Metric) -> Metric:
    """A metric by its name, where it has no values."""
    return metric if isinstance(metric, Metric) else Metric(metric)


def as_kernel(kernel: str | Kernel) -> Kernel:
    """A kernel by its name: only `flat` has a parameter by default, one half.

    Raises:
        ConfigError: a kernel that needs its parameters.
    """
    if isinstance(kernel, Kernel):
        return kernel
    return Kernel() if kernel == "flat" else Kernel(kernel, ())


def reduced_distance(
    name: str, values: Float[Array, " axes"], here: Sequence[Array], there: Sequence[Array]
) -> Array:
    """A distance that is cheap to compare: the square for Euclidean metrics, the distance itself for the others.

    Args:
        name: of the metric.
        values: of the metric, `Metric.on_axes`.
        here: the coordinates of points, an array an axis.
        there: the coordinates of others.
    """
    apart = [jnp.abs(b - a) for a, b in zip(here, there, strict=True)]
    if name == "periodic":
        apart = [_around(x, values[axis]) for axis, x in enumerate(apart)]
    if name.startswith("weighted"):
        scale = jnp.sqrt(values) if name == "weighted" else values
        apart = [scale[axis] * x for axis, x in enumerate(apart)]
    if name.endswith("chebyshev"):
        longest = apart[0]
        for x in apart[1:]:
            longest = jnp.maximum(longest, x)
        return longest
    total = apart[0] if name == "manhattan" else apart[0] ** 2
    for x in apart[1:]:
        total = total + (x if name == "manhattan" else x**2)
    return total


def _around(apart: Array, period: Array) -> Array:
    """The shorter way around; coordinates may be any number of periods apart."""
    whole = jnp.where(jnp.isinf(period), jnp.inf, period)
    apart = jnp.where(apart < whole, apart, jnp.mod(apart, whole))
    return jnp.minimum(apart, whole - apart)


def reduced_radius(name: str, radius: Array) -> Array:
    """A radius on the scale of `reduced_distance`."""
    return radius * radius if name in _SQUARED else radius


def full_distance(name: str, reduced: Array) -> Array:
    """The distance behind a `reduced_distance`."""
    return jnp.sqrt(reduced) if name in _SQUARED else reduced


def kernel_factor(kernel: str, parameters: Float[Array, " p"], metric: str, reduced: Array) -> Array:
    """The factor of `Kernel` for neighbours at a reduced distance."""
    if kernel == "flat":
        return jnp.broadcast_to(parameters[0], reduced.shape)
    distance = full_distance(metric, reduced)
    if kernel == "exponential":
        return parameters[1] * jnp.exp(-parameters[0] * distance)
    return parameters[2] * jnp.exp(-((distance - parameters[0]) ** 2) / (2 * parameters[1] ** 2))
