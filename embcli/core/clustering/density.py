"""Clusters as regions where points lie densely, and what lies between them as noise."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embcli.core.clustering.centres import assign, means, margins
from embcli.core.clustering.clusters import NOISE, Clusters, by_size
from embcli.core.clustering.optional import made_by, require
from embcli.errors import InputError, UsageError


def hdbscan(
    points: NDArray[np.floating], *, min_size: int | None = None, min_samples: int | None = None
) -> Clusters:
    require("sklearn", "HDBSCAN")
    from sklearn.cluster import HDBSCAN
    found = HDBSCAN(min_cluster_size=min_size, min_samples=min_samples, copy=True).fit(points)
    return Clusters(by_size(found.labels_), found.probabilities_.astype(np.float32), {})
