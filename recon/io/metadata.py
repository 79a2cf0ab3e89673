"""What is said about a file, in the file: the user's entries and this package's own, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

from recon import __version__
from recon.errors import ConfigError

OWN = "recon"
"""The entry of the metadata that this package writes: schema, its version, units, software."""


def metadata_text(metadata: Mapping[str, object], own: Mapping[str, object]) -> str:
    """One JSON string of `metadata` and this package's `own` entries, the version of the software among them.

    Raises:
        ConfigError: where the name `OWN` is taken or a value is not JSON.
    """
    if OWN in metadata:
        raise ConfigError(f"metadata has an entry '{OWN}', which is reserved; choose another name")
    try:
        return json.dumps({**metadata, OWN: {**own, "software": f"recon {__version__}"}}, allow_nan=False)
    except (TypeError, ValueError) as problem:
        raise ConfigError(
            f"metadata must be JSON (strings, numbers, lists, mappings): {problem}"
        ) from problem
