"""`python -m xkd.eval CONFIG [key=value ...]`, the module that launchers start on every rank."""

import sys

from xkd.cli import main

sys.exit(main(["eval", *sys.argv[1:]]))
