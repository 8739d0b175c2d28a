import ctypes

import pytest

from xkd.pipelines.media import nvdec
from xkd.pipelines.media.nvdec import Capabilities

HEVC = Capabilities("hevc", True, 7, 144, 144, 8192, 8192)


def test_the_structure_has_the_size_that_the_driver_expects():
    assert ctypes.sizeof(nvdec._DecodeCaps) == 88


@pytest.mark.parametrize(
    ("height", "width", "reason"),
    [
        (144, 144, None),
        (8192, 8192, None),
        (128, 176, "176x128 is below NVDEC's least for hevc, 144x144"),
        (176, 128, "128x176 is below NVDEC's least for hevc, 144x144"),
        (144, 8208, "8208x144 is above NVDEC's most for hevc, 8192x8192"),
    ],
)
def test_a_size_is_refused_with_the_limit_it_breaks(height, width, reason):
    assert HEVC.refuses(height, width) == reason


def test_a_codec_that_is_not_supported_is_refused_at_any_size():
    assert Capabilities("av1", False, 0, 0, 0, 0, 0).refuses(256, 256) == "NVDEC here has no av1"


def test_a_missing_library_is_named():
    assert "libsurely-not-there.so" in nvdec.missing_library("libsurely-not-there.so")
