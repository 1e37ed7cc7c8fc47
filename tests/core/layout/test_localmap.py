import os
import subprocess
import sys

import numpy as np
import pytest

from embcli.core.knn import knn_graph
from embcli.core.layout.localmap import localmap_layout
from embcli.core.layout.quality import trustworthiness
from tests.core.layout.conftest import degenerate

pytest.importorskip("pacmap")


def test_groups_come_apart_and_the_same_again_in_another_process(groups, tmp_path, capfd):
    vectors, _, _ = groups
    graph = knn_graph(vectors, 60).neighbours
    layout = localmap_layout(vectors, graph)
    assert layout.shape == (240, 2)
    assert trustworthiness(vectors, layout).value > 0.85
    np.savez(tmp_path / "in.npz", vectors=vectors, others=graph.others, cosines=graph.cosines)
    script = (
        "import numpy as np\n"
        "from embcli.core.layout.localmap import localmap_layout\n"
        "from embcli.core.neighbours import Neighbours\n"
        "data = np.load('in.npz')\n"
        "graph = Neighbours(data['others'], data['cosines'])\n"
        "np.save('out.npy', localmap_layout(data['vectors'], graph))\n"
    )
    paths = os.pathsep.join(filter(None, sys.path))
    env = os.environ | {"NUMBA_NUM_THREADS": "1", "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=env, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), layout)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", degenerate())
def test_what_is_hard_gives_finite_coordinates(name):
    vectors = degenerate()[name]
    coordinates = localmap_layout(vectors, knn_graph(vectors, 60).neighbours)
    assert coordinates.shape == (len(vectors), 2)
    assert np.isfinite(coordinates).all()
