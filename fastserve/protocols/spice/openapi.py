"""What the API document says of Spice's paths. Pure data."""

from fastserve.http.operations import (
    STRING,
    TEXT,
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

NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}
PREDICTION: Schema = object_of(
    {
        "status": {"enum": ["Success", "BadRequest", "InternalError"]},
        "model_name": STRING,
        "duration_ms": {"type": "integer", "minimum": 0},
    },
    {
        "model_version": STRING,
        "prediction": list_of(NUMBER_OR_NULL, "Every output of every row of the dataset, one after the other."),
        "error_message": STRING,
    },
)
MODELS: Schema = object_of(
    {
        "object": {"const": "list"},
        "data": list_of(
            object_of(
                {
                    "id": STRING,
                    "object": {"const": "model"},
                    "owned_by": STRING,
                    "datasets": list_of(STRING),
                    "status": {"enum": ["Ready", "Initializing", "Error", "ShuttingDown", "Disabled"]},
                }
            )
        ),
    }
)
DATASETS: Schema = list_of(
    object_of(
        {
            "from": STRING,
            "name": STRING,
            "replication_enabled": {"type": "boolean"},
            "acceleration_enabled": {"type": "boolean"},
        },
        {
            "status": STRING,
            "rows": {"type": ["integer", "null"]},
            "columns": list_of(STRING),
            "error_message": {"type": ["string", "null"]},
        },
    )
)
FORMAT = Parameter("format", "`csv` for a table instead of JSON.", {"enum": ["json", "csv"]})
STATUS = Parameter("status", "`true`: how each one is, too.", {"enum": ["true", "false"]})
CSV = Media(STRING, type="text/csv")
PLAIN = Media(STRING, type=TEXT)

ONE = {"status": "Success", "model_name": "iris", "model_version": "1", "prediction": [0.1, 0.9], "duration_ms": 3}

OPERATIONS = (
    Operation(
        method="GET",
        paths=("/v1/models/{model}/predict",),
        summary="Predict from a dataset",
        text="Runs a model on every row of the dataset that the configuration gives it.",
        answers=(
            Answer("The prediction.", (Media(ref("SpicePrediction"), {"good": ONE}),)),
            *(
                Answer(text, (Media(ref("SpicePrediction")), PLAIN), status)
                for status, text in (
                    (400, "There is no such model, or no dataset that fits it; `error_message` says why."),
                    (500, "The prediction failed; `error_message` says why."),
                    (429, "Too much waits already."),
                    (503, "Not ready."),
                    (504, "The request's time ran out."),
                )
            ),
        ),
    ),
    Operation(
        method="POST",
        paths=("/v1/predict",),
        summary="Predict with several models",
        text="Each from its own dataset, all at a time; one that fails says so for itself.",
        body=(
            Media(
                object_of({"predictions": list_of(object_of({"model_name": STRING}))}),
                {"one": {"predictions": [{"model_name": "iris"}]}},
            ),
        ),
        answers=(
            Answer(
                "A prediction for each that was asked for.",
                (
                    Media(
                        object_of({"predictions": list_of(ref("SpicePrediction")), "duration_ms": {"type": "integer"}}),
                        {"one": {"predictions": [ONE], "duration_ms": 4}},
                    ),
                ),
            ),
        ),
        errors=(422, 504),
    ),
    Operation(
        method="GET",
        paths=("/v1/models",),
        summary="List models",
        parameters=(FORMAT,),
        answers=(Answer("The models that the caller may use.", (Media(MODELS), CSV)),),
    ),
    Operation(
        method="GET",
        paths=("/v1/datasets",),
        summary="List datasets",
        parameters=(FORMAT, STATUS),
        answers=(Answer("The datasets.", (Media(DATASETS), CSV)),),
    ),
    Operation(
        method="POST",
        paths=("/v1/datasets/{dataset}/acceleration/refresh",),
        summary="Read a dataset's files again",
        answers=(Answer("It is being read.", (Media(object_of({"message": STRING})),), 201),),
    ),
    Operation(
        method="GET",
        paths=("/v1/ready",),
        summary="Is the server ready",
        answers=(Answer("Yes.", (PLAIN,)),),
    ),
    Operation(
        method="GET",
        paths=("/health",),
        summary="Is the server alive",
        answers=(Answer("Yes.", (PLAIN,)),),
    ),
)

DESCRIBED = Described(
    name="spice",
    text="Spice.ai's predictions from datasets.",
    operations=OPERATIONS,
    schemas={"SpicePrediction": PREDICTION},
    error=PLAIN,
)
