"""A featurizer and a classifier, each served under a name of its own, as one engine: image in, probabilities out."""

from __future__ import annotations

from typing import Any

from recon.engines import Call, Engine, Inputs, Outputs, connect


class TwoPartEngine:
    """Images to a featurizer, its features to a classifier; they may be on different machines.

    Args:
        featurizer: `image` to `features`.
        classifier: `features` to `scores`.
    """

    def __init__(self, featurizer: Engine, classifier: Engine) -> None:
        self._featurizer, self._classifier = featurizer, classifier

    def acquire(self, inputs: Inputs) -> Call:
        """Send images."""
        return self._featurizer.acquire(inputs)

    def produce(self, handle: Any) -> Outputs:
        """Wait for the features, send them on, wait for the probabilities."""
        features = self._featurizer.produce(handle)["features"]
        return self._classifier.produce(self._classifier.acquire({"features": features}))

    def close(self) -> None:
        """Let everything go."""
        self._featurizer.close()
        self._classifier.close()


def connect_parts(url: str, *, model: str, **settings: Any) -> TwoPartEngine:
    """Connect to `<model>_featurizer` and `<model>_classifier` at an address.

    Args:
        url: as for `recon.engines.connect`.
        model: name before the underscore.
        settings: of the engines.

    Raises:
        EngineError: one of them cannot be reached.
    """
    featurizer = connect(url, model=f"{model}_featurizer", **settings)
    try:
        return TwoPartEngine(featurizer, connect(url, model=f"{model}_classifier", **settings))
    except BaseException:
        featurizer.close()
        raise
