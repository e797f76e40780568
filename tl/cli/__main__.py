"""``python -m tl.cli``."""

import sys

from tl.cli.entry import main

sys.exit(main())
