"""What the API document says of the paths under /v2, and of /. Pure data."""

from collections.abc import Iterator

from fastserve.http.operations import (
    ERROR_OBJECT,
    STRING,
    Answer,
    Described,
    Media,
    Operation,
    Parameter,
    Schema,
    list_of,
    object_of,
    ref,
)
from fastserve.protocols.oip import openapi_schemas as schemas

TARGETS = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
BYTES = "application/octet-stream"
EVENTS = "text/event-stream"

LENGTH = Parameter(
    "Inference-Header-Content-Length",
    "Where the JSON ends and the tensors in binary begin; 0: the body is one tensor's bytes.",
    schemas.SIZE,
    "header",
)
TENSOR = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}
TENSORS = Media(ref("OipTensors"), {"one input": {"inputs": [TENSOR]}})
ANY_INFERENCE = (
    Media(
        {"anyOf": [ref("OipTensors"), ref("OipLists"), ref("OipUrl")]},
        {
            "tensors": {"id": "1", "inputs": [TENSOR]},
            "rows": {"inputs": [[5.1, 3.5, 1.4, 0.2]]},
        },
    ),
    Media({}, type=BYTES),
    Media({}, type="image/png"),
    Media({}, type="image/jpeg"),
)
ANSWERED = Answer(
    "What the model computed, in the form that was asked for.",
    (Media({"anyOf": [ref("OipAnswer"), schemas.ANSWER_LISTS]}), Media({}, type=BYTES)),
    headers={"Inference-Header-Content-Length": "Where the JSON ends and the tensors in binary begin, if any do."},
)
INFERENCE_ERRORS = (501, 504)
YES = Media(object_of({}, {"live": schemas.FLAG, "ready": schemas.FLAG}))


def _paths(*ends: str) -> tuple[str, ...]:
    return tuple(target + end for end in ends for target in TARGETS)


def _inference() -> Iterator[Operation]:
    yield Operation(
        method="POST",
        paths=_paths("/infer", "/predict", ""),
        summary="Infer",
        text="Runs a model on tensors (Open Inference), in JSON or binary; on plain lists (MLRun); on an image.",
        body=ANY_INFERENCE,
        parameters=(LENGTH,),
        answers=(ANSWERED,),
        errors=INFERENCE_ERRORS,
    )
    yield Operation(
        method="POST",
        paths=_paths("/infer_dict", "/predict_dict"),
        summary="Infer from rows of names and values",
        body=(Media({"anyOf": [ref("OipDicts"), ref("OipUrl")]}, {"a row": {"inputs": [{"x": 5.1, "y": 3.5}]}}),),
        answers=(ANSWERED,),
        errors=INFERENCE_ERRORS,
    )


def _explanations() -> Iterator[Operation]:
    yield Operation(
        method="POST",
        paths=_paths("/explain"),
        summary="Explain",
        text="Shapley values: what each value of a row contributed to each number of an output.",
        body=ANY_INFERENCE,
        parameters=(LENGTH,),
        answers=(
            Answer(
                "The contributions.",
                (Media({"anyOf": [ref("OipAnswer"), schemas.EXPLAINED]}), Media({}, type=BYTES)),
            ),
        ),
        errors=INFERENCE_ERRORS,
    )


def _events() -> Iterator[Operation]:
    yield Operation(
        method="POST",
        paths=("/",),
        summary="An event",
        text="MLRun's: the body, or the header MLRun-Event-Path, says which model and which call.",
        body=(
            Media(
                {
                    "anyOf": [
                        object_of({}, {"model": STRING, "operation": STRING}),
                        ref("OipTensors"),
                        ref("OipLists"),
                        ref("OipDicts"),
                    ]
                },
                {"rows": {"model": "iris", "inputs": [[5.1, 3.5, 1.4, 0.2]]}},
            ),
        ),
        parameters=(Parameter("MLRun-Event-Path", "As /v2/models/iris/infer.", STRING, "header"),),
        answers=(
            Answer(
                "As the call answers.",
                (
                    Media({"anyOf": [ref("OipAnswer"), schemas.ANSWER_LISTS, schemas.EXPLAINED]}),
                    Media({}, type=BYTES),
                ),
            ),
        ),
        errors=INFERENCE_ERRORS,
    )


def _generation() -> Iterator[Operation]:
    body = Media(
        {"anyOf": [{"type": "object"}, ref("OipTensors")]},
        {"by names": {"text_input": "hello", "temperature": 0.5}},
    )
    event = Answer("One event; its data are the answer.", (Media(STRING, type=EVENTS),))
    yield Operation(
        method="POST",
        paths=_paths("/generate"),
        summary="Generate",
        text="Each member of the body is an input, each output a member of the answer.",
        body=(body,),
        answers=(
            Answer("The outputs.", (Media({"anyOf": [schemas.GENERATED, ref("OipAnswer")]}), Media({}, type=BYTES))),
        ),
        errors=INFERENCE_ERRORS,
    )
    yield Operation(
        method="POST",
        paths=_paths("/generate_stream"),
        summary="Generate, as an event",
        body=(body,),
        answers=(event,),
        errors=INFERENCE_ERRORS,
    )
    yield Operation(
        method="POST",
        paths=_paths("/infer_stream"),
        summary="Infer, as an event",
        body=(TENSORS,),
        answers=(event,),
        errors=INFERENCE_ERRORS,
    )


