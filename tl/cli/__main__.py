"""``python -m tl.cli``."""

from tl.cli.entry import main

main()
