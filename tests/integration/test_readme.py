"""Every block of the README runs as pasted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def readme_blocks() -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / "README.md").read_text())


def test_readme_has_blocks_of_both_kinds() -> None:
    assert {language for language, _ in readme_blocks()} == {"sh", "python"}


def test_make_targets_of_the_readme_exist() -> None:
    targets = re.findall(r"^make (\w+)", "\n".join(text for _, text in readme_blocks()), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.slow
def test_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    pytest.importorskip("acts", reason="the README simulates")
    pytest.importorskip("pythia8mc", reason="the README simulates")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    ran = 0
    for language, text in readme_blocks():
        if "make demo" in text:
            continue  # makes an environment of its own
        command = [sys.executable, "-c", text] if language == "python" else ["bash", "-euc", text]
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{text}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
        ran += 1
    assert ran >= 3
    assert (tmp_path / "out/tracks.root").stat().st_size > 10_000
    assert (tmp_path / "out/display.html").exists()
