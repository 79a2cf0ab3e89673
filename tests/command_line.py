"""Commands as users give them, in this process."""

from recon.cli import USER_ERROR, main


def run(*words):
    """Exit code of a command."""
    return main([str(word) for word in words])


def error_of(capsys, *words):
    """What a command that must fail says: one line."""
    capsys.readouterr()
    assert run(*words) == USER_ERROR
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]
