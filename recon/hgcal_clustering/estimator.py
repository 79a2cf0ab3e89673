"""CLUE as an estimator, in the manner of scikit-learn (which it does not need)."""

from __future__ import annotations

from typing import Any

import numpy as np

from recon.errors import ConfigError
from recon.hgcal_clustering.clue import clue, read_radii
from recon.hgcal_clustering.distances import Kernel, Metric, as_kernel, as_metric


class CLUE:
    """Density-based clustering with weights; finds the number of clusters by itself, in time linear in the points.

    Args:
        d_c: radius of the density, in the unit of the coordinates.
        rho_c: least density of a seed, in the unit of the weights.
        outlier_delta_factor: how far points below `rho_c` look for a denser one, in units of `d_c`.
        seeding_distance: how far points above do; `d_c` by default.
        metric: a name ("euclidean", "manhattan", "chebyshev") or a `Metric`.
        kernel: "flat" or a `Kernel`.
        compat: "paper" or "cluestering-2.11", see `recon.hgcal_clustering.clue.clue`.

    Attributes:
        labels_: cluster of every point, numbered in the order of the seeds; -1 for outliers.
        rho_: local density of every point.
        delta_: distance to the nearest denser point; infinite where there is none within reach.
        nearest_higher_: row of that point; -1 where there is none.
        seeds_: row of the seed of every cluster.
        n_clusters_: number of clusters.
        n_features_in_: number of coordinates.

    Example:
        >>> import numpy as np
        >>> X = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5], [9.0, 9.0]])
        >>> CLUE(d_c=1.0, rho_c=1.5).fit_predict(X, sample_weight=np.array([2.0, 1.0, 1.0, 1.0])).tolist()
        [0, 0, 0, -1]
    """

    labels_: np.ndarray
    rho_: np.ndarray
    delta_: np.ndarray
    nearest_higher_: np.ndarray
    seeds_: np.ndarray
    n_clusters_: int
    n_features_in_: int

    _PARAMETERS = (
        "d_c",
        "rho_c",
        "outlier_delta_factor",
        "seeding_distance",
        "metric",
        "kernel",
        "compat",
    )

    def __init__(
        self,
        *,
        d_c: float = 1.0,
        rho_c: float = 1.0,
        outlier_delta_factor: float = 2.0,
        seeding_distance: float | None = None,
        metric: str | Metric = "euclidean",
        kernel: str | Kernel = "flat",
        compat: str = "paper",
    ) -> None:
        self.d_c = d_c
        self.rho_c = rho_c
        self.outlier_delta_factor = outlier_delta_factor
        self.seeding_distance = seeding_distance
        self.metric = metric
        self.kernel = kernel
        self.compat = compat

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, *, batch: Any = None) -> CLUE:
        """Cluster the rows of `X`.

        Args:
            X: coordinates, (n points, 1 to 10).
            y: not used.
            sample_weight: what every point adds to the density; 1 by default.
            batch: integers; points of different batches do not see each other.

        Raises:
            ConfigError: settings out of range.
            DataError: values that are not finite, negative weights, shapes that do not fit.
        """
        found = clue(X, sample_weight, batch=batch, **self.get_params())
        self.labels_, self.rho_, self.delta_, self.nearest_higher_ = found[:4]
        self.seeds_ = np.flatnonzero(found.is_seed)
        self.n_clusters_, self.n_features_in_ = int(found.n_clusters), np.shape(X)[1]
        return self

    def fit_predict(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, batch: Any = None
    ) -> np.ndarray:
        """Cluster the rows of `X` and return `labels_`; arguments as for `fit`."""
        return self.fit(X, y, sample_weight, batch=batch).labels_

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name."""
        return {name: getattr(self, name) for name in self._PARAMETERS}

    def set_params(self, **settings: Any) -> CLUE:
        """Change settings.

        Raises:
            ConfigError: a setting that does not exist, or a value that is not allowed.
        """
        if unknown := sorted(set(settings) - set(self._PARAMETERS)):
            raise ConfigError(
                f"CLUE has no setting {', '.join(unknown)}; it has {', '.join(self._PARAMETERS)}"
            )
        wanted = self.get_params() | settings
        read_radii(
            wanted["d_c"], wanted["outlier_delta_factor"], wanted["seeding_distance"], wanted["compat"]
        )
        as_metric(wanted["metric"]), as_kernel(wanted["kernel"])
        for name, value in settings.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        return f"CLUE({', '.join(f'{name}={value!r}' for name, value in self.get_params().items())})"
