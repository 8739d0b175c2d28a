"""XKD-Train: a data and training pipeline for audio-visual self-supervised learning."""

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xkd.encoder.load import FeatureEncoder

__version__ = "0.1.0"

_CHECKOUT = Path(__file__).resolve().parent.parent
_SIBLINGS = ("kernels", "pipelines", "benchmarks", "configs")


class _CheckoutFinder:
    """Finds `xkd.kernels` and the other sibling folders of a source checkout.

    Installed from a wheel, the four packages lie inside `xkd`; in a checkout they stand beside it (see setup.py). This finder
    answers for exactly those four names, so nothing else of the checkout (`tests`, `xkd` itself) becomes importable below `xkd`.
    """

    @staticmethod
    def find_spec(name, path=None, target=None):
        package, _, sibling = name.rpartition(".")
        init = _CHECKOUT / sibling / "__init__.py"
        if package != __name__ or sibling not in _SIBLINGS or not init.exists():
            return None
        return importlib.util.spec_from_file_location(name, init, submodule_search_locations=[str(init.parent)])


def load_encoder(folder: str | Path) -> "FeatureEncoder":
    """The encoders that `xkd export` wrote to a folder; see `xkd.encoder.load`, which is imported only now."""
    from xkd.encoder.load import load_encoder

    return load_encoder(folder)


if (_CHECKOUT / "setup.py").exists():
    sys.meta_path.insert(0, _CheckoutFinder)
