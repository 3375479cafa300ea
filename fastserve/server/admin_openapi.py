"""What the API document says of the server's own paths. Pure data."""

from fastserve.http.operations import (
    ERROR_OBJECT,
    STRING,
    TEXT,
    Answer,
    Described,
    Media,
    Operation,
    Parameter,
    Schema,
    object_of,
)

FLAG: Schema = {"type": "boolean"}
METRICS = ("/metrics", "/monitoring/prometheus/metrics")
SAME = Answer("It is what the client has already (If-None-Match).", (), 304)
KNOWN = Parameter("If-None-Match", "The ETag of what the client has.", STRING, "header")


def _health(path: str, member: str, summary: str) -> Operation:
    told = object_of({member: FLAG})
    return Operation(
        method="GET",
        paths=(path,),
        summary=summary,
        answers=(
            Answer("Yes.", (Media(told, {"yes": {member: True}}),)),
            Answer(
                "No, and why.",
                (Media(object_of({member: FLAG, "reason": STRING}), {"no": {member: False, "reason": "draining"}}),),
                503,
            ),
        ),
    )


OPERATIONS = (
    _health("/livez", "live", "Is the server alive"),
    _health("/readyz", "ready", "Is the server ready"),
    _health("/startupz", "started", "Has the server started"),
    Operation(
        method="GET",
        paths=METRICS,
        summary="Metrics",
        text="For Prometheus, all workers together; at `--metrics-path` too.",
        answers=(Answer("Prometheus text.", (Media(STRING, type=TEXT),)),),
    ),
    Operation(
        method="GET",
        paths=("/openapi.json",),
        summary="This document",
        parameters=(KNOWN,),
        answers=(Answer("OpenAPI 3.1.", (Media({"type": "object"}),)), SAME),
    ),
    Operation(
        method="GET",
        paths=("/docs",),
        summary="This document as a page",
        answers=(Answer("The page.", (Media(STRING, type="text/html"),)),),
    ),
    Operation(
        method="GET",
        paths=("/docs/{file}",),
        summary="The page's files",
        parameters=(KNOWN,),
        answers=(Answer("A file.", (Media(STRING, type="text/javascript"), Media(STRING, type="text/css"))), SAME),
    ),
)

DESCRIBED = Described(
    name="admin",
    text="The server's own: health, metrics, this document.",
    operations=OPERATIONS,
    schemas={},
    error=Media(ERROR_OBJECT),
    samples={"file": "start.js"},
)
