"""Erlang's literal terms, as `file:consult/1` reads them: each ends with a full stop."""

from __future__ import annotations

import re

from hexcache.locks.terms import Atom, Map, Reader, Source, Term, Tuple, code_points, encode
from hexcache.locks.terms import List as ListTerm

_TOKEN = re.compile(
    r"""
      (?P<space>(?:\s++|%[^\n]*+)++)
    | (?P<string>"(?:[^"\\]++|\\.)*+")
    | (?P<atom>[a-zß-öø-ÿ][\w@]*+|'(?:[^'\\]++|\\.)*+')
    | (?P<character>\$(?:\\(?:x[0-9a-fA-F]{2}|[0-7]{1,3}|.)|[^\\]))
    | (?P<float>[0-9]++(?:_[0-9]++)*+\.[0-9]++(?:_[0-9]++)*+(?:[eE][-+]?[0-9]++)?+)
    | (?P<integer>[0-9]++(?:_[0-9]++)*+(?:\#[0-9a-zA-Z]++)?+)
    | (?P<stop>\.(?=[\s%]|\Z))
    | (?P<mark>\#\{|=>|<<|>>|[\[\]{},|/+-])
    """,
    re.VERBOSE | re.DOTALL,
)

# https://www.erlang.org/doc/system/data_types.html#escape-sequences
_ESCAPE = re.compile(
    r"\\(?:x\{(?P<braced>[0-9a-fA-F]{1,6})\}|x(?P<plain>[0-9a-fA-F]{2})|(?P<octal>[0-7]{1,3})"
    r"|\^(?P<control>[@-_a-z])|(?P<one>.))",
    re.DOTALL,
)
_ESCAPES = {
    "b": "\b", "d": "\x7f", "e": "\x1b", "f": "\f", "n": "\n", "r": "\r", "s": " ", "t": "\t",
    "v": "\v",
}  # fmt: skip


def parse(text: str, source: Source) -> tuple[Term, ...]:
    """All terms of the text. Raises LockFileError."""
    return _Reader(text, source, _TOKEN).all()


class _Reader(Reader):
    def all(self) -> tuple[Term, ...]:
        terms: list[Term] = []
        while self.token.kind != "end":
            terms.append(self.term())
            if self.token.kind != "stop":
                raise self.unexpected("a full stop")
            self.advance()
        return tuple(terms)

    def literal(self) -> Term:
        token = self.token
        match token.kind:
            case "string":
                return code_points(self._strings(), token.line)
            case "atom":
                quoted = token.text.startswith("'")
                self.advance()
                return Atom(self._text(token.text[1:-1]) if quoted else token.text)
            case "character":
                self.advance()
                return ord(self._text(token.text[1:]))
            case "integer" | "float":
                return self._number()
            case "mark":
                return self._compound()
            case _:
                raise self.unexpected("a term")

    def _compound(self) -> Term:
        line = self.token.line
        if self.take("{"):
            return Tuple(tuple(self.series(self.term, "}")), line)
        if self.take("["):
            return ListTerm(tuple(self.series(self.term, "]")), line)
        if self.take("<<"):
            return b"".join(self.series(self._segment, ">>"))
        if self.take("#{"):
            return Map(tuple(self.series(self._pair, "}")), line)
        if self.take("-"):
            return -self._number()
        if self.take("+"):
            return self._number()
        raise self.unexpected("a term")

    def _pair(self) -> Tuple:
        line = self.token.line
        key = self.term()
        self.expect("=>")
        return Tuple((key, self.term()), line)

    def _number(self) -> int | float:
        token = self.token
        if token.kind not in ("integer", "float"):
            raise self.unexpected("a number")
        if token.kind == "float":
            value: int | float = float(token.text)
        elif "#" in token.text:
            base, digits = token.text.split("#")
            value = self.integer(digits, self.integer(base))
        else:
            value = self.integer(token.text)
        self.advance()
        return value

    def _segment(self) -> bytes:
        """`"text"`, `"text"/utf8` or a byte. Without a type each character is one byte, cut to
        its low eight bits as Erlang does it."""
        if self.token.kind != "string":
            value = self.literal() if self.token.kind in ("integer", "character") else None
            if not isinstance(value, int):
                raise self.unexpected("a byte or a string")
            return bytes([value & 0xFF])
        text = self._strings()
        if not self.take("/"):
            return bytes([ord(character) & 0xFF for character in text])
        if self.token.text != "utf8":
            raise self.unexpected("utf8, the one type of binary that is read")
        self.advance()
        return encode(text)

    def _strings(self) -> str:
        """Strings that follow each other are one."""
        parts: list[str] = []
        while self.token.kind == "string":
            parts.append(self._text(self.token.text[1:-1]))
            self.advance()
        return "".join(parts)

    def _text(self, written: str) -> str:
        return _ESCAPE.sub(self._unescape, written)

    def _unescape(self, match: re.Match[str]) -> str:
        if digits := match["braced"] or match["plain"]:
            return self.code_point(digits, 16)
        if digits := match["octal"]:
            return self.code_point(digits, 8)
        if control := match["control"]:
            return chr(ord(control) & 0x1F)
        if match["one"] == "x":
            raise self.error("an escape that is cut short: \\x needs two hexadecimal digits")
        return _ESCAPES.get(match["one"], match["one"])
