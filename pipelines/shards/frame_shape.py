"""The size that single frames of a video give themselves, whatever the index says of all."""

import struct

VP9_SYNC = b"\x49\x83\x42"
VP9_RGB = 7
JPEG_BEGIN = b"\xff\xd8"
# Markers of a JPEG's frame header: all of C0 to CF but for tables (C4, CC) and what is reserved (C8).
JPEG_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def frame_shape(frame: memoryview) -> tuple[int, int] | None:
    """(height, width) in the header of a JPEG or of a VP9 key frame (but for profile 3); None of other frames."""
    if frame[:2] == JPEG_BEGIN:
        return _jpeg_shape(frame)
    return _vp9_shape(frame) if frame[1:4] == VP9_SYNC else None


def _jpeg_shape(frame: memoryview) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(frame) and frame[place] == 0xFF:
        if frame[place + 1] in JPEG_FRAME:
            return struct.unpack_from(">HH", frame, place + 5)
        place += 1 if frame[place + 1] == 0xFF else 2 + struct.unpack_from(">H", frame, place + 2)[0]
    return None


def _vp9_shape(frame: memoryview) -> tuple[int, int]:
    """By "VP9 Bitstream & Decoding Process Specification" (v0.7), 6.2 and 6.2.2: the colours come before the size."""
    profile = frame[0] >> 5 & 1 | frame[0] >> 3 & 2
    bits = int.from_bytes(bytes(frame[4:12]).ljust(8, b"\0"), "big")
    skipped = 3 + (profile >= 2)  # bits: colour space, after the bit depth
    rgb = bits >> 64 - skipped & 7 == VP9_RGB
    if not rgb:
        skipped += 1  # range of the colours
    if profile & 1:
        skipped += 1 if rgb else 3  # subsampling, and a reserved bit
    width, height = (1 + (bits >> 64 - skipped - end & 0xFFFF) for end in (16, 32))
    return height, width
