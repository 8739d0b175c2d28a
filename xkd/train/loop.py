"""The steps of a run on one rank, and what is logged, probed and saved between them."""

from importlib.metadata import version

from xkd import __version__
from xkd.pipelines.loader import Batch, Loader
from xkd.train import run_directory
from xkd.train.engine import precision_of
from xkd.train.meter import Meter, memory
from xkd.train.metrics import MetricsWriter
from xkd.train.pictures import Pictures
from xkd.train.saving import Saver
from xkd.train.stopping import REQUESTS, StopRequests, reason
from xkd.train.task import Probe
from xkd.train.trainer import Stopped, Trainer
from xkd.train.utilisation import Utilisation


class TooManySubstituted(Stopped):
    """Too many of the epoch's samples are damaged."""


class NotSaved(Stopped):
    """The checkpoint that the run ends with could not be written."""


class Loop:
    """The rest of a run, from `step` to `total`; `substituted` clips of the epoch under way were replaced before."""

    def __init__(
        self,
        trainer: Trainer,
        loader: Loader,
        probe: Probe | None,
        pictures: Pictures | None,
        metrics: MetricsWriter,
        utilisation: Utilisation,
        requests: StopRequests,
        *,
        step: int,
        total: int,
        substituted: int,
    ):
        self._config = config = trainer.config
        self._trainer, self._loader, self._metrics = trainer, loader, metrics
        self._probe, self._pictures = probe, pictures
        self._requests, self._progress = requests, trainer.progress
        self._step, self._total, self._substituted = step, total, substituted
        self._meter = Meter(loader, utilisation, clips_per_step=config.train.global_batch, step=step)
        self._saver = Saver(config, trainer.place)
        self._failures_told = 0
        every = config.train.milestone_every_epochs
        self._milestone_steps = max(1, round(every * len(loader))) if every else None

    def run(self) -> tuple[int, str | None]:
        """Takes the steps, and saves after the last. Returns how many are done, and what asked to stop before all were.

        Raises Stopped, on every rank, where the run cannot go on.
        """
        try:
            asked = self._take_steps()
        except Stopped:
            self._saver.wait()
            raise
        self._saver.wait()
        self._tell_failures()
        if self._step in self._saver.failures:
            raise NotSaved(self._saver.failures[self._step])
        self._requests.fulfil()
        return self._step, asked

    def _take_steps(self) -> str | None:
        if self._probe and self._step == 0 and self._probe.is_due(0):
            self._metrics.write(0, self._probed())
        while self._step < self._total:
            for batch in self._loader:
                numbers = self._trainer.step(batch, self._step, riders=self._requests.flags())
                asked = reason({request: numbers.pop(request) for request in REQUESTS})
                self._step += 1
                self._progress.enter("log", self._step)
                self._substituted += round(numbers["substituted"])
                self._metrics.advance()
                self._tell_failures()
                self._report(numbers)
                self._draw(batch)
                self._check_substituted()
                last = asked or self._step == self._total
                if last or self._step % self._config.train.checkpoint_every == 0 or self._at_milestone:
                    self._save()
                if last:
                    return asked if self._step < self._total else None
                self._progress.enter("data")
            self._substituted = 0
            self.record_damage()

    @property
    def _at_milestone(self) -> bool:
        return self._milestone_steps is not None and self._step % self._milestone_steps == 0

    def _report(self, numbers: dict[str, float]) -> None:
        """Writes a row where one is due; with it, what a probe finds where that is."""
        last = self._step == self._total
        probe_is_due = self._probe is not None and (last or self._probe.is_due(self._step))
        if not (probe_is_due or last or self._step % self._config.train.log_every == 0):
            return
        so_far = {"epoch": self._step / len(self._loader), "substituted": self._substituted}
        saving = {"checkpoint_stall_seconds": self._saver.stall_seconds, "checkpoint_failures": len(self._saver.failures)}
        row = numbers | self._meter.rates(self._step) | memory() | so_far | saving
        self._metrics.write(self._step, row | (self._probed() if probe_is_due else {}))

    def _probed(self) -> dict[str, float]:
        self._progress.enter("probe")
        found = self._probe.measure(self._trainer.weights())
        self._meter.restart(self._step)
        self._progress.enter("log")
        return found

    def _draw(self, batch: Batch) -> None:
        """Shows pictures where they are due."""
        if self._pictures is None or not self._pictures.is_due(self._step):
            return
        self._progress.enter("pictures")
        drawn = self._pictures.draw(batch, self._trainer.weights())
        self._metrics.show(self._step, drawn.pictures)
        self._metrics.say([f"WARNING at step {self._step}: {drawn.failure}"] if drawn.failure else [])
        self._meter.restart(self._step)
        self._progress.enter("log")

    def _check_substituted(self) -> None:
        """Raises TooManySubstituted, on every rank, where more of the epoch's clips were replaced than `data.max_bad_share`."""
        if self._substituted > self._loader.max_substituted:
            self._loader.share()
            listed = self._config.run_dir / run_directory.QUARANTINE
            words = self._loader.too_many(self._substituted)
            raise TooManySubstituted(f"{words}; {listed} lists all: delete it when they are mended")

    def _save(self) -> None:
        """Begins to save. What the checkpoint lacks of the loader's state, the damaged samples, is in the run directory before."""
        self._progress.enter("checkpoint")
        config, place = self._config, self._trainer.place
        state = {name: value for name, value in self._loader.state_dict().items() if name != "quarantine"}
        self.record_damage()
        facts = {
            "step": self._step,
            "epoch": self._step / len(self._loader),
            "milestone": self._at_milestone,
            "world_size": place.world_size,
            "zero_stage": config.deepspeed.zero_stage,
            "precision": precision_of(config),
            "versions": {"xkd": __version__} | {name: version(name) for name in ("torch", "deepspeed")},
        }
        self._saver.save(self._trainer, facts | {"counts": self._trainer.counts, "loader": state})

    def _tell_failures(self) -> None:
        """Warns of each checkpoint that could not be written."""
        new = list(self._saver.failures.values())[self._failures_told :]
        self._metrics.say(f"WARNING: {failure}; those before are kept" for failure in new)
        self._failures_told += len(new)

    def record_damage(self) -> None:
        """Leaves the damaged samples that the ranks have found in the run directory; every rank must call it."""
        self._loader.share()
        if self._trainer.place.rank == 0:
            run_directory.write_quarantine(self._config.run_dir, self._loader.quarantine)
