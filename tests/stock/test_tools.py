"""Which files Mix asks for, against Mix itself where it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hexcache import resources
from hexcache.resources import Kind, Resource
from hexcache.stock import tools
from support import elixir

HEX_OLD, REBAR_OLD, HEX, REBAR = tools.CSVS

OLD = """\
0.5.0,aa,1.0.0,1.1.0
2.0.6,aa,1.11.0
2.0.6,aa,1.14.0
2.5.1,aa,1.12.0
2.5.1,aa,1.13.0
2.5.1,aa,1.14.0
2.5.1,aa,1.16.0
"""
NEW = """\
2.5.0,aa,1.17.0,25
2.5.0,aa,1.18.0,25
2.5.1,aa,1.17.0,25
2.5.1,aa,1.17.0,27
2.5.1,aa,1.18.0,25
2.5.1,aa,1.18.0,27
2.5.1,aa,1.19.0,27
2.5.1,aa,1.19.0,28
"""


def paths(csv: Resource, text: str) -> list[str]:
    return [each.path.removeprefix("/installs/") for each in tools.files_of(csv, text)]


def test_the_lists_are_resources_that_clients_ask_for() -> None:
    assert [each.path for each in tools.CSVS] == [
        "/installs/hex-1.x.csv",
        "/installs/rebar3-1.x.csv",
        "/installs/hex.csv",
        "/installs/rebar.csv",
    ]
    for each in tools.CSVS:
        assert resources.parse(resources.BUILDS_HOST, each.path) == each
    # Hex's update check, at the other host.
    assert resources.parse(resources.REPO_HOST, "/installs/hex-1.x.csv") == HEX_OLD


def test_the_last_row_that_fits_counts_for_each_elixir() -> None:
    assert paths(HEX_OLD, OLD) == [
        "1.0.0/hex-0.5.0.ez",  # for all of 1.0 to 1.10: the first version of the row that fits
        "1.11.0/hex-2.0.6.ez",
        "1.12.0/hex-2.5.1.ez",
        "1.13.0/hex-2.5.1.ez",
        "1.14.0/hex-2.5.1.ez",
        "1.16.0/hex-2.5.1.ez",
    ]
    assert {each.kind for each in tools.files_of(HEX_OLD, OLD)} == {Kind.INSTALL}


def test_from_elixir_1_18_4_otp_counts_too() -> None:
    assert paths(HEX, NEW) == [
        "1.17.0/hex-2.5.1-otp-25.ez",
        "1.17.0/hex-2.5.1-otp-27.ez",
        "1.18.0/hex-2.5.1-otp-25.ez",  # for Elixir 1.19 on OTP 25 as well
        "1.18.0/hex-2.5.1-otp-27.ez",
        "1.19.0/hex-2.5.1-otp-27.ez",
        "1.19.0/hex-2.5.1-otp-28.ez",
    ]


def test_rebar3() -> None:
    assert paths(REBAR_OLD, "3.13.3,a,1.0.0\n3.22.0,a,1.15.0-rc.0\n") == [
        "1.0.0/rebar3-3.13.3",
        "1.15.0-rc.0/rebar3-3.22.0",
    ]
    assert paths(REBAR, "3.22.0,a,1.18.3,25\n3.24.0,a,1.18.3,25\n3.25.1,a,1.18.4,28") == [
        "1.18.3/rebar3-3.24.0-otp-25",
        "1.18.4/rebar3-3.25.1-otp-28",
    ]


def test_what_makes_no_sense_is_left_out() -> None:
    junk = "\n\n,,\nx\n2.0.0\n2.0.0,a\n1,a,1.0.0\n2.0.0,a,../..\n\ufffd,a,1.0.0\n<html>,a,1.0.0,9\n"
    assert paths(HEX_OLD, junk + "2.0.0,a,1.0.0\r\n") == ["1.0.0/hex-2.0.0.ez"]
    assert paths(HEX, junk + "2.0.0,a,1.0.0,x\n2.0.0,a,1.0.0,26\n") == ["1.0.0/hex-2.0.0-otp-26.ez"]
    assert paths(resources.signature_of(HEX), NEW) == []


@given(st.text() | st.text("120.,ax\n-/"), st.sampled_from(tools.CSVS))
def test_any_content_gives_files_that_can_be_asked_for(text: str, csv: Resource) -> None:
    for each in tools.files_of(csv, text):
        assert resources.parse(resources.BUILDS_HOST, each.path) == each


SCRIPT = """
[path] = System.argv()
read = fn -> File.read!(path) end
# The private functions of the installed Mix, called as they stand in its compiled code.
{:ok, {_, [abstract_code: {:raw_abstract_v1, forms}]}} =
  :beam_lib.chunks(:code.which(Mix.Local), [:abstract_code])
forms = Enum.map(forms, fn
  {:attribute, line, :module, _} -> {:attribute, line, :module, :opened_mix_local}
  other -> other
end)
{:ok, module, binary} = :compile.forms(forms, [:export_all, :nowarn_export_all])
{:module, _} = :code.load_binary(module, 'opened', binary)
rows = module.parse_csv(read.())
found = module.find_latest_eligible_version(rows, nil)
IO.puts(Enum.join(Tuple.to_list(found), " "))
"""


def test_what_the_installed_mix_chooses_is_among_them(tmp_path: Path) -> None:
    csv = tmp_path / "list.csv"
    csv.write_text(OLD)
    try:
        chosen, version, *_ = elixir.run(SCRIPT, csv).split()
    except AssertionError as error:
        pytest.skip(f"this Mix can't be looked into: {error}"[:300])
    assert f"{chosen}/hex-{version}.ez" in paths(HEX_OLD, OLD)
