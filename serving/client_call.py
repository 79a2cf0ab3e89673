"""A call on its way: its tries, its end, and the handle that the caller holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Protocol

from serving.errors import Cancelled, ServingError
from serving.retry import Arrays, Course, Endpoint, Step
from serving.types import InferRequest


class Session(Protocol):
    """What a call needs of its session.

    Attributes:
        mode: "sync", "async" or "pseudo-async".
    """

    mode: str

    def in_thread(self, work: Callable[[], None]) -> None:
        """Run something on one of the session's threads; raises a `ServingError` if it is closed."""

    def count(self, name: str) -> None:
        """Add one to a counter."""


class Call:
    """One call, from its first try to its end; its future ends exactly once.

    Args:
        session: that it belongs to.
        request: sent with every try.
        course: where to try.
    """

    def __init__(self, session: Session, request: InferRequest, course: Course) -> None:
        self.session, self.request, self.course = session, request, course
        self._future: Future[Arrays] | None = None
        self._current: Future[Arrays] | None = None

    @property
    def future(self) -> Future[Arrays]:
        """The end of the call; made at the first look, by `acquire`, before another thread knows of the call."""
        if self._future is None:
            self._future = Future()
        return self._future

    @property
    def _is_cancelled(self) -> bool:
        return self._future is not None and self._future.cancelled()

    def cancel(self) -> bool:
        """Give the call up; false if it had ended."""
        given_up = self.future.cancel()
        current = self._current
        if given_up and current is not None:
            current.cancel()
        return given_up

    def launch(self) -> None:
        """The first try without a thread of ours; whatever comes after a failure has one."""
        step = self.course.first()
        if not step.endpoint.is_verified:
            self.session.in_thread(lambda: self._run(step))
            return
        try:
            inner = self._begin(step.endpoint)
        except ServingError as error:
            self._go_on(error)
        except BaseException as error:
            self._fail(error)
        else:
            inner.add_done_callback(self._landed)

    def _landed(self, inner: Future[Arrays]) -> None:
        if inner.cancelled() or self._is_cancelled:
            self.future.cancel()
            return
        error = inner.exception()
        if error is None:
            self.course.answered()
            self._answer(inner.result())
        elif isinstance(error, ServingError):
            self._go_on(error)
        else:
            self._fail(error)

    def _go_on(self, error: ServingError) -> None:
        try:
            self.session.in_thread(lambda: self._resume(error))
        except ServingError:
            # The session was closed meanwhile.
            self._fail(error)

    def _resume(self, error: ServingError) -> None:
        step = self.course.after(error)
        if step is None:
            self._fail(error)
        else:
            self._run(step)

    def run(self) -> None:
        """All tries on this thread."""
        self._run(self.course.first())

    def _run(self, first: Step) -> None:
        try:
            arrays = self.evaluate(first)
        except CancelledError:
            self.future.cancel()
        except BaseException as error:  # whatever it was, who waits must hear of it
            self._fail(error)
        else:
            self._answer(arrays)

    def evaluate(self, first: Step | None = None) -> Arrays:
        """All tries on this thread, past the future.

        Args:
            first: where to go on; `None` to begin.

        Raises:
            ServingError: no try brought an answer.
            CancelledError: the call was given up.
        """
        step = first or self.course.first()
        while True:
            if step.pause and self._is_cancelled_within(step.pause):
                raise CancelledError
            try:
                return self._try(step.endpoint)
            except ServingError as error:
                following = self.course.after(error)
                if following is None:
                    raise
                step = following

    def _is_cancelled_within(self, seconds: float) -> bool:
        """Pause between two tries."""
        try:
            self.future.exception(seconds)
        except TimeoutError:
            return False
        except CancelledError:
            pass
        return True

    def _try(self, endpoint: Endpoint) -> Arrays:
        if self._is_cancelled:
            raise CancelledError
        if not endpoint.is_verified:
            endpoint.verify()
        is_sync = self.session.mode == "sync"
        arrays = endpoint.infer(self.request) if is_sync else self._begin(endpoint).result()
        self.course.answered()
        return arrays

    def _begin(self, endpoint: Endpoint) -> Future[Arrays]:
        self._current = inner = endpoint.start(self.request)
        if self._is_cancelled:
            inner.cancel()
        return inner

    def _answer(self, arrays: Arrays) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(arrays)

    def _fail(self, error: BaseException) -> None:
        if self.future.set_running_or_notify_cancel():
            # Before the waiting side wakes up and looks.
            self.session.count("failures")
            self.future.set_exception(error)


class Handle:
    """A call on its way, from `InferenceSession.acquire`; its answer is given once, by `produce`."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._taken = False
        self._lock = threading.Lock()

    def done(self) -> bool:
        """Whether `produce` would return at once."""
        return self._call.future.done()

    def cancel(self) -> bool:
        """Give the call up; false if it had ended already."""
        return self._call.cancel()

    def take(self) -> Arrays:
        """Wait for the answer; for `InferenceSession.produce`.

        Raises:
            ServingError: the call failed, was cancelled, or has been taken before.
        """
        with self._lock:
            if self._taken:
                raise ServingError("this call has been produced already; an answer is given once")
            self._taken = True
        try:
            return self._call.future.result()
        except CancelledError:
            raise Cancelled("the call was cancelled") from None

    def belongs_to(self, session: Session) -> bool:
        """Whether a session made it."""
        return self._call.session is session
