"""The CSV format of the TrackML challenge: what its files and columns are called, and what stands in them.

Lengths are mm, momenta GeV, as in the challenge. Sensors are found by geometry, because the numbering of
modules within a layer differs between the challenge's detector table and ACTS, while place and axes of every
sensor are the same.
Format: Amrouche et al., "The Tracking Machine Learning challenge: Accuracy phase", arXiv:1904.06778.
"""

from recon.io.acts_csv import read_tracks_acts_csv, write_tracks_acts_csv
from recon.io.trackml_read import read_event, read_weights
from recon.io.trackml_weights import trackml_weights
from recon.io.trackml_write import write_event, write_submission, write_submissions

__all__ = [
    "read_event",
    "read_tracks_acts_csv",
    "read_weights",
    "trackml_weights",
    "write_event",
    "write_submission",
    "write_submissions",
    "write_tracks_acts_csv",
]
