"""A model repository behind the gRPC front, in this process."""

from contextlib import contextmanager

from serving.dataplane import Dataplane
from serving.grpc_server import GrpcFront
from serving.repository import Repository


@contextmanager
def served(models):
    """The address of a server of the artefacts in a folder."""
    repository = Repository(models)
    repository.start()
    front = GrpcFront(Dataplane(repository), port=0, threads=8)
    try:
        yield f"grpc://127.0.0.1:{front.start()}"
    finally:
        front.stop()
        repository.close(5.0)
