"""What the API document says of the prediction log's paths. Pure data."""

from fastserve.http.operations import (
    ANYTHING,
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

WHOLE: Schema = {"description": "an int64, as a number or as text", "type": ["integer", "string"]}
NUMBER: Schema = {"description": 'a double, as a number or as text; "NaN", "Infinity"', "type": ["number", "string"]}
VALUE: Schema = {
    "description": "a feature or tag: exactly one of these",
    "type": "object",
    "properties": {
        "string": STRING,
        "int": WHOLE,
        "double": NUMBER,
        "multi_value": object_of({}, {"values": list_of(STRING)}),
        "embedding": object_of({}, {"vector": list_of(NUMBER), "link_to_data": STRING, "raw_data": ANYTHING}),
        "dictionary": object_of({}, {"values": {"type": "object", "additionalProperties": NUMBER}}),
    },
    "minProperties": 1,
}
VALUES: Schema = {"type": "object", "additionalProperties": ref("ArizeValue")}
SCORED = object_of({}, {"category": STRING, "score": NUMBER})
LABEL: Schema = {
    "description": "one of these; ranking, object_detection, multi_class and cv_label as in the clients' proto",
    "type": "object",
    "properties": {
        "numeric": NUMBER,
        "categorical": STRING,
        "binary": {"type": "boolean"},
        "score_categorical": object_of(
            {},
            {
                "category": object_of({}, {"category": STRING}),
                "score_category": SCORED,
                "score_value": object_of({}, {"value": NUMBER}),
            },
        ),
        "ranking": ANYTHING,
        "object_detection": ANYTHING,
        "multi_class": ANYTHING,
        "cv_label": ANYTHING,
    },
}
TIME: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339; default: now"}
PREDICTION = object_of(
    {},
    {
        "timestamp": TIME,
        "model_version": STRING,
        "prediction_label": ref("ArizeLabel"),
        "label": ref("ArizeLabel"),
        "features": VALUES,
        "tags": VALUES,
    },
)
ACTUAL = object_of(
    {}, {"timestamp": TIME, "actual_label": ref("ArizeLabel"), "label": ref("ArizeLabel"), "tags": VALUES}
)
RECORD: Schema = object_of(
    {"model_id": STRING},
    {
        "prediction_id": {"type": "string", "maxLength": 512},
        "prediction": PREDICTION,
        "actual": ACTUAL,
        "feature_importances": object_of(
            {}, {"timestamp": TIME, "feature_importances": {"type": "object", "additionalProperties": NUMBER}}
        ),
        "environment_params": object_of(
            {},
            {"production": object_of({}), "training": object_of({}), "validation": object_of({}, {"batch_id": STRING})},
        ),
        "space_key": STRING,
    },
    "At least one of prediction, actual and feature_importances. Names may be in lowerCamelCase.",
)
ERROR: Schema = object_of(
    {
        "code": {"type": "integer", "description": "gRPC's"},
        "error": STRING,
        "message": STRING,
        "details": list_of({"type": "object"}),
    }
)
SPACE = Parameter("grpc-metadata-arize-space-id", "The space to log to.", STRING, "header")
EXAMPLE = {
    "model_id": "iris",
    "prediction_id": "ef00f52c",
    "prediction": {
        "model_version": "1",
        "features": {"petal_length": {"double": 1.4}, "garden": {"string": "north"}, "bees": {"int": "7"}},
        "prediction_label": {"score_categorical": {"score_category": {"category": "setosa", "score": 0.97}}},
    },
    "environment_params": {"production": {}},
}
ACTUAL_EXAMPLE = {
    "model_id": "iris",
    "prediction_id": "ef00f52c",
    "actual": {"actual_label": {"score_categorical": {"category": {"category": "setosa"}}}},
}
EMPTY = Media(object_of({}), {"stored": {}})
ERRORS = (403, 404, 501, 503)
STORED = "Stored; with the log's policy `always`: on disk."

OPERATIONS = (
    Operation(
        method="POST",
        paths=("/v1/log",),
        summary="Log a prediction, what really happened, or both",
        text="The type of the body is not looked at. Parts of one prediction may come in any order; the last one counts.",
        parameters=(SPACE,),
        body=(Media(ref("ArizeRecord"), {"prediction": EXAMPLE, "actual": ACTUAL_EXAMPLE}),),
        answers=(
            Answer(
                STORED,
                (EMPTY,),
                headers={"fastserve-prediction-id": "The id that a prediction without one was given."},
            ),
        ),
        errors=ERRORS,
    ),
    Operation(
        method="POST",
        paths=("/v1/bulk",),
        summary="Log many records",
        text="All or none of them are stored.",
        parameters=(SPACE,),
        body=(
            Media(
                object_of({}, {"model_id": STRING, "model_version": STRING, "records": list_of(ref("ArizeRecord"))}),
                {"one": {"model_id": "iris", "records": [EXAMPLE]}},
            ),
        ),
        answers=(Answer(STORED, (EMPTY,)),),
        errors=ERRORS,
    ),
    Operation(
        method="POST",
        paths=("/v1/preprod",),
        summary="Log records of training and validation",
        text="A line each: `trainingRecord` or `validationRecord`. All or none of them are stored.",
        parameters=(SPACE,),
        body=(Media(STRING, {"one": '{"trainingRecord":{"record":{}}}'}, type=TEXT),),
        answers=(Answer(STORED, (EMPTY,)),),
        errors=ERRORS,
    ),
    Operation(
        method="POST",
        paths=("/v1/pandas_arrow",),
        summary="Log a table",
        text="An Arrow IPC stream whose schema says in `arize-schema` what its columns are. All or nothing is stored.",
        parameters=(SPACE,),
        body=(
            Media(
                {"type": "string", "format": "binary", "description": "an Arrow IPC stream; any type is taken"},
                {"nothing": ""},
                type="application/octet-stream",
            ),
        ),
        answers=(
            Answer(
                STORED,
                (Media(object_of({}, {"realTimeIngestionUri": STRING}), {"stored": {"realTimeIngestionUri": ""}}),),
            ),
        ),
        errors=ERRORS,
    ),
)

DESCRIBED = Described(
    name="arize",
    text="The prediction log, as Arize's clients write it.",
    operations=OPERATIONS,
    schemas={"ArizeRecord": RECORD, "ArizeValue": VALUE, "ArizeLabel": LABEL},
    error=Media(
        ERROR, {"bad": {"code": 3, "error": "invalid feature type", "message": "invalid feature type", "details": []}}
    ),
)
