"""Every error that Hexcache raises on purpose.

The message is one line that says what is wrong and what to do; what a program may want to act
on stands in attributes.
"""

from __future__ import annotations

import os


class HexcacheError(Exception):
    """Root of the tree. `str(error)` is fit for a user's eyes."""


class SettingsError(HexcacheError):
    """A setting that can't be used. `where` is the file or variable, `key` the dotted key."""

    def __init__(self, message: str, *, where: str = "", key: str = "") -> None:
        super().__init__(message)
        self.where = where
        self.key = key


class AuthorityError(HexcacheError):
    """The certificate authority can't be made or loaded."""


class ListenError(HexcacheError):
    """An address that can't be listened on."""


class StoreError(HexcacheError):
    """The store can't be opened, or a write to it failed (a full disk, for instance). `reason` is
    that alone, without a path, where the system gave one."""

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class StoreInUseError(StoreError):
    """Another process has the store."""


class VerificationError(HexcacheError):
    """Bytes that aren't what the registry signed. `check` names the check that failed:
    `gzip`, `message`, `signature`, `repository`, `name`, `checksum`, `key`, `older` or `pair`."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check


class UpstreamError(HexcacheError):
    """Upstream gave no usable answer. `status` is its HTTP status where there was one;
    `retry_after` is in seconds; `unreachable`: there wasn't even a connection; `timed_out`: it was
    only waited for long enough; `final`: the next try would end the same way."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        unreachable: bool = False,
        timed_out: bool = False,
        final: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.unreachable = unreachable
        self.timed_out = timed_out
        self.final = final


class OfflineError(UpstreamError):
    """Upstream was not asked, because the offline flag is set."""


class ControlError(HexcacheError):
    """A command for a running server that can't be given, or the server's refusal."""


class NoServerError(ControlError):
    """No server runs with this data directory."""


class LockFileError(HexcacheError):
    """A lock file that can't be read."""


class RequirementError(HexcacheError):
    """A version or a version requirement that can't be read."""


class BundleError(HexcacheError):
    """An archive of `hexcache export` that can't be written or read."""


def reason_of(error: BaseException) -> str:
    """What went wrong on this machine, in the system's words, on one line."""
    # asyncio's own text for a number repeats the address; those of name resolution are negative.
    number = getattr(error, "errno", None) or 0
    text = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)
    return text.split("\n")[0] or type(error).__name__