def _models() -> Iterator[Operation]:
    yield Operation(
        method="GET",
        paths=TARGETS,
        summary="A model's metadata",
        text="Names, types and shapes of what it takes and gives, and which versions serve.",
        answers=(Answer("The metadata.", (Media(schemas.MODEL),)),),
        errors=(501,),
    )
    yield Operation(
        method="GET",
        paths=_paths("/ready"),
        summary="Is a model ready",
        answers=(Answer("Yes.", (Media(object_of({"name": STRING, "ready": {"const": True}})),)),),
        errors=(501,),
    )
    yield Operation(
        method="GET",
        paths=_paths("/config"),
        summary="A model's configuration",
        answers=(Answer("As Triton has it.", (Media(schemas.CONFIG),)),),
        errors=(501,),
    )
    yield Operation(
        method="GET",
        paths=(*_paths("/stats"), "/v2/models/stats"),
        summary="Statistics",
        text="What versions have served since the server started, all workers together.",
        answers=(Answer("The sums.", (Media(schemas.STATS),)),),
        errors=(501,),
    )
    yield Operation(
        method="GET",
        paths=("/v2/models",),
        summary="The models' names",
        answers=(Answer("Those that the caller may use.", (Media(object_of({"models": list_of(STRING)})),)),),
    )


def _server() -> Iterator[Operation]:
    yield Operation(
        method="GET",
        paths=("/v2",),
        summary="The server's metadata",
        answers=(Answer("Name, version, extensions.", (Media(schemas.SERVER),)),),
    )
    yield Operation(
        method="GET",
        paths=("/", "/v2/health"),
        summary="Who is there",
        text="At `/`, a browser is led to /docs.",
        answers=(
            Answer("Name, version, extensions.", (Media(schemas.SERVER),)),
            Answer("To a browser, at `/`.", (), 303, {"Location": "/docs"}),
        ),
    )
    yield Operation(
        method="GET",
        paths=("/v2/docs", "/v2/docs/dataplane.json"),
        summary="Where this document is",
        text="As MLServer has it; below `/v2/models/MODEL` too.",
        answers=(Answer("There.", (), 307, {"Location": "/docs or /openapi.json"}),),
    )
    yield Operation(
        method="GET",
        paths=("/v2/health/live",),
        summary="Is the server alive",
        answers=(Answer("Yes.", (YES,)),),
    )
    yield Operation(
        method="GET",
        paths=("/v2/health/ready",),
        summary="Is the server ready",
        answers=(Answer("Yes.", (YES,)),),
    )


def _changes() -> Iterator[Operation]:
    done = {"load": schemas.FLAG, "unload": schemas.FLAG}
    for verb, text in (
        ("load", "What is on disk now, or the files it brings."),
        ("unload", "None of its versions serves."),
    ):
        yield Operation(
            method="POST",
            paths=(f"/v2/repository/models/{{model}}/{verb}",),
            summary=f"{verb.capitalize()} a model",
            text=f"{text} Answered when it is so in every worker.",
            body=(Media(object_of({}, {"parameters": {"type": "object"}}), {"nothing more": {}}),),
            needs_body=False,
            answers=(Answer("It is so.", (Media(object_of({"name": STRING}, done)),)),),
        )
    yield Operation(
        method="POST",
        paths=("/v2/repository/index",),
        summary="What there is",
        text="Every version of every model, served or only on disk.",
        body=(Media(object_of({}, {"ready": schemas.FLAG}), {"all": {}, "ready ones": {"ready": True}}),),
        needs_body=False,
        answers=(Answer("The versions.", (Media(schemas.INDEX),)),),
    )
    yield from _settings("/v2/logging", ref("OipLogging"), ref("OipLogging"), "What is logged", {"log_info": False})
    for path in ("/v2/trace/setting", "/v2/models/{model}/trace/setting"):
        yield from _settings(
            path, ref("OipTracing"), schemas.CHANGED_TRACING, "What is traced", {"trace_level": ["TIMESTAMPS"]}
        )


def _settings(path: str, shown: Schema, changed: Schema, summary: str, example: object) -> Iterator[Operation]:
    answer = Answer("All settings.", (Media(shown),))
    yield Operation(method="GET", paths=(path,), summary=summary, answers=(answer,))
    yield Operation(
        method="POST",
        paths=(path,),
        summary=f"{summary}: change",
        text="What is named is changed, in every worker.",
        body=(Media(changed, {"one": example}),),
        needs_body=False,
        answers=(answer,),
        errors=(501,),
    )


def _refused() -> Iterator[Operation]:
    refused = (Answer("Not served: the text says what to do instead.", (Media(ERROR_OBJECT),), 501),)
    yield Operation(
        method="POST",
        paths=(
            "/v2/repository/{repository}/index",
            "/v2/repository/{repository}/models/{model}/load",
            "/v2/repository/{repository}/models/{model}/unload",
        ),
        summary="A repository by name (not served)",
        answers=refused,
    )
    for memory in ("system", "cuda"):
        regions = f"/v2/{memory}sharedmemory"
        yield Operation(
            method="GET",
            paths=(f"{regions}/status", f"{regions}/region/{{region}}/status"),
            summary="Shared memory (not served)",
            answers=refused,
        )
        yield Operation(
            method="POST",
            paths=(
                f"{regions}/region/{{region}}/register",
                f"{regions}/unregister",
                f"{regions}/region/{{region}}/unregister",
            ),
            summary="Shared memory (not served)",
            answers=refused,
        )


DESCRIBED = Described(
    name="oip",
    text="Open Inference Protocol v2 with Triton's extensions; MLRun's and MLServer's calls on the same paths.",
    operations=(
        *_inference(),
        *_explanations(),
        *_events(),
        *_generation(),
        *_models(),
        *_server(),
        *_changes(),
        *_refused(),
    ),
    schemas=schemas.SCHEMAS,
    error=Media(ERROR_OBJECT, {"wrong": {"error": 'no model named "nobody"'}}),
    samples={"repository": "other", "region": "one"},
)
