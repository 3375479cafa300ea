"""What the API document says of the paths below /log. Pure data."""

from fastserve.http.operations import (
    ANYTHING,
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
from fastserve.protocols.log import monitoring_openapi

COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER_OR_NULL: Schema = {"type": ["number", "null"]}
STRING_OR_NULL: Schema = {"type": ["string", "null"]}
OBJECT: Schema = {"type": "object"}
CAME: dict[str, Schema] = {"timestamp": STRING, "received": STRING}
LABEL: Schema = {
    "type": ["object", "null"],
    "description": "`numeric`, `categorical`, `score`, or one of `ranking`, `multi_class`, `object_detection`, `cv_label`",
}


def or_null(schema: Schema) -> Schema:
    """That, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


RECORD: Schema = object_of(
    {
        "model_id": STRING,
        "prediction_id": STRING,
        "space": STRING,
        "environment": STRING,
        "batch_id": STRING_OR_NULL,
        "prediction": or_null(
            object_of({**CAME, "model_version": STRING_OR_NULL, "label": LABEL, "features": OBJECT, "tags": OBJECT})
        ),
        "actual": or_null(object_of({**CAME, "label": LABEL, "tags": OBJECT})),
        "feature_importances": or_null(object_of({**CAME, "model_version": STRING_OR_NULL, "values": OBJECT})),
    },
    {"document": object_of({**CAME, "version": STRING_OR_NULL}, {}, "of a corpus; its text's embedding beside")},
)
MODELS: Schema = object_of(
    {
        "models": list_of(
            object_of(
                {
                    "model_id": STRING,
                    "spaces": list_of(STRING),
                    "versions": list_of(STRING),
                    "environments": list_of(STRING),
                    "predictions": COUNT,
                    "actuals": COUNT,
                    "joined": {**COUNT, "description": "predictions that have their actual"},
                    "unjoined": {**COUNT, "description": "predictions that have none yet"},
                    "actuals_without_prediction": COUNT,
                    "feature_importances": COUNT,
                    "records": {**COUNT, "description": "parts of records as they were sent, repeated ones too"},
                    "first": STRING,
                    "last": STRING,
                    "label_delay_p50_s": NUMBER_OR_NULL,
                    "label_delay_p95_s": NUMBER_OR_NULL,
                }
            )
        )
    }
)
ROWS: Schema = object_of(
    {
        "columns": list_of(object_of({"name": STRING, "type": STRING})),
        "rows": list_of(list_of(ANYTHING)),
        "truncated": {"type": "boolean", "description": "there were more rows than max_rows"},
    }
)
QUERY: Schema = object_of(
    {"sql": STRING},
    {
        "model": {**STRING_OR_NULL, "description": "ask about this one only, which is quicker"},
        "parameters": list_of({"type": ["string", "number", "boolean", "null"]}, "for the `?` of the statement"),
        "max_rows": {"type": "integer", "minimum": 1, "maximum": 100_000, "default": 10_000},
    },
)
ACCURACY = "select avg((label_cat = actual_cat)::int) from joined where actual_cat is not null"
SPACE = Parameter("space", "Of which space, where the id is in several.", STRING)
ARROW = Media({"type": "string", "format": "binary"}, type="application/vnd.apache.arrow.stream")
ERRORS = (501, 504)

OPERATIONS = (
    Operation(
        method="GET",
        paths=("/log/records/{model}/{prediction_id}",),
        summary="Read a record",
        text="Everything that was logged for a prediction, with the actual that came whenever it came. Percent-encode what is"
        " no letter or digit; slashes may stand in both.",
        parameters=(SPACE,),
        answers=(Answer("The record.", (Media(ref("LogRecord")),)),),
        errors=ERRORS,
    ),
    Operation(
        method="DELETE",
        paths=("/log/records/{model}/{prediction_id}",),
        summary="Delete a record",
        text="Whatever was logged for the prediction so far is seen no more from now on, and removed from the files when"
        " the log is next compacted.",
        parameters=(SPACE,),
        answers=(
            Answer(
                "It is deleted, on disk.",
                (
                    Media(
                        object_of(
                            {"model_id": STRING, "prediction_id": STRING, "spaces": list_of(STRING), "deleted": COUNT}
                        )
                    ),
                ),
            ),
        ),
        errors=ERRORS,
    ),
    Operation(
        method="GET",
        paths=("/log/models",),
        summary="List what is logged",
        text="Of each model: how many predictions and actuals, how many of them are joined, how late labels come.",
        answers=(Answer("The models that the caller may see.", (Media(MODELS),)),),
        errors=ERRORS,
    ),
    Operation(
        method="POST",
        paths=("/log/query",),
        summary="Ask in SQL",
        text="One SELECT, as DuckDB has it, over the views records, predictions, actuals, importances and joined, of what"
        " the caller may see. Features are columns `f.NAME`, tags `t.NAME`, importances `i.NAME`. Time, memory and rows are"
        " bounded. Ask for `application/vnd.apache.arrow.stream` to have Arrow instead of JSON.",
        body=(Media(QUERY, {"accuracy": {"sql": ACCURACY, "model": "iris"}}),),
        answers=(Answer("The rows.", (Media(ROWS), ARROW)),),
        errors=ERRORS,
    ),
    Operation(
        method="GET",
        paths=("/log/query",),
        summary="Ask in SQL, from a browser",
        parameters=(
            Parameter("sql", "One SELECT.", STRING),
            Parameter("model", "Ask about this one only.", STRING),
            Parameter("max_rows", "Rows that come back.", {"type": "integer", "minimum": 1, "maximum": 100_000}),
        ),
        answers=(Answer("The rows.", (Media(ROWS), ARROW)),),
        errors=ERRORS,
    ),
)

DESCRIBED = Described(
    name="log",
    text="The prediction log, read.",
    operations=(*OPERATIONS, *monitoring_openapi.OPERATIONS),
    schemas={"LogRecord": RECORD, **monitoring_openapi.SCHEMAS},
    error=Media(ERROR_OBJECT),
    samples={"prediction_id": "p-1"},
)
