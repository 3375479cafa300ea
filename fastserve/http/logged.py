"""The direct door's reply where there is an access log: apart, so that it costs nothing where there is none."""

from typing import Any

from fastserve.http.access import ID_HEADER, AccessLog, Asked
from fastserve.http.direct import DirectReply
from fastserve.http.message import Response
from fastserve.types import InferResult, Timing


class LoggedReply(DirectReply):
    """One request, from its headers to its answer and its line."""

    __slots__ = ("_timing",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._timing: Timing | None = None

    def _answer(self, outcome: Any) -> None:
        if isinstance(outcome, InferResult):
            self._timing = outcome.timing
        super()._answer(outcome)

    def deliver(self, response: Response) -> None:
        """Any thread."""
        site, headers = self._door.site, self._headers
        if len(response.body) >= site.packs_from_bytes and site.packs(response, headers, self.deliver):
            return
        access: AccessLog | None = site.access
        assert access is not None
        request_id = access.id_for(headers)
        with_id = [*response.headers, (ID_HEADER, request_id)]
        response = type(response)(response.status, with_id, response.body)
        super().deliver(response)
        scope = self._scope
        asked = Asked(scope.method, scope.path, scope.client, int(headers.get("content-length")), self._caller.name)
        access.note(request_id, asked, self, response, self._timing, site.clock() - self._started_ns)
