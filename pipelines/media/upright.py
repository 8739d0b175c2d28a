"""Turns frames the way they are to be shown, and joins the fields of interlaced ones; all others pass untouched."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type

Timed = tuple[Fraction, Fraction, av.VideoFrame]
Steps = tuple[tuple[str, str], ...]

# One frame for each, from the fields of its neighbours too, and only for frames that are flagged as interlaced.
DEINTERLACE: Steps = (("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),)

# The display matrix [[a, b], [c, d]], which takes the pixel (x, y) to (a x + c y, b x + d y), and what does the same.
TURNS: dict[tuple[int, int, int, int], Steps] = {
    (1, 0, 0, 1): (),
    (-1, 0, 0, 1): (("hflip", ""),),
    (1, 0, 0, -1): (("vflip", ""),),
    (-1, 0, 0, -1): (("hflip", ""), ("vflip", "")),
    (0, 1, -1, 0): (("transpose", "clock"),),
    (0, -1, 1, 0): (("transpose", "cclock"),),
    (0, 1, 1, 0): (("transpose", "cclock_flip"),),
    (0, -1, -1, 0): (("transpose", "clock_flip"),),
}


def upright(timed: Iterator[Timed]) -> Iterator[Timed]:
    """The frames with their (begin, end), in order, each turned as its display matrix says and without comb lines."""
    graph, built_for, spans, interlaced = None, None, deque(), False
    for begin, end, frame in timed:
        interlaced = interlaced or frame.interlaced_frame
        steps = (DEINTERLACE if interlaced else ()) + turn(frame)
        if built_for != (now := (frame.width, frame.height, frame.format.name, steps)):
            yield from _rest(graph, spans)
            graph, built_for = _graph(frame, steps) if steps else None, now
        if graph is None:
            yield begin, end, frame
        else:
            spans.append((begin, end))
            graph.push(frame)
            yield from _ready(graph, spans)
    yield from _rest(graph, spans)


def turn(frame: av.VideoFrame) -> Steps:
    """What the frame's display matrix asks for, to the nearest right angle."""
    # Not frame.side_data: the frame would keep the container that refers to it, and live until a garbage collection.
    data = SideDataContainer(frame).get(Type.DISPLAYMATRIX)
    if data is None:
        return ()
    matrix = np.frombuffer(bytes(data), np.int32)[[0, 1, 3, 4]].astype(float)
    return TURNS.get(tuple(np.rint(matrix / max(1, np.abs(matrix).max())).astype(int).tolist()), ())


def turns_sideways(frame: av.VideoFrame) -> bool:
    return any(name == "transpose" for name, _ in turn(frame))


def _graph(frame: av.VideoFrame, steps: Steps) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, av.time_base)
    )
    graph.link_nodes(source, *(graph.add(*step) for step in steps), graph.add("buffersink")).configure()
    return graph


def _ready(graph: av.filter.Graph, spans: deque) -> Iterator[Timed]:
    """Frames that the graph has done: as many as it was given, in the same order."""
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        yield *spans.popleft(), frame


def _rest(graph: av.filter.Graph | None, spans: deque) -> Iterator[Timed]:
    if graph is not None:
        graph.push(None)
        yield from _ready(graph, spans)
        assert not spans
