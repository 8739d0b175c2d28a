"""Other loaders of the same shards, built of widely used libraries, that the loader is measured beside."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module

from xkd.benchmarks.needs import TORCH, Needs
from xkd.benchmarks.peers.work import Epoch, Work


@dataclass(frozen=True)
class Peer:
    """A loader: `module:function` of this package, and what it needs."""

    target: str
    needs: Needs

    def open(self, work: Work) -> AbstractContextManager[Epoch]:
        module, function = self.target.split(":")
        return getattr(import_module(f"{__name__}.{module}"), function)(work)


WEBDATASET = Needs({"webdataset": "webdataset"})
TORCHCODEC = Needs({"torchcodec.decoders": "torchcodec"})
PEERS = {
    "webdataset+torchcodec": Peer("webdataset:torchcodec", WEBDATASET | TORCHCODEC | TORCH),
    "webdataset+pyav": Peer("webdataset:pyav", WEBDATASET | Needs({"av": "av"}) | TORCH),
    "dali-reader": Peer("dali_reader:webdataset", TORCH),
    "torchcodec+opencv": Peer("opencv:torchcodec", TORCHCODEC | Needs({"cv2": "opencv-python-headless"}) | TORCH),
}
