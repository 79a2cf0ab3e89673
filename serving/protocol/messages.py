"""The messages of the protocol, from `protocol.binpb`.

They live in a descriptor pool of their own: NVIDIA's client registers messages of the same names in the default pool,
and both must be usable in one process.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"


def _load() -> descriptor_pool.DescriptorPool:
    content = (files("serving.protocol") / "protocol.binpb").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(content).file:
        pool.Add(file)
    return pool


POOL = _load()


@cache
def message(name: str) -> Any:
    """The class of a message, such as "ModelInferRequest"."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


def methods() -> dict[str, Any]:
    """Descriptors of the service's methods by name."""
    return dict(POOL.FindServiceByName(SERVICE).methods_by_name)
