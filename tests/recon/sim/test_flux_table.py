"""Fluxes from tables: reading, refusing, and what the simulation makes of them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from recon.errors import ConfigError, DataError
from recon.io.pixel_maps import join_events
from recon.sim.flux_table import FluxTable, read_flux
from recon.sim.neutrino import NeutrinoSimulation, simulate_neutrinos
from recon.sim.neutrino_detector import MUON_MASS, TAU_MASS
from recon.sim.neutrino_flux import energies, flux, mode_fractions, spectrum

NARROW = FluxTable((1.8, 2.0, 2.2), (0.0, 3.0, 0.0))


def test_between_the_energies_it_is_linear_and_beyond_nothing():
    np.testing.assert_allclose(NARROW.at(np.array([1.7, 1.8, 1.9, 2.0, 2.1, 2.3])), [0, 0, 1.5, 3, 1.5, 0])


def test_part_within():
    assert NARROW.part_within(0.0, 10.0) == pytest.approx(1)
    assert NARROW.part_within(0.0, 2.0) == pytest.approx(0.5)
    assert NARROW.part_within(1.9, 2.1) == pytest.approx(0.75)
    assert NARROW.part_within(3.0, 4.0) == 0


@pytest.mark.parametrize(
    ("energy", "values", "message"),
    [
        ((1.0,), (1.0,), "FluxTable has 1 energies and 1 fluxes; needed: as many of each, 2 or more"),
        ((1.0, 2.0), (1.0,), "has 2 energies and 1 fluxes"),
        ((1.0, 1.0), (1.0, 1.0), "energy must ascend"),
        ((1.0, float("nan")), (1.0, 1.0), "energy must ascend and be finite"),
        ((1.0, 2.0), (1.0, -1.0), r"flux is -1\.0 at 2 GeV; allowed: 0 or more"),
        ((1.0, 2.0), (float("inf"), 1.0), "flux is inf at 1 GeV"),
        ((1.0, 2.0), (0.0, 0.0), "0 at all energies"),
    ],
)
def test_tables_that_cannot_be(energy, values, message):
    with pytest.raises(ConfigError, match=message):
        FluxTable(energy, values)


@pytest.mark.parametrize("separator", ["  ", ", ", "\t"])
def test_columns_of_a_file(tmp_path, separator):
    path = tmp_path / "flux.txt"
    rows = [separator.join(row) for row in (("1.0", "5", "0"), ("2.0", "6", "7"))]
    path.write_text("\n".join(["# GeV, nue, numu", *rows, ""]))
    assert read_flux(path) == FluxTable((1.0, 2.0), (5.0, 6.0))
    assert read_flux(path, 2) == FluxTable((1.0, 2.0), (0.0, 7.0))
    for column in (-1, 0, 3):
        with pytest.raises(ConfigError, match=rf"flux column {column} of .*flux\.txt; allowed: 1 to 2"):
            read_flux(path, column)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("# nothing\n", "it is empty"),
        ("1 2\n3\n", r"flux\.txt is no table of a flux"),
        ("1 two\n", r"flux\.txt is no table of a flux: .*two"),
        ("1 2\n0.5 3\n", r"flux\.txt, column 1: FluxTable\.energy must ascend"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_files_that_are_no_tables(tmp_path, text, message):
    path = tmp_path / "flux.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_flux(path)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt is no table of a flux: .*No such file"):
        read_flux(tmp_path / "none.txt")


def test_the_built_in_beam_as_a_table_is_the_built_in_beam():
    table = FluxTable(tuple(energies().tolist()), tuple(flux().tolist()))
    for lepton in (MUON_MASS, TAU_MASS, 0.0):
        np.testing.assert_array_equal(spectrum(lepton, table).cumulative, spectrum(lepton).cumulative)
    np.testing.assert_array_equal(
        mode_fractions(MUON_MASS, 1.0, 3.0, table), mode_fractions(MUON_MASS, 1.0, 3.0)
    )


def test_fewer_kaons_and_a_better_focus_make_a_narrower_beam():
    energy = energies()
    beam, narrow = flux(), flux(((1.0, 2.2e-3),), 0.016)

    def part(values):
        return values[(energy > 1) & (energy < 3)].sum() / values.sum()

    assert part(narrow) > part(beam) + 0.05


def test_events_have_the_energies_of_the_table():
    config = NeutrinoSimulation(events=40, classes=("numu", "nc", "cosmic"), chunk_events=20, flux=NARROW)
    events = join_events(simulate_neutrinos(config))
    energy = events.truth.energy[events.label != 4]
    assert ((energy > 1.75) & (energy < 2.25)).all()
    # Cosmic rays do not know of it.
    usual = join_events(simulate_neutrinos(NeutrinoSimulation(events=13, classes=("cosmic",))))
    np.testing.assert_array_equal(events.truth.energy[events.label == 4], usual.truth.energy)


def test_a_flux_below_the_threshold_of_a_class():
    config = NeutrinoSimulation(events=2, classes=("numu", "nutau"), chunk_events=10, flux=NARROW)
    with pytest.raises(ConfigError, match=r"class nutau: no neutrino of this flux makes a lepton of 1\.77"):
        list(simulate_neutrinos(config))
