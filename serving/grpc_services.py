"""The services beside the protocol's own, for both gRPC fronts: grpc.health.v1, and what reflection tells."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.reflection import SERVICE_NAME

from serving.dataplane import Dataplane
from serving.errors import ServiceNotFound
from serving.protocol.messages import POOL, SERVICE

HEALTH: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
REFLECTION: str = SERVICE_NAME
SERVICES = (SERVICE, HEALTH, REFLECTION)

OPEN = (f"/{HEALTH}/",)
"""Methods that need no token: whoever starts servers must see whether they live."""

WATCH_SECONDS = 0.2
"""Between two looks for those who watch."""


def health_of(dataplane: Dataplane, service: str) -> Any:
    """The state of a service: serving while the dataplane is ready; all of the server for an empty name."""
    response = health_pb2.HealthCheckResponse
    if service not in {"", SERVICE}:
        return response(status=response.SERVICE_UNKNOWN)
    return response(status=response.SERVING if dataplane.ready() else response.NOT_SERVING)


def check(dataplane: Dataplane, service: str) -> Any:
    """The state of a service, once.

    Raises:
        ServiceNotFound: nobody knows it; one who watches hears that as a state instead.
    """
    found = health_of(dataplane, service)
    if found.status == found.SERVICE_UNKNOWN:
        raise ServiceNotFound(f"there is no service {service!r}; {SERVICE!r} is known")
    return found


def descriptors() -> Any:
    """Descriptors for reflection: ours and those of the health service, in a pool of their own."""
    pool = descriptor_pool.DescriptorPool()
    for descriptor in (POOL.FindFileByName("inference.proto"), health_pb2.DESCRIPTOR):
        file = descriptor_pb2.FileDescriptorProto()
        descriptor.CopyToProto(file)
        pool.Add(file)
    return pool
