"""The models of the serving benchmark as a runtime of MLServer; it is imported by name in MLServer's environment."""

from __future__ import annotations

import os

from inference_peer_models import programs
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Runtime(MLModel):
    """Arrays in and out through MLServer's own codec; its adaptive batching joins requests before they come here."""

    async def load(self) -> bool:
        """Make the program."""
        self.program = programs(os.environ["BENCHMARK_WEIGHTS"])[self.settings.name]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request, or several that were joined."""
        outputs = self.program(NumpyCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(
            id=payload.id, model_name=self.name, outputs=[NumpyCodec.encode_output("OUTPUT0", outputs)]
        )
