"""Archives that are exported, imported, or made by anybody."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hexcache.jobs.base import Event, Order
from hexcache.jobs.importing import import_bundle
from hexcache.stock import bundle, tar
from support.machines import Machine
from support.signing import Rel

BODY = b"a tarball " * 20_000
FOO = Rel("1.0.0", BODY, deps=(("bar", "~> 1.0", True),))
BAR = Rel("1.0.0", b"bar")


def exported(machine: Machine) -> bytes:
    out = io.BytesIO()
    bundle.write(machine.library, bundle.everything(machine.library)[0], out)
    return out.getvalue()


def archive(files: Mapping[str, bytes], **told: Any) -> bytes:
    """As anybody may make one; `told` is hexcache.json's."""
    if told:
        files = {**files, "hexcache.json": json.dumps({"format": 1, "files": told}).encode()}
    parts = (tar.header(n, len(b), 0) + b + tar.padding(len(b)) for n, b in files.items())
    return b"".join(parts) + tar.END


async def imported(machine: Machine, content: bytes) -> tuple[dict[str, int], dict[str, str]]:
    """The numbers, and of each member that isn't simply there what became of it and why."""
    events: list[Event] = []
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        await import_bundle(machine.core, Order(upload=Path(file.name)), events.append)
    members: dict[str, str] = {}
    for event in events:
        if "member" in event:
            members.setdefault(event["member"], f"{event['fate']}: {event['why']}")
    return dict(events[-1]["summary"]), members
