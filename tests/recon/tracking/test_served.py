"""The exported network behind a server answers as the network here does."""

import numpy as np
import pytest

from recon.io.root import read_events
from recon.tracking.commands.demo import SAMPLE
from recon.tracking.commands.served import served_difference
from recon.tracking.shipped import load_model

pytestmark = pytest.mark.usefixtures("quick_programs")


def test_scores_of_a_second_process_equal_those_here(tmp_path):
    event = next(iter(read_events(SAMPLE)))
    x, y = event.hits.position[:, 0], event.hits.position[:, 1]
    # A wedge of the detector: enough for tracks, and quick to compile.
    wedge = np.abs(np.arctan2(y, x)) < 0.05
    event = event._replace(hits=type(event.hits)(*(column[wedge] for column in event.hits)))
    segments, difference = served_difference(event, load_model(), tmp_path)
    assert segments > 50
    assert difference < 1e-5
    assert (tmp_path / "tracking_network" / "1" / "manifest.json").exists()
