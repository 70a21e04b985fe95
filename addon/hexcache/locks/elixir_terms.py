"""Elixir's literal terms, as far as `inspect/2` writes them into a mix.lock and people edit them.

The grammar is that of `Code.string_to_quoted/2` without calls, operators, variables,
interpolation, heredocs, sigils other than `~c"…"` and atoms that are operators (`:+`).
"""

from __future__ import annotations

import re

from hexcache.locks.terms import Atom, Map, Reader, Source, Term, Token, Tuple, code_points, encode
from hexcache.locks.terms import List as ListTerm

_DOUBLE = r'"(?:[^"\\#]++|\\.|\#(?!\{))*+"'
_SINGLE = r"'(?:[^'\\#]++|\\.|\#(?!\{))*+'"
_NAME = r"[^\W\d][\w@]*+[?!]?+"
_TOKEN = re.compile(
    rf"""
      (?P<space>(?:\s++|\#[^\n]*+)++)
    | (?P<heredoc>\"{{3}}|'{{3}})
    | (?P<key>(?:{_NAME}|{_DOUBLE}|{_SINGLE}):(?=\s))
    | (?P<string>{_DOUBLE})
    | (?P<charlist>(?:~c(?={_DOUBLE}))?{_SINGLE}|~c{_DOUBLE})
    | (?P<atom>:(?:{_NAME}|{_DOUBLE}|{_SINGLE}))
    | (?P<character>\?(?:\\.|[^\\]))
    | (?P<float>[-+]?[0-9]++(?:_[0-9]++)*+\.[0-9]++(?:_[0-9]++)*+(?:[eE][-+]?[0-9]++)?+(?!\w))
    | (?P<integer>[-+]?(?:0x[0-9a-fA-F]++|0o[0-7]++|0b[01]++|[0-9]++(?:_[0-9]++)*+)(?!\w))
    | (?P<alias>[A-Z][A-Za-z0-9_]*+(?:\.[A-Z][A-Za-z0-9_]*+)*+)
    | (?P<name>{_NAME})
    | (?P<mark>%\{{|=>|<<|>>|[\[\]{{}},])
    """,
    re.VERBOSE | re.DOTALL,
)

# https://hexdocs.pm/elixir/String.html#module-escape-characters
_ESCAPE = re.compile(
    r"\\(?:x(?P<byte>[0-9a-fA-F]{1,2})|u\{(?P<braced>[0-9a-fA-F]{1,6})\}|u(?P<plain>[0-9a-fA-F]{4})"
    r"|(?P<one>.))",
    re.DOTALL,
)
_ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "d": "\x7f", "e": "\x1b", "f": "\f", "n": "\n", "r": "\r",
    "s": " ", "t": "\t", "v": "\v", "\n": "",
}  # fmt: skip
_BASES = {"0x": 16, "0o": 8, "0b": 2}


def parse(text: str, source: Source) -> Term | None:
    """The one term of the text, or None where there is only space and comments. Raises
    LockFileError."""
    return _Reader(text, source, _TOKEN).only()


class _Reader(Reader):
    def only(self) -> Term | None:
        if self.token.kind == "end":
            return None
        term = self.term()
        if self.token.kind != "end":
            raise self.unexpected("the end of the file")
        return term

    def literal(self) -> Term:
        token = self.token
        match token.kind:
            case "mark":
                return self._collection(token)
            case "string":
                return self._binary(token.text[1:-1])
            case "charlist":
                opening = 3 if token.text.startswith("~c") else 1
                return self._passed(code_points(self._text(token.text[opening:-1]), token.line))
            case "atom":
                return self._passed(self._atom(token.text[1:]))
            case "name" if token.text in ("nil", "true", "false"):
                return self._passed(Atom(token.text))
            case "alias":
                absolute = token.text.split(".")[0] == "Elixir"
                return self._passed(Atom(token.text if absolute else f"Elixir.{token.text}"))
            case "integer":
                return self._passed(self._integer(token.text))
            case "float":
                return self._passed(float(token.text))
            case "character":
                return self._passed(ord(self._text(token.text[1:]) or "\n"))
            case _:
                raise self.unexpected("a term")

    def _passed[T](self, value: T) -> T:
        self.advance()
        return value

    def _collection(self, token: Token) -> Term:
        line = token.line
        if self.take("{"):
            return Tuple(tuple(self._items("}", keywords_apart=True)), line)
        if self.take("["):
            return ListTerm(tuple(self._items("]")), line)
        if self.take("%{"):
            return Map(tuple(self._pairs()), line)
        if self.take("<<"):
            return b"".join(self.series(self._segment, ">>", trailing=True))
        raise self.unexpected("a term")

    def _items(self, close: str, *, keywords_apart: bool = False) -> list[Term]:
        """`a, b, key: c`: keywords come last; in a tuple they are one list, in a list its tail."""
        keywords: list[Term] = []

        def item() -> Term | None:
            if self.token.kind == "key":
                keywords.append(self._keyword())
                return None
            if keywords:
                raise self.error("a plain item after `key: value` items")
            return self.term()

        line = self.token.line
        items = [each for each in self.series(item, close, trailing=True) if each is not None]
        if keywords_apart:
            return [*items, ListTerm(tuple(keywords), line)] if keywords else items
        return items + keywords

    def _pairs(self) -> list[Tuple]:
        keywords = False

        def pair() -> Tuple:
            nonlocal keywords
            if self.token.kind == "key":
                keywords = True
                return self._keyword()
            if keywords:
                raise self.error("a `key => value` pair after `key: value` pairs")
            line = self.token.line
            key = self.term()
            self.expect("=>")
            return Tuple((key, self.term()), line)

        return self.series(pair, "}", trailing=True)

    def _keyword(self) -> Tuple:
        token = self.advance()
        key = self._atom(token.text[:-1])
        return Tuple((key, self.term()), token.line)

    def _segment(self) -> bytes:
        token = self.token
        if token.kind == "string":
            return self._binary(token.text[1:-1])
        if token.kind in ("integer", "character"):
            value = self.literal()
            if isinstance(value, int):
                return bytes([value & 0xFF])
        raise self.unexpected("a byte or a string")

    def _atom(self, written: str) -> Atom:
        return Atom(self._text(written[1:-1]) if written[0] in "\"'" else written)

    def _integer(self, written: str) -> int:
        sign = -1 if written.startswith("-") else 1
        digits = written.lstrip("+-")
        base = _BASES.get(digits[:2], 10)
        return sign * self.integer(digits[2:] if base != 10 else digits, base)

    def _text(self, written: str) -> str:
        """Without its escapes. `\\xFF` is a byte in a binary (see `_binary`), else a code point."""
        return _ESCAPE.sub(self._unescape, written)

    def _unescape(self, match: re.Match[str]) -> str:
        if byte := match["byte"]:
            return chr(int(byte, 16))
        if digits := match["braced"] or match["plain"]:
            return self.code_point(digits, 16)
        if match["one"] in "xu":
            raise self.error("an escape that is cut short: \\x needs hexadecimal digits, \\u four")
        return _ESCAPES.get(match["one"], match["one"])

    def _binary(self, written: str) -> bytes:
        parts: list[bytes] = []
        position = 0
        for match in _ESCAPE.finditer(written):
            parts.append(encode(written[position : match.start()]))
            byte = match["byte"]
            parts.append(bytes.fromhex(byte.zfill(2)) if byte else encode(self._unescape(match)))
            position = match.end()
        parts.append(encode(written[position:]))
        return self._passed(b"".join(parts))
