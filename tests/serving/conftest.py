"""A repository of small models, and a server of them."""

import pytest

from serving.dataplane import Dataplane
from serving.repository import Repository
from tests.serving import artifacts, planes


@pytest.fixture(scope="session")
def executables(tmp_path_factory):
    """Compiled programs of the tests, away from the user's."""
    folder = tmp_path_factory.mktemp("executables")
    folder.chmod(0o700)
    patch = pytest.MonkeyPatch()
    patch.setenv("RECON_EXECUTABLES", str(folder))
    yield folder
    patch.undo()


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """One artefact of every kind; not to be written to."""
    root = tmp_path_factory.mktemp("models")
    for write in (artifacts.identity, artifacts.mlp, artifacts.graph, artifacts.positive):
        write(root)
    return root


@pytest.fixture(scope="module")
def dataplane(models, executables):
    """A dataplane that has loaded them."""
    repository = Repository(models)
    repository.start()
    plane = Dataplane(repository)
    yield plane
    plane.drain(5.0)


@pytest.fixture(scope="module")
def repository(models, executables):
    repository = Repository(models)
    repository.start()
    yield repository
    repository.close(5.0)


@pytest.fixture(params=planes.FRONTS, scope="module")
def front(request):
    """Name of a gRPC front: both must do the same."""
    return request.param


@pytest.fixture
def server(repository, front):
    with planes.serving(repository, front=front) as plane:
        yield plane
