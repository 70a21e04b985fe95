"""Bodies that bypass the flow: sent chunk by chunk, no faster than the client takes them.

mitmproxy holds a response that an addon sets in memory, whole. These two layers differ from its
own in one step: where the response would be sent, the body is pulled from a source that the addon
left in the flow's metadata.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from mitmproxy import connection, http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    HttpLayer,
    HttpResponseHook,
    HttpStream,
    ResponseData,
    ResponseHeaders,
    ResponseProtocolError,
    SendHttp,
)

BODY = "hexcache_body"


@dataclass
class Pull:
    """One body on its way to one client. The addon puts the next piece into `chunk`, empty at the
    end, or sets `failed`; `abandoned` tells it that nobody wants the rest."""

    client: connection.Client
    source: AsyncGenerator[bytes]
    chunk: bytes = b""
    failed: bool = False
    abandoned: bool = False
    sent: int = 0


@dataclass
class HexcachePullHook(commands.StartHook):
    """Asks the addon for the next piece."""

    pull: Pull


class PullingStream(HttpStream):
    """One request and its response."""

    def send_response(self, already_streamed: bool = False) -> layer.CommandGenerator[None]:
        pull: Pull | None = self.flow.metadata.pop(BODY, None)
        if pull is None:
            yield from super().send_response(already_streamed)
            return
        response = self.flow.response
        assert response is not None
        response.timestamp_end = time.time()
        yield HttpResponseHook(self.flow)
        self.server_state = self.state_done
        if (yield from self._is_abandoned(pull)):
            return
        yield self._to_client(ResponseHeaders(self.stream_id, response, end_stream=False))
        while True:
            yield HexcachePullHook(pull)
            if pull.failed:
                # What was sent is not whole: only a broken connection tells the client so.
                yield self._to_client(
                    ResponseProtocolError(
                        self.stream_id, "the body broke off", ErrorCode.GENERIC_SERVER_ERROR
                    )
                )
                self.client_state = self.server_state = self.state_errored
                self.flow.live = False
                return
            if (yield from self._is_abandoned(pull)):
                return
            if not pull.chunk:
                break
            pull.sent += len(pull.chunk)
            yield self._to_client(ResponseData(self.stream_id, pull.chunk))
        if self.client_state == self.state_done:
            yield from self.flow_done()

    def _is_abandoned(self, pull: Pull) -> layer.CommandGenerator[bool]:
        if (yield from self.check_killed(False)):
            pull.abandoned = True
            yield HexcachePullHook(pull)
            return True
        return False

    def _to_client(self, event: ResponseHeaders | ResponseData | ResponseProtocolError) -> SendHttp:
        return SendHttp(event, self.context.client)


class PullingHttpLayer(HttpLayer):
    """mitmproxy's HTTP layer, with streams of ours."""

    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        self.streams[stream_id] = PullingStream(self.context.fork(), stream_id)
        yield from self.event_to_child(self.streams[stream_id], events.Start())


def leave(flow: http.HTTPFlow, source: AsyncGenerator[bytes]) -> None:
    """Have the flow's response sent with the body that `source` gives."""
    flow.metadata[BODY] = Pull(flow.client_conn, source)
