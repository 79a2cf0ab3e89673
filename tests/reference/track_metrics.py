"""Slow twin of the track metrics: dictionaries and loops, straight from the definitions."""

from __future__ import annotations

import math


def hits_by_particle(hit_particle):
    """{particle: set of its hits}."""
    made = {}
    for hit, particle in enumerate(hit_particle):
        if particle >= 0:
            made.setdefault(int(particle), set()).add(hit)
    return made


def majority(track, made):
    """(particle, common hits) of one track; of equals the particle of the lowest row, (-1, 0) without any."""
    best, most = -1, 0
    for particle in sorted(made):
        common = len(track & made[particle])
        if common > most:
            best, most = particle, common
    return best, most


def is_double_majority(track, particle, made):
    common = len(track & made.get(particle, set()))
    return common > 0 and common > len(track) / 2 and common > len(made[particle]) / 2


def is_perfect(track, particle, made):
    return particle >= 0 and track == made[particle]


def is_lhc(track, particle, made):
    return particle >= 0 and len(track & made[particle]) / len(track) >= 0.75


def duplicates(tracks, rows, made):
    """Rows that lose against a better track of the same particle: more common hits, then shorter, then earlier."""
    best = {}
    for row in rows:
        particle, common = majority(tracks[row], made)
        if is_double_majority(tracks[row], particle, made):
            quality = (common, -len(tracks[row]), -row)
            if particle not in best or quality > best[particle]:
                best[particle] = quality
    return {
        row
        for row in rows
        if is_double_majority(tracks[row], (p := majority(tracks[row], made)[0]), made) and -best[p][2] != row
    }


def targets(momentum, vertex, charge, primary, valid, made, cuts):
    """Rows of the particles inside the cuts; `cuts` has the attributes of TargetSelection."""
    chosen = set()
    for row, (px, py, pz) in enumerate(momentum.astype(float)):
        pt = math.hypot(px, py)
        eta = math.asinh(pz / pt) if pt > 0 else math.inf
        radius = math.hypot(*vertex[row, :2].astype(float))
        wanted = valid[row] and primary[row] and charge[row] != 0 and len(made.get(row, ())) >= cuts.min_hits
        if (
            wanted
            and pt > cuts.pt_min
            and cuts.eta_min <= abs(eta) < cuts.eta_max
            and radius < cuts.radius_max
        ):
            chosen.add(row)
    return chosen


def counts(tracks, particles, cuts, candidates, pt=None, eta=None):
    """Counts of one event by name; `tracks` is a list of sets of hits."""
    made = hits_by_particle(particles.hit_particle)
    wanted = targets(
        particles.momentum, particles.vertex, particles.charge, particles.primary, particles.valid, made, cuts
    )
    long = [row for row, track in enumerate(tracks) if len(track) >= candidates.min_hits]
    found, found_perfect, found_lhc = set(), set(), set()
    for row in long:
        particle, _ = majority(tracks[row], made)
        for criterion, result in (
            (is_double_majority, found),
            (is_perfect, found_perfect),
            (is_lhc, found_lhc),
        ):
            if criterion(tracks[row], particle, made):
                result.add(particle)
    rows = [
        row for row in long if pt is None or (pt[row] > candidates.pt_min and abs(eta[row]) < cuts.eta_max)
    ]
    best = {row: majority(tracks[row], made) for row in rows}
    return {
        "targets": len(wanted),
        "found": len(wanted & found),
        "found_perfect": len(wanted & found_perfect),
        "found_lhc": len(wanted & found_lhc),
        "tracks": len(long),
        "candidates": len(rows),
        "fakes": sum(not is_double_majority(tracks[row], best[row][0], made) for row in rows),
        "impure": sum(best[row][1] <= len(tracks[row]) / 2 for row in rows),
        "duplicates": len(duplicates(tracks, rows, made)),
        "candidates_lhc": sum(is_lhc(tracks[row], best[row][0], made) for row in rows),
    }


def trackml_score(tracks, hit_particle, weights):
    """Summed weight of the hits that are on the double-majority track of their particle."""
    made = hits_by_particle(hit_particle)
    score = 0.0
    for track in tracks:
        particle, _ = majority(track, made)
        if is_double_majority(track, particle, made):
            score += sum(weights[hit] for hit in track & made[particle])
    return score


def auc(scores, labels):
    """Fraction of (signal, background) pairs in the right order, ties counting one half."""
    signal = [s for s, label in zip(scores, labels, strict=True) if label]
    background = [s for s, label in zip(scores, labels, strict=True) if not label]
    right = sum((s > b) + 0.5 * (s == b) for s in signal for b in background)
    return right / (len(signal) * len(background))
