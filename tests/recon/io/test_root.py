"""ROOT files of events: round trips in both layouts and every file that must be refused."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.io.root import count_events, read_events, read_metadata, write_events

from .conftest import assert_same_event, make_event

LAYOUTS = ("ttree", "rntuple")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_event(layout, event, tmp_path):
    write_events(tmp_path / "a.root", [event], layout=layout, metadata={})
    (back,) = read_events(tmp_path / "a.root")
    assert_same_event(event, back)
