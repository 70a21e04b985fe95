#!/usr/bin/env escript
%% Build a signed Hex repository with the hex_core that is embedded in rebar3, independently of
%% Hexcache's own code.
%%
%%   build_registry.escript REBAR3 SPEC KEY OUTPUT
%%
%% SPEC: terms {package, Name, [{release, Version, [{Dep, Requirement, Optional}], Retired, Text}]}.
%% with strings; Retired is none or {Reason, Message}. A tarball that is in OUTPUT already is kept.

main([Rebar3, Spec, KeyFile, Output]) ->
    load(Rebar3),
    {ok, Packages} = file:consult(Spec),
    {ok, Key} = file:read_file(KeyFile),
    Repository = <<"hexpm">>,
    Built = [{bin(Name), [release(Output, Name, R) || R <- Releases]}
             || {package, Name, Releases} <- Packages],
    [write(Output, "packages/" ++ binary_to_list(Name),
           sign(r3_hex_registry:encode_package(
                  #{repository => Repository, name => Name, releases => Releases}), Key))
     || {Name, Releases} <- Built],
    write(Output, "names",
          sign(r3_hex_registry:encode_names(
                 #{repository => Repository, packages => [#{name => N} || {N, _} <- Built]}), Key)),
    write(Output, "versions",
          sign(r3_hex_registry:encode_versions(
                 #{repository => Repository,
                   packages => [#{name => N, versions => [V || #{version := V} <- Rs],
                                  retired => retired_indexes(Rs)} || {N, Rs} <- Built]}), Key)).

load(Rebar3) ->
    {ok, Sections} = escript:extract(Rebar3, []),
    Archive = proplists:get_value(archive, Sections),
    {ok, Files} = zip:extract(Archive, [memory]),
    [code:load_binary(list_to_atom(filename:basename(Path, ".beam")), Path, Beam)
     || {Path, Beam} <- Files, lists:prefix("r3_", filename:basename(Path)),
        filename:extension(Path) =:= ".beam"].

sign(Payload, Key) ->
    zlib:gzip(r3_hex_registry:sign_protobuf(Payload, Key)).

retired_indexes(Releases) ->
    [I || {I, #{retired := _}} <- lists:zip(lists:seq(0, length(Releases) - 1), Releases)].

release(Output, Name, {release, Version, Deps, Retired, Text}) ->
    File = "tarballs/" ++ Name ++ "-" ++ Version ++ ".tar",
    Path = filename:join(Output, File),
    case filelib:is_file(Path) of
        true -> ok;
        false -> write(Output, File, tarball(Name, Version, Deps, Text))
    end,
    {ok, Tarball} = file:read_file(Path),
    {ok, #{inner_checksum := Inner, outer_checksum := Outer}} =
        r3_hex_tarball:unpack(Tarball, memory),
    Release = #{version => bin(Version), inner_checksum => Inner, outer_checksum => Outer,
                dependencies => [#{package => bin(Dep), requirement => bin(Requirement),
                                   optional => Optional}
                                 || {Dep, Requirement, Optional} <- Deps]},
    case Retired of
        none -> Release;
        {Reason, Message} ->
            Release#{retired => #{reason => list_to_atom("RETIRED_" ++ string:uppercase(Reason)),
                                  message => bin(Message)}}
    end.

tarball(Name, Version, Deps, Text) ->
    App = io_lib:format(
            "{application, ~s, [{description, \"~s\"}, {vsn, \"~s\"}, {registered, []},"
            " {applications, [kernel, stdlib]}, {env, []}, {modules, []}]}.~n",
            [Name, Name, Version]),
    Source = io_lib:format("-module(~s).~n-export([text/0]).~ntext() -> ~p.~n", [Name, Text]),
    Files = [{"rebar.config", <<"{deps, []}.\n">>},
             {"mix.exs", iolist_to_binary(mix_exs(Name, Version))},
             {"src/" ++ Name ++ ".app.src", iolist_to_binary(App)},
             {"src/" ++ Name ++ ".erl", iolist_to_binary(Source)}],
    Metadata = #{<<"name">> => bin(Name), <<"version">> => bin(Version), <<"app">> => bin(Name),
                 <<"build_tools">> => [<<"rebar3">>],
                 <<"files">> => [bin(F) || {F, _} <- Files],
                 <<"requirements">> =>
                     maps:from_list([{bin(Dep), #{<<"app">> => bin(Dep), <<"optional">> => Optional,
                                                  <<"requirement">> => bin(Requirement)}}
                                     || {Dep, Requirement, Optional} <- Deps])},
    {ok, #{tarball := Tarball}} = r3_hex_tarball:create(Metadata, Files),
    Tarball.

mix_exs(Name, Version) ->
    io_lib:format("defmodule ~s.MixProject do\n  use Mix.Project\n"
                  "  def project, do: [app: :~s, version: \"~s\"]\nend\n",
                  [string:titlecase(Name), Name, Version]).

write(Output, File, Body) ->
    Path = filename:join(Output, File),
    ok = filelib:ensure_dir(Path),
    ok = file:write_file(Path, Body).

bin(Text) -> unicode:characters_to_binary(Text).
