#!/bin/sh
# Everything that comes from Hex comes here, when Hexcache is in reach, not while the image is
# built: Hex and rebar3 themselves, then what mix.exs names.
set -eu
mix local.hex --force --if-missing
mix local.rebar --force --if-missing
mix deps.get
mix ecto.create --quiet
mix ecto.migrate
exec "$@"
