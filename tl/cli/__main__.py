"""``python -m tl.cli``."""

import sys

from tl.cli import main

sys.exit(main())
