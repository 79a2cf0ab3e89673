"""Where a call goes after a failed try."""

import pytest

from serving import retry
from serving.errors import (
    STATUS,
    ArtifactError,
    DeadlineExceeded,
    InferenceFailed,
    ModelNotFound,
    ModelNotReady,
    Overloaded,
    ServerUnreachable,
    ServingError,
)
from serving.retry import Counters, Course, Health, Policy, Verdict, verdict

AGAIN = {ServerUnreachable, ModelNotReady, Overloaded}
ELSEWHERE = {DeadlineExceeded, InferenceFailed, ModelNotFound, ArtifactError}


class Place:
    def __init__(self, name, *, is_fallback=False):
        self.name, self.is_fallback, self.is_verified = name, is_fallback, True


A, B, LOCAL = Place("a"), Place("b"), Place("local", is_fallback=True)


@pytest.fixture(autouse=True)
def verified():
    for place in (A, B, LOCAL):
        place.is_verified = True


def names(health, *failures, policy=None):
    """The places of the tries of one call that fails like this, and the counters."""
    counters = Counters()
    course = Course(health, policy or Policy(tries=2, pause=0.001), counters)
    steps = [course.first()]
    for error in failures:
        step = course.after(error)
        if step is None:
            break
        steps.append(step)
    return "".join(step.endpoint.name[0] for step in steps), counters.snapshot()


@pytest.mark.parametrize("kind", list(STATUS), ids=lambda kind: kind.__name__)
def test_every_error_is_judged(kind):
    expected = Verdict.AGAIN if kind in AGAIN else Verdict.ELSEWHERE if kind in ELSEWHERE else Verdict.FINAL
    assert verdict(kind("text")) is expected


@pytest.mark.parametrize(
    ("error", "path"),
    [
        (ServerUnreachable("gone"), "aabbl"),
        (Overloaded("full", 0.0), "aabbl"),
        (Overloaded("never here again", -1.0), "abl"),
        (Overloaded("come back tomorrow", 86_400.0), "abl"),
        (DeadlineExceeded("late"), "abl"),
        (InferenceFailed("broken"), "abl"),
        (ServingError("whatever"), "a"),
    ],
)
def test_paths(error, path):
    found, counts = names(Health([A, B, LOCAL]), *[error] * 10)
    # The fallback itself is tried as often as a server.
    assert found.rstrip("l") + "l" * ("l" in found) == path
    assert counts.failovers == ("b" in path)
    assert counts.fallbacks == path.count("l")


def test_a_failed_server_is_passed_over_for_a_while(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(retry.time, "monotonic", lambda: now[0])
    health = Health([A, B])
    assert names(health, *[ServerUnreachable("gone")] * 2)[0] == "aab"
    assert not A.is_verified
    assert names(health)[0] == "b"
    now[0] += retry.COOL_SECONDS + 0.1
    assert names(health)[0] == "a"


def test_a_request_that_breaks_the_program_does_not_take_the_server_from_the_others():
    health = Health([A, B, LOCAL])
    names(health, *[InferenceFailed("broken")] * 3)
    assert names(health)[0] == "a"


def test_with_a_fallback_no_failed_server_is_waited_for():
    health = Health([A, B, LOCAL])
    names(health, *[DeadlineExceeded("late")] * 2)
    found, counts = names(health)
    assert found == "l"
    assert counts.fallbacks == 1
    # Without one they are all there is.
    health = Health([A, B])
    names(health, *[DeadlineExceeded("late")] * 2)
    assert names(health, DeadlineExceeded("late"))[0] == "ab"


def test_pauses_grow_and_honour_the_server():
    course = Course(Health([A]), Policy(tries=4, pause=0.1), Counters())
    course.first()
    pauses = [course.after(ServerUnreachable("gone")).pause for _ in range(3)]
    for pause, whole in zip(pauses, (0.1, 0.2, 0.4), strict=True):
        assert whole / 2 <= pause <= whole
    course = Course(Health([A]), Policy(tries=4, pause=0.1), Counters())
    course.first()
    assert course.after(Overloaded("full", 1.5)).pause == 1.5
