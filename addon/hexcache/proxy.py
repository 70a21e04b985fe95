import re, pathlib


def sub(f, *pairs):
    p = pathlib.Path(f)
    s = p.read_text()
    for a, b in pairs:
        assert s.count(a) == 1, (f, a, s.count(a))
        s = s.replace(a, b)
    p.write_text(s)


sub(
    "connections.py",
    (
        """    _broke: Callable[[], None]
""",
        """    _broke: Callable[[], None]
    _took: Callable[[int], None]
""",
    ),
    (
        """            if not chunk:
                return
            yield chunk
""",
        """            if not chunk:
                return
            self._took(len(chunk))
            yield chunk
""",
    ),
    (
        """    variable that leads back there is left unused, or a request would go round for ever.\"\"\"
""",
        """    variable that leads back there is left unused, or a request would go round for ever. `took` is
    told how many bytes of bodies come.\"\"\"
""",
    ),
    (
        """        own_addresses: Iterable[tuple[str, int]] = (),
    ) -> None:
        self._gate = gate
""",
        """        own_addresses: Iterable[tuple[str, int]] = (),
        *,
        took: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._gate = gate
        self._took = took
""",
    ),
    (
        """                    _broke=lambda: self._retire(pool),
""",
        """                    _broke=lambda: self._retire(pool),
                    _took=self._took,
""",
    ),
    (
        """    return urlsplit(url).netloc.rpartition("@")[2]
""",
        """    return urlsplit(url).netloc.rpartition("@")[2]


def label_of(base: str) -> str:
    \"\"\"What a base URL is called in statistics and metrics: HOST[:PORT][/PATH].\"\"\"
    return host_of(base) + urlsplit(base).path.rstrip("/")
""",
    ),
)
sub(
    "health.py",
    ("from urllib.parse import urlsplit\n", ""),
    ("import host_of\n", "import host_of, label_of\n"),
    (
        '            result[host_of(base) + urlsplit(base).path.rstrip("/")] = {',
        "            result[label_of(base)] = {",
    ),
    (
        """        \"\"\"For each base URL, without its scheme: `up`,""",
        """        \"\"\"For each base URL, by `label_of`: `up`,""",
    ),
)
sub(
    "upstream.py",
    (
        "import Connections, Response, host_of\n",
        "import Connections, Response, host_of, label_of\n",
    ),
    (
        "from collections.abc import AsyncIterator, Iterable, Mapping, Sequence",
        "from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence",
    ),
    (
        "from hexcache.settings import Settings\n",
        "from hexcache.settings import Settings\nfrom hexcache.telemetry import Telemetry\n",
    ),
    (
        """        pace: Pace | None = None,
    ) -> None:
""",
        """        pace: Pace | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._telemetry = telemetry or Telemetry()
""",
    ),
    (
        """        self._connections = Connections(settings.upstream, self.gate, own_addresses)
        every = [base for bases in self._bases.values() for base in bases]
""",
        """        self._connections = Connections(
            settings.upstream, self.gate, own_addresses, took=self._telemetry.fetched
        )
        every = [base for bases in self._bases.values() for base in bases]
        self._labels = {base: label_of(base) for base in every}
""",
    ),
    (
        """            with self._health.question(base, path) as answered:
                async with self._get""",
        """            with self._question(base, path) as answered:
                async with self._get""",
    ),
    (
        """        with self._health.question(base, target) as answered:
""",
        """        with self._question(base, target) as answered:
""",
    ),
    (
        """        # As little of it as can be asked for.
        async with self._get(base, path, {"Range": "bytes=0-0"}) as response:
            return response.status
""",
        """        with self._telemetry.question(self._labels[base]) as answered:
            # As little of it as can be asked for.
            async with self._get(base, path, {"Range": "bytes=0-0"}) as response:
                answered(response.status)
                return response.status

    @contextlib.contextmanager
    def _question(self, base: str, path: str) -> Iterator[Callable[[int], None]]:
        \"\"\"Who has to know of a question hears of its answer.\"\"\"
        with (
            self._health.question(base, path) as told_health,
            self._telemetry.question(self._labels[base]) as told_telemetry,
        ):

            def answered(status: int) -> None:
                told_telemetry(status)
                told_health(status)

            yield answered
""",
    ),
)
sub(
    "transfer.py",
    (
        "from hexcache.spool import Source, Spool\n",
        "from hexcache.spool import Source, Spool\nfrom hexcache.telemetry import Telemetry\n",
    ),
    (
        """        self, upstream: Upstream, spool: Callable[[str, int], Spool], *, give_up: float, pace: Pace
    ) -> None:
""",
        """        self,
        upstream: Upstream,
        spool: Callable[[str, int], Spool],
        *,
        give_up: float,
        pace: Pace,
        telemetry: Telemetry,
    ) -> None:
""",
    ),
    (
        """        self._give_up = give_up
        self._pace = pace

    async def run""",
        """        self._give_up = give_up
        self._pace = pace
        self._telemetry = telemetry

    async def run""",
    ),
    (
        "        run = _Run(order, spool, progress, self._upstream, self._give_up, self._pace)\n",
        """        run = _Run(
            order, spool, progress, self._upstream, self._give_up, self._pace, self._telemetry
        )
""",
    ),
    (
        """        pace: Pace,
    ) -> None:
        self._order = order
""",
        """        pace: Pace,
        telemetry: Telemetry,
    ) -> None:
        self._telemetry = telemetry
        self._order = order
""",
    ),
    (
        """    def _refuse(self, base: str, error: VerificationError) -> None:
""",
        """    def _refuse(self, base: str, error: VerificationError) -> None:
        self._telemetry.refused(error.check)
""",
    ),
)
sub(
    "refresh.py",
    (
        "from hexcache.store import Store\n",
        "from hexcache.store import Store\nfrom hexcache.telemetry import Telemetry\n",
    ),
    (
        """        builds_keys: KeyRing | None,
        clock: Callable[[], float],
    ) -> None:
""",
        """        builds_keys: KeyRing | None,
        clock: Callable[[], float],
        telemetry: Telemetry,
    ) -> None:
        self._telemetry = telemetry
""",
    ),
    (
        """            logger.error("the stored copy of %s is dropped: %s", resource, error)
""",
        """            self._telemetry.refused(error.check)
            logger.error("the stored copy of %s is dropped: %s", resource, error)
""",
    ),
    (
        """            raise VerificationError("pair", f"{csv.path}.signed is missing ({signed})")
""",
        """            self._telemetry.refused("pair")
            raise VerificationError("pair", f"{csv.path}.signed is missing ({signed})")
""",
    ),
    (
        """            registry.verify_signed_file(content, signature_content, self._builds_keys, csv.path)
""",
        """            try:
                registry.verify_signed_file(content, signature_content, self._builds_keys, csv.path)
            except VerificationError as error:
                self._telemetry.refused(error.check)
                raise
""",
    ),
)
sub(
    "cache.py",
    (
        "from hexcache.store import Store\n",
        "from hexcache.store import Store\nfrom hexcache.telemetry import Telemetry\n",
    ),
    (
        """        pace: Pace | None = None,
    ) -> None:
""",
        """        pace: Pace | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
""",
    ),
    (
        """        pace = pace or Pace()
""",
        """        pace = pace or Pace()
        telemetry = telemetry or Telemetry()
""",
    ),
    (
        """            Transfers(upstream, store.spool, give_up=give_up, pace=pace),
""",
        """            Transfers(upstream, store.spool, give_up=give_up, pace=pace, telemetry=telemetry),
""",
    ),
    (
        """            builds_keys=trust.builds,
            clock=clock,
""",
        """            builds_keys=trust.builds,
            clock=clock,
            telemetry=telemetry,
""",
    ),
)
sub(
    "messages.py",
    (
        "from hexcache.freshness import Wishes\n",
        "from hexcache.freshness import Wishes\nfrom hexcache.resources import Kind\n",
    ),
    (
        """    `length` overrules the body's for HEAD. `subject` is what the log calls the resource.\"\"\"
""",
        """    `length` overrules the body's for HEAD. `subject` is what the log calls the resource, `kind` is
    None for what isn't one.\"\"\"
""",
    ),
    (
        """    subject: str = ""
    detail: str = ""
    length""",
        """    subject: str = ""
    kind: Kind | None = None
    detail: str = ""
    length""",
    ),
)
s = pathlib.Path("replies.py").read_text()
s = s.replace(
    "            subject=str(resource),\n",
    "            subject=str(resource),\n            kind=resource.kind,\n",
)
s = s.replace(
    "            subject=subject,\n            detail=refused.reason",
    "            subject=subject,\n            kind=resource.kind if resource else None,\n            detail=refused.reason",
)
pathlib.Path("replies.py").write_text(s)
