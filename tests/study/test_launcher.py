from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tl.study import launcher


def test_the_command_takes_the_processs_place() -> None:
    done = subprocess.run(
        [sys.executable, launcher.__file__, str(os.getpid()), sys.executable, "-c", "print(7)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "7\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's kernel does it")
def test_the_command_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    child = "import time, os; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    code = (
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, {launcher.__file__!r}, str(os.getpid()), "
        f"sys.executable, '-c', {child!r}])\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    until = time.monotonic() + 600
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
    pid = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    while Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
