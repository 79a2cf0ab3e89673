"""Log and trace settings of the protocol, without a server."""

import logging

import pytest

from serving.errors import InvalidInput, Unimplemented
from serving.settings import LOG_DEFAULTS, TRACE, Settings


@pytest.fixture(autouse=True)
def _level():
    """The level of the log is that of the process."""
    before = logging.getLogger("serving").level
    yield
    logging.getLogger("serving").setLevel(before)


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, logging.INFO),
        ({"log_verbose_level": 2}, logging.DEBUG),
        ({"log_info": False}, logging.WARNING),
        ({"log_info": False, "log_warning": False}, logging.ERROR),
        ({"log_info": False, "log_warning": False, "log_error": False}, logging.CRITICAL),
        # What is wanted most decides.
        ({"log_warning": False}, logging.INFO),
    ],
)
def test_levels(changes, level):
    settings = Settings()
    assert settings.log(changes) == {**LOG_DEFAULTS, **changes}
    assert logging.getLogger("serving").level == level
    # What was set stays; others are as they were.
    assert settings.log({}) == {**LOG_DEFAULTS, **changes}


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"log_speed": True}, InvalidInput, "log setting 'log_speed'; allowed are log_file, "),
        ({"log_info": 1}, InvalidInput, "'log_info' is 1; a value of type bool"),
        ({"log_verbose_level": True}, InvalidInput, "'log_verbose_level' is True; a value of type int"),
        ({"log_file": "serve.log"}, Unimplemented, "only '' is offered"),
        ({"log_format": "ISO8601"}, Unimplemented, "only 'default' is offered"),
    ],
)
def test_log_settings_that_are_refused_change_nothing(changes, error, text):
    settings = Settings()
    with pytest.raises(error, match=text):
        settings.log({"log_error": False, **changes})
    assert settings.log({}) == LOG_DEFAULTS


def test_tracing_is_off_and_stays_so():
    settings = Settings()
    assert settings.trace({}) == TRACE
    # To say what is the case, or to ask for the default, is no change.
    assert settings.trace({"trace_level": ["OFF"], "trace_rate": []}) == TRACE
    with pytest.raises(Unimplemented, match=r"'trace_level': tracing is not offered, it stays \['OFF'\]"):
        settings.trace({"trace_level": ["TIMESTAMPS"]})
    with pytest.raises(InvalidInput, match="trace setting 'trace_speed'; allowed are trace_level"):
        settings.trace({"trace_speed": ["1"]})
    # What is handed out is a copy.
    settings.trace({})["trace_level"].append("TIMESTAMPS")
    assert settings.trace({})["trace_level"] == ["OFF"]
