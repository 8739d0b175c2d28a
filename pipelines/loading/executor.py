"""Runs the graph: batches of named inputs in, batches of tensors out, in the same order."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from nvidia.dali import Pipeline

from xkd.pipelines.views.draws import Parameters
from xkd.pipelines.views.example import ExampleConfig
from xkd.pipelines.views.graph import DEVICES, build_graph, frame_inputs, output_names

RAGGED = ("video", "frames.decoded")  # inputs whose length is not that of the others in a batch


class Executor:
    """A queue whose other end DALI's threads work at; `len` is the number of batches put and not yet taken."""

    def __init__(self, config: ExampleConfig, *, batch_size: int, device: str):
        self._names = output_names(config)
        self._gpu = DEVICES[device].gpu
        self._pipeline = build_graph(config, batch_size=batch_size, device=device)
        self._under_way = 0

    def __len__(self) -> int:
        return self._under_way

    @property
    def closed(self) -> bool:
        return self._pipeline is None

    def put(self, examples: Sequence[Parameters]) -> None:
        """Start on a batch of at most `batch_size` examples; returns at once."""
        feed(self._pipeline, examples, examples[0])
        self._pipeline.schedule_run()
        self._under_way += 1

    def take(self) -> dict[str, torch.Tensor]:
        """The oldest batch, waited for; its memory is DALI's, kept for as long as a tensor refers to it.

        On a GPU torch's current stream waits for it in place of the caller, who sees to it that the tensors outlive the work that
        reads them (loans.py). Raises RuntimeError if DALI could not make it. After any exception the executor is closed.
        """
        try:
            outputs = self._pipeline.share_outputs(torch.cuda.current_stream() if self._gpu else None)
            tensors = {name: torch.from_dlpack(output.as_tensor()) for name, output in zip(self._names, outputs, strict=True)}
            self._pipeline.release_outputs()
        except BaseException:  # an interrupted wait too leaves it unknown which batch is the next one
            self.close()
            raise
        self._under_way -= 1
        return tensors

    def drain(self) -> None:
        """Wait for what is under way and drop it."""
        while self._under_way:
            self.take()

    def close(self) -> None:
        """End DALI's threads; tensors already taken stay valid."""
        if self._pipeline is not None:
            self._pipeline._shutdown()  # what its __del__ does, which a traceback may put off
        self._pipeline = None
        self._under_way = 0


def feed(pipeline: Pipeline, examples: Sequence[Parameters], names: Iterable[str]) -> None:
    """Hand a batch of these inputs to a graph."""
    for name in names:
        values = [example[name] for example in examples]
        if name == "frames":
            parts = [frame_inputs(numbers) for numbers in values]
            feed(pipeline, parts, parts[0])
        else:
            pipeline.feed_input(name, values if name in RAGGED else np.stack(values))
