"""`recon reconstruct nova`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tyro.conf import Positional

from recon import __version__
from recon.commands import (
    HERE,
    Json,
    Output,
    Remote,
    Report,
    console,
    progress_bars,
    write_json,
)
from recon.errors import ConfigError
from recon.io.root_pixel_maps import (
    ScoredEvents,
    count_neutrino_events,
    read_neutrino_events,
    write_neutrino_events,
)
from recon.tagging.cvn import DEFAULT, load_model
from recon.tagging.labels import NEUTRINO_LABELS
from recon.tagging.neutrino_evaluation import losses, score_file
from recon.tagging.neutrino_remote import MODEL, classify_remotely
from recon.tagging.two_part_engine import connect_parts
from recon.types import NeutrinoEvents


def reconstruct(
    file: Positional[Path],
    *,
    output: Output,
    model: str = DEFAULT,
    layout: Literal["ttree", "rntuple"] = "ttree",
    reflections: bool = False,
    remote: Remote = HERE,
    served: str = MODEL,
    json: Json = None,
) -> None:
    """Classify every neutrino event in a file: the same events with the probabilities as branches score_CLASS.

    Args:
        file: ROOT file of events, as of `recon simulate neutrino`, with or without truth.
        output: ROOT file to write.
        model: shipped, or the directory of your own.
        layout: TTree or RNTuple.
        reflections: classify every event twice, left and right exchanged, and take the mean; here, not on a server.
        remote: runs the network in the place of this process, as two models: featurizer and classifier.
        served: their names on the server before _featurizer and _classifier, as `recon export nova` has them.
        json: write the counts here.
    """
    settings = remote.settings()
    if reflections and remote.server is not None:
        raise ConfigError(
            f"--reflections is for a network in this process; --server {remote.server} was given too"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    total, counts = count_neutrino_events(file), Counter[str]()
    metadata = {"program": f"recon {__version__}", "input": str(file)}
    metadata |= {"server": remote.server} if remote.server else {"model": model}
    with progress_bars() as report, ExitStack() as stack:
        scored: Iterator[tuple[NeutrinoEvents, np.ndarray]]
        if remote.server is None:
            scored = score_file(file, load_model(model), reflections=reflections)
        else:
            engine = stack.enter_context(closing(connect_parts(remote.server, model=served, **settings)))
            answers = classify_remotely(read_neutrino_events(file), engine, streams=remote.streams)
            scored = stack.enter_context(closing(answers))
        write_neutrino_events(
            output, _counted(scored, counts, total, report), layout=layout, metadata=metadata
        )
    listed = ", ".join(f"{name} {counts[name]:,}" for name in NEUTRINO_LABELS if counts[name])
    console.print(f"{total:,} events of {file} classified and written to {output}: {listed}")
    console.print(
        f"{counts['hits_outside']:,} hits outside of the windows were not seen; {counts['events_with_empty_view']:,} "
        "events have an empty view"
    )
    write_json(json, metadata | dict(counts) | {"events": total, "output": str(output)})


def branch_names() -> list[str]:
    """Names of the branches, one a class."""
    return [f"score_{re.sub(r'[^0-9a-zA-Z]', '_', label)}" for label in NEUTRINO_LABELS]


def _counted(
    scored: Iterator[tuple[NeutrinoEvents, np.ndarray]], counts: Counter[str], total: int, report: Report
) -> Iterator[Any]:
    done = 0
    for events, scores in scored:
        for k, n in enumerate(np.bincount(scores.argmax(axis=1), minlength=len(NEUTRINO_LABELS))):
            counts[NEUTRINO_LABELS[k]] += int(n)
        counts.update(losses(events))
        done += len(scores)
        report("events", done, total)
        yield ScoredEvents(events, dict(zip(branch_names(), scores.T, strict=True)))
