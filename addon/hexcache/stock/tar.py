"""Tar archives, as much of them as a bundle needs: plain files under plain names.

Read strictly and within bounds, whoever made the archive: nothing is unpacked, no name reaches a
file system, and no header makes us take more memory than `_MAX_EXTENDED`. Written with ustar
headers (POSIX.1-1988), and a pax header (POSIX.1-2001) before a name that they don't hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from hexcache.errors import BundleError

BLOCK = 512
END = bytes(2 * BLOCK)
_MAX_EXTENDED = 64 * 2**10
_MAX_MEMBERS = 1_000_000

_FILE = (b"0", b"\0")
_DIRECTORY = b"5"
_WHAT = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a named pipe",
    b"S": "a sparse file",
}
# These have no data, whatever their size says.
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")


@dataclass(frozen=True, slots=True)
class Member:
    """`name` as the archive has it, not to be trusted; its `size` bytes begin at `offset`. `odd`
    says what it is if it isn't a file, else it is empty."""

    name: str
    offset: int
    size: int
    odd: str = ""


def members(file: BinaryIO) -> Iterator[Member]:
    """The members of an archive, directories left out. Reads headers only. `file` is one on disk.
    Raises BundleError for what is no tar archive, is damaged, or isn't all there; OSError."""
    length = file.seek(0, os.SEEK_END)
    position, count = 0, 0
    extended: dict[str, str] = {}
    while True:
        block = _read(file, position, BLOCK)
        if len(block) < BLOCK or not any(block):
            if len(block) == BLOCK:
                return
            raise BundleError(_no_tar(file) if position == 0 else _CUT_OFF)
        size = _checked_size(file, block, position)
        kind = block[156:157]
        if size_text := extended.get("size"):
            size = _decimal(size_text)
        offset = position + BLOCK
        taken = 0 if kind in _WITHOUT_DATA else size
        if offset + taken > length:
            raise BundleError(_CUT_OFF)
        position = offset + -(-taken // BLOCK) * BLOCK
        count += 1
        if count > _MAX_MEMBERS:
            raise BundleError(f"it has more than {_MAX_MEMBERS:,} members: not Hexcache's archive")
        if kind in (b"x", b"L", b"K", b"g"):
            if size > _MAX_EXTENDED:
                raise BundleError(f"it is damaged: a header of {size:,} bytes")
            content = _read(file, offset, size)
            if kind == b"x":
                extended |= _pax(content)
            elif kind == b"L":
                extended["path"] = _text(content)
            continue
        name = extended.get("path") or _name(block)
        sparse = any(key.startswith("GNU.sparse.") for key in extended)
        extended = {}
        if kind == _DIRECTORY or (kind == b"\0" and name.endswith("/")):
            continue
        odd = "" if kind in _FILE else _WHAT.get(kind, "neither a file nor a directory")
        yield Member(name, offset, size, _WHAT[b"S"] if sparse else odd)


def header(name: str, size: int, mtime: int) -> bytes:
    """What goes before a file's data: root's, readable by all."""
    prefix, rest = _split(name)
    before = b""
    if rest is None:
        record = _pax_record("path", name)
        before = _ustar(b"././@PaxHeader", b"", len(record), mtime, b"x") + record
        before += padding(len(record))
        prefix, rest = b"", name.encode()[:100]
    return before + _ustar(rest, prefix, size, mtime, b"0")


def padding(size: int) -> bytes:
    """What goes behind `size` bytes of data."""
    return bytes(-size % BLOCK)


_CUT_OFF = "it is cut off: the end is missing; copy or export it again"


def _no_tar(file: BinaryIO) -> str:
    start = _read(file, 0, 6)
    for magic, program in (
        (b"\x1f\x8b", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\xfd7zXZ\0", "xz"),
    ):
        if start.startswith(magic):
            return f"it is compressed: `{program} -dc FILE | hexcache import -` takes it"
    return "it is no tar archive; `hexcache export` makes one"


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _checked_size(file: BinaryIO, block: bytes, position: int) -> int:
    """The member's size, once the header is known to be one."""
    expected = _number(block[148:156])
    actual = sum(block) - sum(block[148:156]) + 8 * 0x20
    size = _number(block[124:136])
    if expected != actual or size is None:
        if position == 0:
            raise BundleError(_no_tar(file))
        raise BundleError(f"it is damaged at byte {position:,}; copy or export it again")
    return size


def _number(field: bytes) -> int | None:
    """Octal, or GNU's binary for large ones; None for neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    digits = field.strip(b" \0")
    if not all(0x30 <= digit <= 0x37 for digit in digits):
        return None
    return int(digits or b"0", 8)


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BundleError("it is damaged: a size that is no number")
    return int(text)


def _name(block: bytes) -> str:
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def _pax(content: bytes) -> dict[str, str]:
    """Records `LENGTH KEY=VALUE\\n`; LENGTH counts them whole."""
    found: dict[str, str] = {}
    while content:
        digits, space, _ = content.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 6 else 0
        record = content[len(digits) + 1 : length]
        key, equals, value = record.partition(b"=")
        if not (space and equals and record.endswith(b"\n") and length <= len(content)):
            raise BundleError("it is damaged: a pax header that can't be read")
        # A NUL would end the name for others.
        found[_text(key)] = value[:-1].decode("utf-8", "backslashreplace")
        content = content[length:]
    return found


def _pax_record(key: str, value: str) -> bytes:
    rest = f" {key}={value}\n".encode()
    length = len(rest)
    while length != (whole := len(str(length)) + len(rest)):
        length = whole
    return str(length).encode() + rest


def _split(name: str) -> tuple[bytes, bytes | None]:
    """Into ustar's prefix and name; None where it doesn't fit."""
    encoded = name.encode()
    if len(encoded) <= 100:
        return b"", encoded
    for position, byte in enumerate(encoded):
        if byte == 0x2F and position <= 155 and len(encoded) - position - 1 <= 100:
            return encoded[:position], encoded[position + 1 :]
    return b"", None


def _ustar(name: bytes, prefix: bytes, size: int, mtime: int, kind: bytes) -> bytes:
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            b"0000644\0",
            b"0000000\0" * 2,
            b"%011o\0" % size,
            b"%011o\0" % mtime,
            b" " * 8,
            kind,
            bytes(100),
            b"ustar\x0000",
            bytes(64),
            b"0000000\0" * 2,
            prefix.ljust(155, b"\0"),
            bytes(12),
        )
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
