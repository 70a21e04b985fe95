"""Lock files of mix, rebar3 and Gleam."""
