"""The blocks of a GIF, as far as they tell what a decoder makes of its first picture."""

from __future__ import annotations

from typing import NamedTuple

_EXTENSION, _PICTURE, _CONTROL = 0x21, 0x2C, 0xF9
_TRANSPARENT = 1  # flag: one colour of the table is


class Blocks(NamedTuple):
    """What is in a GIF."""

    frames: int
    """Pictures."""
    whole: bool
    """Whether the first covers all of the screen; what is left open has no colour of its own."""
    flags: int | None
    """Place of the first one's flags if some of its pixels may be transparent."""


def blocks(content: bytes) -> Blocks:
    """Walk the blocks of a GIF, up to where it is broken."""
    frames, whole, flags = 0, True, None
    at = 13 + _table(content, 10)
    while (block := _byte(content, at)) in (_EXTENSION, _PICTURE):
        if block == _PICTURE:
            frames += 1
            whole &= frames > 1 or content[at + 1 : at + 9] == bytes(4) + content[6:10]
            at += 11 + _table(content, at + 9)
        else:
            control = _byte(content, at + 1) == _CONTROL and not frames
            if control:
                flags = at + 3 if _byte(content, at + 3) & _TRANSPARENT else None
            at += 2
        while length := _byte(content, at):
            at += 1 + length
        at += 1
    return Blocks(frames, whole, flags)


def prepared(content: bytes) -> bytes:
    """A GIF whose decoder gives the colours under transparency, in whose place it else puts one of its own."""
    flags = blocks(content).flags
    if flags is None:
        return content
    return content[:flags] + bytes([content[flags] & ~_TRANSPARENT]) + content[flags + 1 :]


def _byte(content: bytes, at: int) -> int:
    return content[at] if at < len(content) else 0


def _table(content: bytes, at: int) -> int:
    """Bytes of the table of colours whose flags stand at a place."""
    flags = _byte(content, at)
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
