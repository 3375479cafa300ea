"""What the API document says of TensorFlow Serving's paths. Pure data."""

from fastserve.http.operations import (
    ANYTHING,
    ERROR_OBJECT,
    STRING,
    Answer,
    Described,
    Media,
    Operation,
    Schema,
    list_of,
    object_of,
    of_structs,
    ref,
)
from fastserve.protocols.tfserving.schema import MetadataBody, StatusBody

PREFIXES = ("/v1/models/{model}", "/model-serving/{model}")
TARGETS = tuple(prefix + which for prefix in PREFIXES for which in ("", "/versions/{version}", "/labels/{label}"))

SIGNATURE: Schema = {"type": "string", "description": "`serving_default`, or left out."}
BASE64: Schema = object_of({"b64": {"type": "string", "contentEncoding": "base64"}}, text="Bytes.")

PREDICT: Schema = {
    "description": "Exactly one of `instances` (by row) and `inputs` (by column).",
    "oneOf": [
        object_of(
            {"instances": list_of(ANYTHING, "A value a row; with several inputs an object of values by input's name.")},
            {"signature_name": SIGNATURE},
        ),
        object_of(
            {"inputs": {"description": "The input's tensor; with several inputs an object of tensors by name."}},
            {"signature_name": SIGNATURE},
        ),
    ],
}
PREDICTED: Schema = {
    "description": "In the form that was asked for. Numbers that are none are NaN and Infinity, as upstream writes them.",
    "oneOf": [object_of({"predictions": list_of(ANYTHING)}), object_of({"outputs": ANYTHING})],
}
FEATURE: Schema = {
    "description": 'A value, or a list of values; bytes as `{"b64": ...}`.',
    "oneOf": [
        STRING,
        {"type": "number"},
        ref("TfsBytes"),
        list_of({"oneOf": [STRING, {"type": "number"}, ref("TfsBytes")]}),
    ],
}
FEATURES: Schema = {"type": "object", "additionalProperties": ref("TfsFeature")}
EXAMPLES: Schema = object_of(
    {"examples": list_of(FEATURES, "Features by name, an object an example.")},
    {"signature_name": SIGNATURE, "context": {**FEATURES, "description": "Features that all examples have."}},
)
PAIRS: Schema = list_of(list_of({"type": "array", "prefixItems": [STRING, {"type": "number"}], "minItems": 2}))
NUMBERS: Schema = list_of({"type": "number"})


def _of_results(results: Schema) -> Schema:
    return object_of({"results": results}, {"result": results}, "`result` too under /model-serving.")


(_STATUS, _METADATA), _NAMED = of_structs([StatusBody, MetadataBody], "Tfs")

ROW_EXAMPLE = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
INFERENCE_ERRORS = (504,)

OPERATIONS = (
    Operation(
        method="POST",
        paths=tuple(f"{target}:predict" for target in TARGETS),
        summary="Predict",
        text="Runs a model on rows, or on whole tensors.",
        body=(
            Media(
                ref("TfsPredict"),
                {
                    "rows": ROW_EXAMPLE,
                    "columns": {"inputs": [[5.1, 3.5, 1.4, 0.2]]},
                    "several inputs": {"instances": [{"signal": [1, 2], "sensor": "a"}]},
                },
            ),
        ),
        answers=(Answer("What the model computed.", (Media(ref("TfsPredicted"), {"rows": {"predictions": [0]}}),)),),
        errors=INFERENCE_ERRORS,
    ),
    Operation(
        method="POST",
        paths=tuple(f"{target}:classify" for target in TARGETS),
        summary="Classify",
        text="Pairs of class and score for each example.",
        body=(Media(ref("TfsExamples"), {"one": {"examples": [{"x": 5.1, "y": 3.5}]}}),),
        answers=(
            Answer(
                "Classes and scores.", (Media(_of_results(PAIRS), {"one": {"results": [[["a", 0.9], ["b", 0.1]]]}}),)
            ),
        ),
        errors=INFERENCE_ERRORS,
    ),
    Operation(
        method="POST",
        paths=tuple(f"{target}:regress" for target in TARGETS),
        summary="Regress",
        text="A number for each example.",
        body=(Media(ref("TfsExamples"), {"one": {"examples": [{"x": 5.1, "y": 3.5}]}}),),
        answers=(Answer("A number for each example.", (Media(_of_results(NUMBERS), {"one": {"results": [0.5]}}),)),),
        errors=INFERENCE_ERRORS,
    ),
    Operation(
        method="GET",
        paths=TARGETS,
        summary="Status",
        text="Every version of a model, or the one asked for: what state it is in, and why.",
        answers=(Answer("The versions, the highest first.", (Media(_STATUS),)),),
    ),
    Operation(
        method="GET",
        paths=tuple(f"{target}/metadata" for target in TARGETS),
        summary="Metadata",
        text="A model's signature: names, types and shapes of what it takes and gives.",
        answers=(Answer("The signature.", (Media(_METADATA),)),),
    ),
)

DESCRIBED = Described(
    name="tfserving",
    text="TensorFlow Serving's REST API.",
    operations=OPERATIONS,
    schemas={
        "TfsPredict": PREDICT,
        "TfsPredicted": PREDICTED,
        "TfsBytes": BASE64,
        "TfsFeature": FEATURE,
        "TfsExamples": EXAMPLES,
        **_NAMED,
    },
    error=Media(ERROR_OBJECT, {"wrong": {"error": 'expected number, got "a" - at `$.instances[0][1]`'}}),
)
