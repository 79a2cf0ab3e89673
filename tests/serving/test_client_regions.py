"""Which tensors of a call go through shared memory: real segments, and the server's own table of regions."""

import numpy as np
import pytest

from serving.client_memory import SegmentPool
from serving.client_regions import LARGE_BYTES, Regions
from serving.errors import InferenceFailed, InvalidInput, PermissionDenied, ServerUnreachable
from serving.shared_memory import SharedMemory
from serving.types import InferRequest, InferResponse, OutputTensor, Region

LARGE = np.arange(LARGE_BYTES // 4, dtype=np.float32)
SMALL = np.ones(3, np.float32)


class Server:
    """What a server does with segments, and what it was told."""

    def __init__(self):
        self.memory, self.refuses = SharedMemory(), None

    def register(self, name, size):
        if self.refuses is not None:
            raise self.refuses
        self.memory.register(name, f"/{name}", size)

    @property
    def known(self):
        return {entry.name for entry in self.memory.status("")}


@pytest.fixture
def server():
    server = Server()
    yield server
    for name in server.known:
        server.memory.unregister(name)


@pytest.fixture
def regions(server):
    return Regions(SegmentPool(server.register, server.memory.unregister), "auto", "here")


def request(**inputs):
    return InferRequest(model="m", inputs=inputs)


def answer(**arrays):
    outputs = [OutputTensor(name=name, datatype="FP32", shape=a.shape, data=a) for name, a in arrays.items()]
    return InferResponse(model="m", version="1", outputs=tuple(outputs))


def test_large_inputs_are_seen_by_the_server_and_small_ones_stay(regions, server):
    lease = regions.lease(request(x=LARGE, y=SMALL), ("z",))
    assert set(lease.inputs) == {"x"}
    np.testing.assert_array_equal(server.memory.view(lease.inputs["x"], LARGE.dtype, LARGE.shape), LARGE)
    assert regions.lease(request(y=SMALL), ("z",)) is None
    regions.drop(lease)


def test_outputs_get_room_once_their_size_is_known(regions, server):
    asked = request(y=SMALL)
    assert regions.lease(asked, ("z", "w")) is None
    regions.outputs(answer(z=LARGE, w=SMALL), asked, None)
    lease = regions.lease(asked, ("z", "w"))
    rooms = {output.name: output.region for output in lease.request.outputs}
    assert rooms["z"].byte_size >= LARGE.nbytes
    assert rooms["w"] is None
    server.memory.place(rooms["z"], LARGE + 1)
    there = OutputTensor(name="z", datatype="FP32", shape=LARGE.shape, data=None, region=rooms["z"])
    response = InferResponse(model="m", version="1", outputs=(there,))
    np.testing.assert_array_equal(regions.outputs(response, asked, lease)["z"], LARGE + 1)
    # Other shapes are another question; a smaller answer does not take the room away.
    assert regions.lease(request(y=np.ones(4, np.float32)), ("z",)) is None
    regions.outputs(answer(z=LARGE[: len(LARGE) // 2]), asked, None)
    again = regions.lease(asked, ("z",))
    assert again.request.outputs[0].region.byte_size == rooms["z"].byte_size
    regions.drop(again)


def test_segments_are_used_again_after_an_answer_and_not_after_a_failure(regions, server):
    asked = request(x=LARGE)
    first = regions.lease(asked, ())
    (name,) = first.segments
    regions.outputs(answer(z=SMALL), asked, first)
    second = regions.lease(asked, ())
    assert set(second.segments) == {name}
    # It may still be written to: the server forgets it, and the next call has another.
    regions.drop(second)
    assert name not in server.known
    third = regions.lease(asked, ())
    assert name not in third.segments
    regions.outputs(answer(z=SMALL), asked, third)
    regions.clear()
    assert server.known == set()


def test_two_calls_at_once_have_two_segments(regions):
    leases = [regions.lease(request(x=LARGE + n), ()) for n in range(2)]
    assert leases[0].segments.keys().isdisjoint(leases[1].segments)
    assert not regions.wait_idle(0.0)
    for lease in leases:
        regions.drop(lease)
        regions.drop(lease)  # once only
    assert regions.wait_idle(0.0)


@pytest.mark.parametrize("error", [PermissionDenied("not on this host"), InvalidInput("no such key")])
def test_a_server_that_takes_no_memory_gets_messages(regions, server, caplog, error):
    server.refuses = error
    assert regions.lease(request(x=LARGE), ()) is None
    assert f"here: goes on without shared memory: {error}" in caplog.text
    # It is not asked again.
    server.refuses = None
    assert regions.lease(request(x=LARGE), ()) is None
    assert server.known == set()
    assert regions.wait_idle(0.0)


def test_memory_that_was_asked_for_is_an_error_where_there_is_none(server):
    regions = Regions(SegmentPool(server.register, server.memory.unregister), True, "here")
    lease = regions.lease(request(y=SMALL), ())
    assert set(lease.inputs) == {"y"}
    regions.drop(lease)
    server.refuses = PermissionDenied("not on this host")
    with pytest.raises(PermissionDenied, match="not on this host"):
        regions.lease(request(y=SMALL), ())
    assert regions.wait_idle(0.0)


def test_a_server_that_is_gone_changes_nothing(regions, server):
    server.refuses = ServerUnreachable("gone")
    with pytest.raises(ServerUnreachable):
        regions.lease(request(x=LARGE), ())
    server.refuses = None
    lease = regions.lease(request(x=LARGE), ())
    assert set(lease.inputs) == {"x"}
    regions.drop(lease)


def test_an_answer_in_memory_of_others_is_refused(regions, server):
    asked = request(x=LARGE)
    for lease in (None, regions.lease(asked, ())):
        there = OutputTensor(name="z", datatype="FP32", shape=(3,), data=None, region=Region("other", 12))
        with pytest.raises(
            InferenceFailed, match="output 'z' lies in shared memory 'other', which this call has not"
        ):
            regions.outputs(InferResponse(model="m", version="1", outputs=(there,)), asked, lease)
    assert server.known == set()
    assert regions.wait_idle(0.0)
