"""The direct door where there are users and keys: apart, so that it costs nothing where there are none.

It takes requests of callers who are known, and may; all else, refusals too, is the coroutine door's.
"""

from typing import Any

from fastserve.http.direct import DirectDoor


class GuardedDoor(DirectDoor):
    """Asks who it is first: a microsecond or two."""

    def takes(self, watcher: Any) -> bool:
        """Whether the request was taken. Granian's Python thread."""
        scope = watcher.scope
        match = self.site.find(scope.method, scope.path)
        return self.site.may_at_once(match, scope.headers) and super().takes(watcher)
