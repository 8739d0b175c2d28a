"""`python -m xkd.train CONFIG [key=value ...]`, the module that launchers start on every rank."""

import sys

from xkd.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
