"""Check arguments without running them: ``python -m tl.cli.checking`` reads lists of them.

The lists come as JSON on standard input, one of ``fit``'s arguments for each run. The answer is a
JSON list on standard output: ``null``, or the error line.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout

from tl.cli import main


def refusal(arguments: list[str]) -> str | None:
    """Return the line with which ``fit`` refuses arguments, or ``None``.

    Args:
        arguments: What follows ``fit`` on the command line.
    """
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        code = main(["fit", *arguments, "--print_config"])
    if code == 0:
        return None
    lines = [line for line in said.getvalue().splitlines() if line.startswith("tl: ")]
    return lines[-1].removeprefix("tl: ") if lines else None


if __name__ == "__main__":
    answers = [refusal(arguments) for arguments in json.load(sys.stdin)]
    print(json.dumps(answers))  # noqa: T201
