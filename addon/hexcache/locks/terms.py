"""What Erlang's and Elixir's literal terms have in common, and a reader to build theirs on.

Only data is read, nothing is evaluated: a lock file that holds anything but literals is refused.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hexcache.errors import LockFileError
from hexcache.printing import quoted

# Real lock files need six levels. Each level takes up to seven frames, of Python's thousand.
_MAX_DEPTH = 32
# int() refuses 4301 digits with a ValueError.
_MAX_NUMBER = 1000


@dataclass(frozen=True)
class Atom:
    """Elixir's `nil`, `true`, `false` and module names (`Elixir.Foo`) are atoms too."""

    name: str


@dataclass(frozen=True)
class Tuple:
    """`line` is where it begins, counted from 1; equal terms are equal wherever they stand."""

    items: tuple[Term, ...]
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class List:
    """Charlists and Erlang's strings are lists of code points; keywords are lists of pairs."""

    items: tuple[Term, ...]
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Map:
    """Pairs in the order of the file; where a key stands twice both are here."""

    pairs: tuple[Tuple, ...]
    line: int = field(default=0, compare=False)


# Binaries, Elixir's strings among them, are bytes.
type Term = Atom | bytes | int | float | Tuple | List | Map


def text_of(term: Term) -> str | None:
    """The text of a binary, a charlist or an atom other than nil and undefined; else None."""
    try:
        if isinstance(term, bytes):
            return term.decode()
        if isinstance(term, Atom):
            return None if term.name in ("nil", "undefined") else term.name
        if isinstance(term, List):
            points = [item for item in term.items if isinstance(item, int)]
            return "".join(map(chr, points)) if len(points) == len(term.items) else None
    except (ValueError, OverflowError):
        pass
    return None


@dataclass(frozen=True)
class Source:
    """Where a text comes from, for messages: `name` of the file, and `cure`, what the user can
    do about a file that is broken."""

    name: str
    cure: str

    def error(self, line: int, what: str, cure: str = "") -> LockFileError:
        name = self.name if self.name.isprintable() else ascii(self.name)
        return LockFileError(f"{name}, line {line}: {what}; {cure or self.cure}")


@dataclass(frozen=True)
class Token:
    """`kind` is the name of the pattern's group that matched, `text` all that it matched."""

    kind: str
    text: str
    line: int


class Reader(ABC):
    """Reads terms from a text with one token of look-ahead. Every error is a LockFileError made
    by `source`. `pattern` matches one token at a time, never the empty string; its groups
    `space` are skipped."""

    def __init__(self, text: str, source: Source, pattern: re.Pattern[str]) -> None:
        self._source = source
        self._tokens = self._scan(text, pattern)
        self._depth = 0
        self.token = next(self._tokens)

    def _scan(self, text: str, pattern: re.Pattern[str]) -> Iterator[Token]:
        line, position = 1, 0
        while position < len(text):
            match = pattern.match(text, position)
            if match is None or match.lastgroup is None:
                what = self.unreadable(text[position : position + 3])
                raise self._source.error(line, what)
            if match.lastgroup != "space":
                yield Token(match.lastgroup, match.group(), line)
            line += match.group().count("\n")
            position = match.end()
        yield Token("end", "", line)

    def unreadable(self, start: str) -> str:
        """What to say where no token matches; `start` is what stands there."""
        if start[0] in "\"'":
            return "a quoted text that doesn't end, or that computes something"
        return f"unexpected {quoted(start[0])}"

    def error(self, what: str, line: int | None = None) -> LockFileError:
        return self._source.error(self.token.line if line is None else line, what)

    def unexpected(self, wanted: str) -> LockFileError:
        found = quoted(self.token.text) if self.token.kind != "end" else "the end of the file"
        return self.error(f"expected {wanted}, found {found}")

    def advance(self) -> Token:
        """The current token; the next one becomes current. At the end it stays there."""
        token = self.token
        self.token = next(self._tokens, token)
        return token

    def at(self, mark: str) -> bool:
        return self.token.kind == "mark" and self.token.text == mark

    def take(self, mark: str) -> bool:
        """Whether that punctuation stood here; it is passed then."""
        if not self.at(mark):
            return False
        self.advance()
        return True

    def expect(self, mark: str) -> None:
        if not self.take(mark):
            raise self.unexpected(quoted(mark))

    def term(self) -> Term:
        """The term that begins at the current token."""
        if self._depth == _MAX_DEPTH:
            raise self.error(f"terms nested more than {_MAX_DEPTH} deep")
        self._depth += 1
        value = self.literal()
        self._depth -= 1
        return value

    @abstractmethod
    def literal(self) -> Term:
        """What `term` does, in one language."""

    def series[T](self, item: Callable[[], T], close: str, *, trailing: bool = False) -> list[T]:
        """Items between commas up to `close`, which is passed; `trailing` allows a comma after
        the last one."""
        items: list[T] = []
        while not self.take(close):
            if items:
                if not self.at(","):
                    raise self.unexpected(f"',' or {quoted(close)}")
                self.advance()
                if trailing and self.take(close):
                    break
            items.append(item())
        return items

    def integer(self, digits: str, base: int = 10) -> int:
        """Raises LockFileError for a number that no lock file has."""
        try:
            if len(digits) <= _MAX_NUMBER and 2 <= base <= 36:
                return int(digits, base)
        except ValueError:
            pass
        raise self.error(f"{quoted(digits)} is not a number that can be read")

    def code_point(self, digits: str, base: int) -> str:
        """The character of an escape; surrogates are none."""
        point = self.integer(digits, base)
        if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
            raise self.error(f"an escape that names no character: {quoted(digits)}")
        return chr(point)


def encode(text: str) -> bytes:
    """UTF-8. Lone surrogates, which a reader of files may leave in a text, are kept: `text_of`
    refuses them then."""
    return text.encode(errors="surrogatepass")


def code_points(text: str, line: int) -> List:
    return List(tuple(map(ord, text)), line)
