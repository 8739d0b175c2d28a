"""`python -m xkd` is `xkd`."""

import sys

from xkd.cli import main

sys.exit(main())
