"""Inference engines: whatever answers a model's inputs, found by the scheme of its address.

An engine is an entry point of the group `recon.engines`, named after the scheme ("grpc" for "grpc://host:8001",
"local" for "local:models"): a function `(url, *, model, **settings)` that returns an object with the methods of
`Engine`. Another package brings it; nothing here knows which.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

import numpy as np

from recon.errors import DataError, EngineError

GROUP = "recon.engines"

Inputs = Mapping[str, np.ndarray]
Outputs = dict[str, np.ndarray]


@runtime_checkable
class Call(Protocol):
    """A call on its way."""

    def cancel(self) -> bool:
        """Give it up."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Answers the inputs of one model; safe for threads."""

    def acquire(self, inputs: Inputs) -> Call:
        """Start a call."""
        ...

    def produce(self, handle: Any) -> Outputs:
        """Wait for its answer."""
        ...

    def close(self) -> None:
        """Let everything go."""


def check_shapes(outputs: Outputs, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Look whether an engine answered what it was asked.

    Args:
        outputs: of the engine.
        shapes: of the outputs that are needed, by name.

    Raises:
        DataError: an output has another shape; it is named.
    """
    for name, shape in shapes.items():
        if outputs[name].shape != shape:
            raise DataError(
                f"output {name!r} of the engine has shape {outputs[name].shape}; {shape} is needed"
            )


def connect(url: str, *, model: str, **settings: Any) -> Engine:
    """The engine at an address.

    Args:
        url: whose scheme names the engine.
        model: name of the model that it answers.
        settings: of the engine.

    Raises:
        EngineError: no installed package has such an engine, or it cannot be reached.
    """
    scheme = url.partition(":")[0]
    found = {point.name: point for point in entry_points(group=GROUP)}
    if scheme not in found:
        raise EngineError(
            f"{url!r}: there is no engine {scheme!r}; installed are: {', '.join(sorted(found)) or 'none'} "
            f"(entry points {GROUP!r})"
        )
    try:
        engine: Engine = found[scheme].load()(url, model=model, **settings)
    # What an engine raises is its own: to whoever asked for it, it cannot be had.
    except Exception as error:
        raise EngineError(f"engine {url!r}, model {model!r}: {error}") from error
    return engine
