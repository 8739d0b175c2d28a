"""`xkd bench sweep`: which settings make loading, or a training step, fastest here."""


def main(arguments=None) -> int:
    from xkd.benchmarks.sweep.command import main  # not for the processes that a sweep starts

    return main(arguments)
