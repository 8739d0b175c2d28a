"""Asks the NVIDIA driver, through ctypes, for its CUDA version and for the videos that the GPU's decoder (NVDEC) takes."""

import ctypes
from dataclasses import dataclass

CUDA_LIBRARY = "libcuda.so.1"
NVDEC_LIBRARY = "libnvcuvid.so.1"
_CODECS = {"h264": 4, "mjpeg": 5, "hevc": 8, "vp8": 9, "vp9": 10, "av1": 11}  # cudaVideoCodec of cuviddec.h
CODECS = tuple(_CODECS)
_CHROMA_420 = 1


class DriverError(RuntimeError):
    """A call of the CUDA driver failed."""


@dataclass(frozen=True)
class Capabilities:
    """What NVDEC says of 8-bit 4:2:0 video of one codec; the sizes are 0 where it is not supported."""

    codec: str
    supported: bool
    engines: int
    min_width: int
    min_height: int
    max_width: int
    max_height: int

    def refuses(self, height: int, width: int) -> str | None:
        """Why a video of this size cannot be decoded, or None."""
        if not self.supported:
            return f"NVDEC here has no {self.codec}"
        if width < self.min_width or height < self.min_height:
            return f"{width}x{height} is below NVDEC's least for {self.codec}, {self.min_width}x{self.min_height}"
        if width > self.max_width or height > self.max_height:
            return f"{width}x{height} is above NVDEC's most for {self.codec}, {self.max_width}x{self.max_height}"
        return None


class _DecodeCaps(ctypes.Structure):
    """CUVIDDECODECAPS of NVIDIA's Video Codec SDK (cuviddec.h, MIT licence)."""

    _fields_ = (
        ("codec", ctypes.c_int),
        ("chroma_format", ctypes.c_int),
        ("bit_depth_minus_8", ctypes.c_uint),
        ("reserved1", ctypes.c_uint * 3),
        ("is_supported", ctypes.c_ubyte),
        ("num_engines", ctypes.c_ubyte),
        ("output_formats", ctypes.c_ushort),
        ("max_width", ctypes.c_uint),
        ("max_height", ctypes.c_uint),
        ("max_macroblocks", ctypes.c_uint),
        ("min_width", ctypes.c_ushort),
        ("min_height", ctypes.c_ushort),
        ("reserved2", ctypes.c_uint * 11),
    )


def missing_library(name: str) -> str | None:
    """Why a shared library cannot be loaded, or None."""
    try:
        ctypes.CDLL(name)
    except OSError as error:
        return str(error)
    return None


def missing_device() -> str | None:
    """Why there is no CUDA device to use, or None; makes no CUDA context."""
    missing = missing_library(CUDA_LIBRARY)
    if missing:
        return missing
    cuda, count = ctypes.CDLL(CUDA_LIBRARY), ctypes.c_int()
    code = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    if code:
        return f"the CUDA driver answers with error {code}"
    return None if count.value else "the CUDA driver lists no device"


def device_count() -> int:
    """CUDA devices that this process may use. Raises DriverError, and OSError where there is no driver."""
    cuda, count = ctypes.CDLL(CUDA_LIBRARY), ctypes.c_int()
    _call(cuda.cuInit, 0)
    _call(cuda.cuDeviceGetCount, ctypes.byref(count))
    return count.value


def cuda_version() -> tuple[int, int]:
    """The newest CUDA that the driver runs, (major, minor). Raises DriverError, and OSError where there is no driver."""
    cuda, version = ctypes.CDLL(CUDA_LIBRARY), ctypes.c_int()
    _call(cuda.cuDriverGetVersion, ctypes.byref(version))
    return version.value // 1000, version.value % 1000 // 10


def capabilities(codec: str, device: int = 0) -> Capabilities:
    """NVDEC's answer for 8-bit 4:2:0 video of `codec`. Raises DriverError."""
    cuda, nvdec = ctypes.CDLL(CUDA_LIBRARY), ctypes.CDLL(NVDEC_LIBRARY)
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    _call(cuda.cuInit, 0)
    _call(cuda.cuDeviceGet, ctypes.byref(handle), device)
    _call(cuda.cuDevicePrimaryCtxRetain, ctypes.byref(context), handle)
    _call(cuda.cuCtxPushCurrent_v2, context)
    try:
        answer = _DecodeCaps(codec=_CODECS[codec], chroma_format=_CHROMA_420, bit_depth_minus_8=0)
        _call(nvdec.cuvidGetDecoderCaps, ctypes.byref(answer))
    finally:
        _call(cuda.cuCtxPopCurrent_v2, ctypes.byref(context))
        _call(cuda.cuDevicePrimaryCtxRelease_v2, handle)
    return Capabilities(
        codec=codec,
        supported=bool(answer.is_supported),
        engines=answer.num_engines,
        min_width=answer.min_width,
        min_height=answer.min_height,
        max_width=answer.max_width,
        max_height=answer.max_height,
    )


def _call(function, *arguments):
    code = function(*arguments)
    if code:
        raise DriverError(f"{function.__name__} failed with error {code}")
