"""The event loop: overlap, order, errors and the end."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest

from recon.engines import connect
from recon.errors import ConfigError, DataError, EngineError, PipelineError
from recon.pipeline import EngineModule, Job


class Event(NamedTuple):
    number: int


def events(n):
    return [Event(100 + index) for index in range(n)]


class Call:
    def __init__(self, future):
        self.future = future

    def cancel(self):
        return self.future.cancel()


class Service:
    """An engine that doubles numbers; `delay(value)` seconds a call, all calls at once."""

    def __init__(self, delay=lambda value: 0.0):
        self.delay, self.produced, self.calls = delay, [], []
        self.pool = ThreadPoolExecutor(64)

    def acquire(self, inputs):
        call = Call(self.pool.submit(self._answer, inputs["x"]))
        self.calls.append(call)
        return call

    def _answer(self, x):
        time.sleep(self.delay(int(x[0])))
        if int(x[0]) == 113:
            raise ValueError("thirteen is not served")
        return {"y": 2 * x}

    def produce(self, handle):
        outputs = handle.future.result()
        self.produced.append(int(outputs["y"][0]))
        return outputs

    def close(self):
        self.pool.shutdown(cancel_futures=True)


@pytest.fixture
def service():
    service = Service()
    yield service
    service.close()


def module(service):
    return EngineModule(
        service, lambda event: {"x": np.array([event.number])}, lambda event, outputs: int(outputs["y"][0])
    )


def results_of(job):
    found = []
    job.run(lambda event, results: found.append((event.number, results)))
    return found


def test_a_slow_event_does_not_stop_the_others(service):
    release = threading.Event()
    done = []

    class Slow:
        def acquire(self, event):
            return event.number

        def produce(self, event, state):
            if state == 100:
                # Only the others can let it go.
                assert release.wait(10)
            done.append(state)
            if len(done) == 6:
                release.set()
            return state

    found = results_of(Job(events(8), {"slow": Slow()}, streams=2))
    assert done.index(100) >= 6
    assert [results["slow"] for _, results in found] == list(range(100, 108))


@pytest.mark.parametrize("streams", [1, 3, 50])
def test_every_event_once_whatever_the_streams(service, streams):
    service.delay = lambda value: 0.001 * (value * 7 % 5)
    job = Job(iter(events(13)), {"double": module(service)}, streams=streams)
    assert results_of(job) == [(n, {"double": 2 * n}) for n in range(100, 113)]
    assert sorted(service.produced) == [2 * n for n in range(100, 113)]
    assert (job.report.read, job.report.done) == (13, 13)
    assert job.report.wait_seconds["double"] > 0
    assert job.report.seconds > 0


def test_modules_of_an_event_overlap():
    first, second = Service(lambda value: 0.2), Service(lambda value: 0.2)
    modules = {"first": module(first), "second": module(second)}
    start = time.perf_counter()
    (found,) = results_of(Job(events(1), modules))
    assert time.perf_counter() - start < 0.38
    assert found == (100, {"first": 200, "second": 200})
    first.close()
    second.close()


def test_wall_time_of_many_slow_calls_is_about_one():
    service = Service(lambda value: 0.3)
    start = time.perf_counter()
    found = results_of(Job(events(10), {"double": module(service)}, streams=10))
    wall = time.perf_counter() - start
    assert len(found) == 10
    assert wall < 0.9
    job = Job(events(3), {"double": module(service)}, streams=1)
    results_of(job)
    assert job.report.seconds > 0.9
    assert job.report.wait_seconds["double"] > 0.85
    service.close()


def test_an_error_names_the_event_and_what_was_before_it_is_given_out(service):
    job = Job(events(40), {"double": module(service)}, streams=4)
    found = []
    with pytest.raises(
        PipelineError, match=r"event 113 \(entry 13\): module 'double': ValueError: thirteen"
    ) as caught:
        job.run(lambda event, results: found.append(event.number))
    assert found == list(range(100, 113))
    assert (caught.value.number, caught.value.index, caught.value.module) == (113, 13, "double")
    assert isinstance(caught.value.__cause__, ValueError)
    assert job.report.done == 13
    assert job.report.read < 40


def test_an_error_gives_up_the_calls_that_nobody_waits_for():
    class Waiting(Service):
        """Answers only event 100, with an error."""

        def acquire(self, inputs):
            if int(inputs["x"][0]) == 100:
                raise ValueError("the first one")
            call = Call(Future())
            self.calls.append(call)
            return call

    service = Waiting()
    start = time.perf_counter()
    with pytest.raises(PipelineError, match="the first one"):
        results_of(Job(events(20), {"double": module(service)}, streams=4))
    assert time.perf_counter() - start < 5
    assert all(call.future.cancelled() for call in service.calls)
    service.close()


def test_a_consumer_that_leaves_ends_the_job(service):
    service.delay = lambda value: 0.01
    job = Job(iter(events(10_000)), {"double": module(service)}, streams=2)
    results = job.results()
    assert next(results)[0].number == 100
    results.close()
    assert job.report.read < 50
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stream")]
    with pytest.raises(ConfigError, match="runs once"):
        next(job.results())


def test_an_error_of_the_source_comes_after_the_events_before_it(service):
    def source():
        yield from events(5)
        raise DataError("hits.root: entry 5 is broken")

    found = []
    with pytest.raises(DataError, match="entry 5"):
        Job(source(), {"double": module(service)}).run(lambda event, results: found.append(event.number))
    assert found == list(range(100, 105))


def test_an_error_of_the_output_is_the_callers(service):
    def output(event, results):
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        Job(events(50), {"double": module(service)}).run(output)


def test_no_events(service):
    job = Job([], {"double": module(service)})
    assert results_of(job) == []
    assert job.report.read == 0


def test_settings_are_checked(service):
    for modules, streams in (({}, 1), ({"double": module(service)}, 0)):
        with pytest.raises(ConfigError, match="at least one of each"):
            Job([], modules, streams=streams)


def test_engines_are_found_by_their_scheme(tmp_path, monkeypatch):
    info = tmp_path / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[recon.engines]\ntoy = toy_engine:engine\n")
    (tmp_path / "toy_engine.py").write_text(
        "class engine:\n"
        "    def __init__(self, url, *, model, **settings):\n"
        "        if model == 'none':\n            raise RuntimeError('no such model')\n"
        "        self.given = (url, model, settings)\n"
        "    acquire = produce = close = print\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert connect("toy://there", model="m", timeout=3).given == ("toy://there", "m", {"timeout": 3})
    with pytest.raises(EngineError, match=r"engine 'toy://there', model 'none': no such model"):
        connect("toy://there", model="none")
    with pytest.raises(EngineError, match=r"no engine 'carrier-pigeon'; installed are: .*toy"):
        connect("carrier-pigeon://there", model="m")
