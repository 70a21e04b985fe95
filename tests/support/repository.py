"""A signed Hex repository, built by the hex_core inside rebar3: not by our own code."""

from __future__ import annotations

import base64
import copy
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA512

_SCRIPT = Path(__file__).with_name("build_registry.escript")


@dataclass
class _Release:
    deps: Mapping[str, str]
    optional: tuple[str, ...] = ()
    retired: tuple[str, str] | None = None
    text: str = ""


@dataclass
class HexRepository:
    """Change it with `publish` and the like, then `build` it into `files` (path → body)."""

    directory: Path
    packages: dict[str, dict[str, _Release]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.output = self.directory / "public"
        self.output.mkdir(exist_ok=True)
        self._key = rsa.generate_private_key(65537, 2048)
        self._key_file = self.directory / "private_key.pem"
        self._key_file.write_bytes(
            self._key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        self.public_key = (
            self._key.public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            .decode()
        )
        self.public_key_file = self.directory / "public_key.pem"
        self.public_key_file.write_text(self.public_key)
        (self.output / "public_key").write_text(self.public_key)

    def copied(self, directory: Path) -> HexRepository:
        """The same under the same key, to be changed by itself: building takes a moment."""
        made = copy.copy(self)
        made.directory = directory
        made.packages = copy.deepcopy(self.packages)
        made.output = directory / "public"
        shutil.copytree(self.output, made.output)
        return made

    def publish(
        self,
        package: str,
        version: str,
        deps: Mapping[str, str] | None = None,
        *,
        optional: tuple[str, ...] = (),
        text: str = "",
    ) -> None:
        """Add a release; `text` is what its module's text/0 gives."""
        self.packages.setdefault(package, {})[version] = _Release(deps or {}, optional, text=text)

    def replace(self, package: str, version: str, *, text: str) -> None:
        """The same URL with other content, as hexpm allows within an hour."""
        self.packages[package][version].text = text
        self._tarball(package, version).unlink()

    def revert(self, package: str, version: str) -> None:
        del self.packages[package][version]
        self._tarball(package, version).unlink()

    def retire(self, package: str, version: str, reason: str, message: str) -> None:
        """`reason`: other, invalid, security, deprecated or renamed."""
        self.packages[package][version].retired = (reason, message)

    def build(self) -> dict[str, bytes]:
        """Everything that a web server would serve."""
        spec = self.directory / "spec"
        spec.write_text("".join(map(self._term, self.packages.items())), encoding="utf-8")
        rebar3 = shutil.which("rebar3")
        assert rebar3 is not None
        subprocess.run(
            ["escript", _SCRIPT, rebar3, spec, self._key_file, self.output],
            check=True,
            timeout=60,
        )
        return self.files()

    def files(self) -> dict[str, bytes]:
        return {
            f"/{path.relative_to(self.output)}": path.read_bytes()
            for path in self.output.rglob("*")
            if path.is_file()
        }

    def signed_csv(self, text: str) -> tuple[bytes, bytes]:
        """A CSV of builds.hex.pm and its `.signed`."""
        body = text.encode()
        signature = self._key.sign(body, padding.PKCS1v15(), SHA512())
        return body, base64.b64encode(signature) + b"\n"

    def _tarball(self, package: str, version: str) -> Path:
        return self.output / "tarballs" / f"{package}-{version}.tar"

    def _term(self, item: tuple[str, dict[str, _Release]]) -> str:
        name, releases = item
        terms = []
        for version, release in releases.items():
            deps = ", ".join(
                f'{{"{dep}", "{requirement}", {str(dep in release.optional).lower()}}}'
                for dep, requirement in release.deps.items()
            )
            retired = (
                f'{{"{release.retired[0]}", "{release.retired[1]}"}}' if release.retired else "none"
            )
            terms.append(f'{{release, "{version}", [{deps}], {retired}, "{release.text}"}}')
        return f'{{package, "{name}", [{", ".join(terms)}]}}.\n'
