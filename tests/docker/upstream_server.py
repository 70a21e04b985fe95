"""Hex itself, in a container: `support.upstream` with the repository in /repository/public and the
certificate in /upstream. Each request is a line on standard output. SIGUSR1 lets go of bodies that
are held back (paths that start with /installs/held)."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

from support.certificates import CertificateAuthority
from support.faults import hold
from support.upstream import Upstream

PUBLIC = Path("/repository/public")


def main() -> None:
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with Upstream(CertificateAuthority(Path("/upstream")), host="", port=443) as upstream:
        signal.signal(signal.SIGUSR1, lambda *_: upstream.release())
        for path in PUBLIC.rglob("*"):
            if path.is_file():
                upstream.files[f"/{path.relative_to(PUBLIC)}"] = path.read_bytes()

        upstream.fault("/installs/held", hold(100_000))
        seen = 0
        print("listens", flush=True)
        while not ended.wait(0.05):
            for request in upstream.requests[seen:]:
                seen += 1
                print(f"{request.method} {request.path} {request.status}", flush=True)


if __name__ == "__main__":
    main()
