"""`python -m xkd.eval CONFIG [key=value ...]`, the module that launchers start on every rank."""

import sys

from xkd.cli import main_of_rank

sys.exit(main_of_rank("eval"))
