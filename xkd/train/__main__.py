"""`python -m xkd.train CONFIG [key=value ...]`, the module that launchers start on every rank."""

import signal
import sys

from xkd.cli import main

for number in (signal.SIGTERM, signal.SIGUSR1):  # launchers under `xkd launch` ignore them; a rank answers for itself
    signal.signal(number, signal.SIG_DFL)
sys.exit(main(["train", *sys.argv[1:]]))
