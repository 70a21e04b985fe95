"""hex_core, the reference implementation, as it is inside rebar3."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.signing import signer

# encode KIND TERMS KEY OUT: sign what TERMS holds. decode KIND BODY KEY NAME: print it as a term.
# fields: print the messages' fields.
HEX_CORE = r"""
main([Rebar3, Command | Arguments]) ->
    {ok, Sections} = escript:extract(Rebar3, []),
    {ok, Files} = zip:extract(proplists:get_value(archive, Sections), [memory]),
    [code:load_binary(list_to_atom(filename:basename(Path, ".beam")), Path, Beam)
     || {Path, Beam} <- Files, lists:prefix("r3_", filename:basename(Path)),
        filename:extension(Path) =:= ".beam"],
    run(Command, Arguments).

run("encode", [Kind, TermFile, KeyFile, Out]) ->
    {ok, [Term]} = file:consult(TermFile),
    {ok, Key} = file:read_file(KeyFile),
    Payload = case Kind of
        "package" -> r3_hex_registry:encode_package(Term);
        "names" -> r3_hex_registry:encode_names(Term);
        "versions" -> r3_hex_registry:encode_versions(Term)
    end,
    ok = file:write_file(Out, zlib:gzip(r3_hex_registry:sign_protobuf(Payload, Key)));
run("decode", [Kind, BodyFile, KeyFile, Name, ExpectedFile]) ->
    {ok, Body} = file:read_file(BodyFile),
    {ok, Key} = file:read_file(KeyFile),
    {ok, [Expected]} = file:consult(ExpectedFile),
    case r3_hex_registry:decode_and_verify_signed(zlib:gunzip(Body), Key) of
        {ok, Payload} ->
            {ok, Got} = decode(Kind, Payload, list_to_binary(Name)),
            case same(Got, Expected) of
                true -> io:format("same");
                false -> io:format("hex_core got~n~p~nand not~n~p~n", [Got, Expected])
            end;
        Error -> io:format("~p", [Error])
    end;
run("fields", []) ->
    Modules = [r3_hex_pb_signed, r3_hex_pb_package, r3_hex_pb_names, r3_hex_pb_versions],
    [io:format("~s ~s ~p ~w ~w~n",
               [re:replace(atom_to_list(Message), ".*\\.", ""), Name, Number, Type, Occurrence])
     || Module <- Modules, {{msg, Message}, Fields} <- Module:get_msg_defs(),
        #{name := Name, fnum := Number, type := Type, occurrence := Occurrence} <- Fields].

%% Newer versions give the whole message, older ones the list in it.
same(Got, #{releases := Expected}) when is_list(Got) -> same(Got, Expected);
same(Got, #{packages := Expected}) when is_list(Got) -> same(Got, Expected);
same(Got, Expected) when is_map(Got), is_map(Expected) ->
    lists:all(fun({Key, Value}) -> maps:is_key(Key, Got) andalso same(map_get(Key, Got), Value) end,
              maps:to_list(Expected));
same(Got, Expected) when is_list(Got), is_list(Expected) ->
    length(Got) =:= length(Expected) andalso
        lists:all(fun({G, E}) -> same(G, E) end, lists:zip(Got, Expected));
same(Got, Expected) -> Got =:= Expected.

decode("package", Payload, Name) -> r3_hex_registry:decode_package(Payload, <<"hexpm">>, Name);
decode("names", Payload, _) -> r3_hex_registry:decode_names(Payload, <<"hexpm">>);
decode("versions", Payload, _) -> r3_hex_registry:decode_versions(Payload, <<"hexpm">>).
"""


class Atom(str):
    """An Erlang atom."""


Term = bool | int | bytes | str | Sequence["Term"] | Mapping[str, "Term"]


def term(value: Term) -> str:
    """Erlang's text of a value: str and bytes are binaries, keys are atoms."""
    if isinstance(value, bool | Atom):
        return f"'{str(value).lower() if isinstance(value, bool) else value}'"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str | bytes):
        data = value.encode() if isinstance(value, str) else value
        return f"<<{','.join(map(str, data))}>>"
    if isinstance(value, Mapping):
        return f"#{{{','.join(f'{key} => {term(item)}' for key, item in value.items())}}}"
    return f"[{','.join(map(term, value))}]"


class HexCore:
    """The reference implementation."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._script = directory / "hex_core.escript"
        self._script.write_text(f"#!/usr/bin/env escript\n{HEX_CORE}")

    def file(self, name: str, content: str | bytes) -> str:
        path = self._directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def run(self, *arguments: str) -> str:
        rebar3 = shutil.which("rebar3")
        assert rebar3 is not None
        command = ["escript", str(self._script), rebar3, *arguments]
        result = subprocess.run(command, capture_output=True, timeout=60, check=False)
        output = result.stdout.decode(errors="replace")
        assert result.returncode == 0, output + result.stderr.decode(errors="replace")
        return output

    def encode(self, kind: str, value: Term) -> bytes:
        out = self._directory / "out"
        terms = self.file("terms", f"{term(value)}.\n")
        self.run("encode", kind, terms, self.file("key", signer().private_key), str(out))
        return out.read_bytes()

    def decode(self, kind: str, body: bytes, expected: Term, *, key: str = "") -> str:
        """ "same", or what is different."""
        return self.run(
            "decode",
            kind,
            self.file("body", body),
            self.file("key", key or signer().public_key),
            "jason",
            self.file("expected", f"{term(expected)}.\n"),
        )
