"""Whatever is written is taken, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hexcache.errors import SettingsError
from hexcache.settings import Settings, load
from support.settings import Write, keys

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.dates()
)
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(), scalars, max_size=2)
urls = st.builds("{}://{}".format, st.sampled_from(["http", "https", "ftp"]), st.text(max_size=20))
known = [
    (section, key) for section, fields in keys(Settings).items() for key in (fields or {None: None})
]


def taken_or_refused(path: Path) -> Settings | None:
    """The settings, or None after a look at the message."""
    try:
        return load(path)
    except SettingsError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    assert str(path) in message
    return None


@hypothesis_settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300
)
@given(where=st.sampled_from(known), value=values | urls)
def test_any_value_is_taken_or_refused_in_one_line(
    write: Write, where: tuple[str, str | None], value: object
) -> None:
    section, key = where
    path = write(yaml.safe_dump({section: value if key is None else {key: value}}))
    settings = taken_or_refused(path)
    if settings is not None:
        for url in (*settings.upstream.repo, *settings.upstream.builds):
            assert url.isprintable()
            assert " " not in url


@hypothesis_settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200
)
@given(content=st.binary(max_size=50) | st.text(max_size=50).map(lambda t: t.encode("utf-8")))
def test_any_file_is_taken_or_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_bytes(content)
    taken_or_refused(path)
