"""The errors that users meet: each says what was given, what is allowed and where."""

from __future__ import annotations


class ReconError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(ReconError, ValueError):
    """A setting outside its allowed range, or two settings that contradict each other."""


class DataError(ReconError, ValueError):
    """Input that cannot be used: the message names the file, the column and the row where they are known."""


class CapacityError(ReconError):
    """A padded array is too small for what it must hold.

    Args:
        what: the quantity that did not fit ("edges", "hits", "tracks").
        capacity: the size that was available.
        needed: the size that would have been enough.
        where: the setting to enlarge.
    """

    def __init__(self, what: str, capacity: int, needed: int, where: str) -> None:
        super().__init__(
            f"{needed} {what} do not fit into a capacity of {capacity}; "
            f"raise {where} to at least {needed}, nothing was dropped"
        )
        self.what, self.capacity, self.needed, self.where = what, capacity, needed, where


class EngineError(ReconError):
    """An inference engine that cannot be had; the message names its address and the engines that are installed."""


class PipelineError(ReconError):
    """A module failed with an event of a `recon.pipeline.Job`.

    Args:
        module: name of the module.
        number: number of the event.
        index: place of the event in the source, from 0.
        cause: what went wrong.
    """

    def __init__(self, module: str, number: object, index: int, cause: BaseException) -> None:
        super().__init__(
            f"event {number} (entry {index}): module {module!r}: {type(cause).__name__}: {cause}"
        )
        self.module, self.number, self.index = module, number, index
