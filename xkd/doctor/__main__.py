"""`python -m xkd.doctor [CONFIG] [key=value ...]`, the module that launchers start on every rank."""

import sys

from xkd.cli import main

sys.exit(main(["doctor", *sys.argv[1:]]))
