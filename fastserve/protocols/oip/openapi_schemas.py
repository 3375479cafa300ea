"""What bodies under /v2 look like, for the API document. Pure data."""

from collections.abc import Mapping

from fastserve.http.operations import ANYTHING, STRING, Schema, list_of, object_of, of_structs, ref
from fastserve.protocols.oip.schema import DATATYPES, ModelMetadata, ServerMetadata
from fastserve.protocols.oip.trace_settings import LEVELS

NATURAL: Schema = {"type": "integer", "minimum": 0, "maximum": 2**64 - 1}
FLAG: Schema = {"type": "boolean"}
SIZE: Schema = {"type": "integer", "minimum": 0}
OBJECT: Schema = {"type": "object"}
DATATYPE: Schema = {"enum": sorted(DATATYPES.values())}
SHAPE: Schema = list_of(SIZE)

INPUT: Schema = object_of(
    {"name": STRING, "shape": SHAPE, "datatype": DATATYPE},
    {
        "data": {
            "description": "The numbers or texts, nested or flat; left out where they follow the JSON in binary. What is"
            ' no text may be sent as `{"b64": "..."}`.'
        },
        "parameters": object_of(
            {},
            {
                "binary_data_size": {**NATURAL, "description": "Bytes of this tensor behind the JSON."},
                "content_type": {"description": "MLServer's: np, pd, str, base64, datetime."},
            },
        ),
    },
)
WANTED: Schema = object_of(
    {"name": STRING},
    {
        "parameters": object_of(
            {},
            {
                "binary_data": {**FLAG, "description": "Behind the JSON, as bytes."},
                "classification": {**NATURAL, "description": "Only the so many best classes."},
            },
        )
    },
)
PARAMETERS: Schema = {
    **object_of(
        {},
        {
            "binary_data_output": {**FLAG, "description": "All outputs behind the JSON, as bytes."},
            "priority": {**NATURAL, "description": "1 leaves first; 0: the ordinary one."},
            "timeout": {**NATURAL, "description": "In microseconds."},
            "sequence_id": {"oneOf": [NATURAL, STRING]},
            "sequence_start": FLAG,
            "sequence_end": FLAG,
        },
    ),
    "additionalProperties": {"type": ["string", "number", "boolean", "object", "null"]},
}
TENSORS: Schema = object_of(
    {"inputs": list_of(ref("OipInput"))},
    {"id": STRING, "parameters": PARAMETERS, "outputs": list_of(ref("OipWanted"))},
    "Open Inference's tensors.",
)
LISTS: Schema = object_of(
    {"inputs": list_of(ANYTHING, "Rows, as the model's signature has them.")},
    {"id": {"type": ["string", "number", "boolean", "null"]}, "outputs": list_of(STRING)},
    "MLRun's plain lists.",
)
DICTS: Schema = object_of(
    {"inputs": list_of(OBJECT, "A row each: values by column.")},
    {"id": {"type": ["string", "number", "boolean", "null"]}, "outputs": list_of(STRING)},
    "MLRun's rows of names and values.",
)
URL: Schema = object_of(
    {"data_url": {**STRING, "description": "Where the rows are; only where `[data_url] allow` names it."}},
    {"id": STRING},
)
OUTPUT: Schema = object_of(
    {"name": STRING, "shape": SHAPE, "datatype": DATATYPE},
    {"data": list_of(ANYTHING), "parameters": OBJECT},
)
ANSWER_TENSORS: Schema = object_of(
    {"model_name": STRING, "model_version": STRING, "outputs": list_of(ref("OipOutput"))},
    {"id": STRING, "parameters": OBJECT},
)
ANSWER_LISTS: Schema = object_of(
    {"id": ANYTHING, "model_name": STRING, "model_version": STRING, "timestamp": STRING, "outputs": ANYTHING}
)
EXPLAINED: Schema = object_of(
    {
        "id": ANYTHING,
        "model_name": STRING,
        "model_version": STRING,
        "features": list_of(STRING),
        "explained": list_of(STRING),
        "outputs": ANYTHING,
        "base_values": ANYTHING,
    }
)
GENERATED: Schema = {
    **object_of({"model_name": STRING, "model_version": STRING}, {"id": STRING}),
    "description": "Each output by its name: a value, or a flat list.",
}

TOOK: Schema = object_of({"count": NATURAL, "ns": NATURAL})
STATS: Schema = object_of(
    {
        "model_stats": list_of(
            object_of(
                {
                    "name": STRING,
                    "version": STRING,
                    "last_inference": NATURAL,
                    "inference_count": NATURAL,
                    "execution_count": NATURAL,
                    "inference_stats": {"type": "object", "additionalProperties": TOOK},
                    "batch_stats": list_of(object_of({"batch_size": NATURAL})),
                    "memory_usage": list_of(
                        object_of({"type": STRING, "id": NATURAL, "byte_size": NATURAL}),
                        "an estimate: bytes of the version's files, weights included, times workers",
                    ),
                }
            )
        )
    }
)
CONFIG: Schema = object_of(
    {
        "name": STRING,
        "platform": STRING,
        "backend": STRING,
        "max_batch_size": SIZE,
        "input": list_of(object_of({"name": STRING, "data_type": STRING})),
        "output": list_of(object_of({"name": STRING, "data_type": STRING})),
    },
    text="Triton's ModelConfig.",
)
INDEX: Schema = list_of(
    object_of(
        {"name": STRING},
        {
            "version": STRING,
            "state": {"enum": ["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]},
            "reason": STRING,
        },
    )
)
LOGGING: Schema = object_of(
    {},
    {
        "log_file": STRING,
        "log_info": FLAG,
        "log_warning": FLAG,
        "log_error": FLAG,
        "log_verbose_level": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
        "log_format": {"enum": ["default", "ISO8601"]},
    },
)
TRACING: Schema = object_of(
    {},
    {
        "trace_level": list_of({"enum": list(LEVELS)}),
        "trace_rate": STRING,
        "trace_count": STRING,
        "log_frequency": STRING,
        "trace_file": STRING,
        "trace_mode": STRING,
    },
)
CHANGED_TRACING: Schema = object_of(
    {},
    {
        "trace_level": {"oneOf": [{"type": "null"}, {"enum": list(LEVELS)}, list_of({"enum": list(LEVELS)})]},
        "trace_rate": {"type": ["string", "integer", "null"]},
        "trace_count": {"type": ["string", "integer", "null"]},
        "log_frequency": {"type": ["string", "integer", "null"]},
    },
)

(SERVER, MODEL), _NAMED = of_structs([ServerMetadata, ModelMetadata], "Oip")

SCHEMAS: Mapping[str, Schema] = {
    "OipInput": INPUT,
    "OipWanted": WANTED,
    "OipOutput": OUTPUT,
    "OipTensors": TENSORS,
    "OipLists": LISTS,
    "OipDicts": DICTS,
    "OipUrl": URL,
    "OipAnswer": ANSWER_TENSORS,
    "OipLogging": LOGGING,
    "OipTracing": TRACING,
    **_NAMED,
}
