"""What records may hold (public.proto of the official clients), as tables for `protojson`.

These say everything, and where it is wrong; `record` reads what most clients send by types, in a tenth of the time.
"""

from typing import Any

from fastserve.protocols.arize.protojson import (
    Mistake,
    boolean,
    check_sole,
    double,
    int64,
    mapped,
    message,
    repeated,
    string,
    told,
)

INVALID_FEATURE = "invalid feature type"
KINDS = ("string", "int", "double", "multi_value", "embedding", "dictionary")
"""What a feature or a tag may be."""

MULTI_VALUE = message({"values": repeated(string)})
TOKENS = message({"tokens": repeated(string)})
EMBEDDING = message(
    {
        "vector": repeated(double),
        "link_to_data": string,
        "raw_data": message({"tokenArray": TOKENS}),
    }
)
_VALUE = message(
    {
        "string": string,
        "int": int64,
        "double": double,
        "multi_value": MULTI_VALUE,
        "embedding": EMBEDDING,
        "dictionary": message({"values": mapped(double)}),
    }
)


def value(given: Any, path: str) -> dict[str, Any]:
    """A feature or tag: exactly one of the kinds."""
    expected = f"an object with one of {', '.join(KINDS)}"
    if type(given) is not dict:
        raise Mistake(expected=expected, got=told(given), path=path, message=INVALID_FEATURE)
    found: dict[str, Any] = _VALUE(given, path)
    if not found:
        got = f"one with {', '.join(sorted(given)[:8])}" if given else "an empty one"
        raise Mistake(expected=expected, got=got, path=path, message=INVALID_FEATURE)
    check_sole(found, KINDS, path)
    return found


SCORE_CATEGORICAL = message(
    {
        "categorical": string,
        "score": double,
        "category": message({"category": string}),
        "score_category": message({"category": string, "score": double, "numeric_sequence": repeated(double)}),
        "score_value": message({"value": double}),
    },
    ("category", "score_category", "score_value"),
)
_SIMPLE = {"binary": boolean, "categorical": string, "numeric": double, "score_categorical": SCORE_CATEGORICAL}
_COORDINATES = repeated(double)
_POLYGON = message({"coordinates": _COORDINATES, "category": string})
_SCORED_POLYGON = message(
    {"coordinates": _COORDINATES, "bbox_coordinates": _COORDINATES, "category": string, "score": double}
)
_BOX = message({"coordinates": _COORDINATES, "category": string, "score": double})
_BOXES = message({"bounding_boxes": repeated(_BOX)})
_SEMANTIC = message({"polygons": repeated(_POLYGON)})
_INSTANCES = message({"polygons": repeated(_SCORED_POLYGON)})
LABEL_KINDS = (*_SIMPLE, "ranking", "object_detection", "multi_class", "cv_label")

_CV_PREDICTED = ("prediction_object_detection_label", "semantic_segmentation_label")
_CV_ACTUAL = ("actual_object_detection_label", "semantic_segmentation_label")
PREDICTION_LABEL = message(
    {
        **_SIMPLE,
        "ranking": message({"prediction_group_id": string, "rank": int64, "prediction_score": double, "label": string}),
        "object_detection": _BOXES,
        "multi_class": message(
            {
                "multi_label": message(
                    {
                        "prediction_threshold_scores": mapped(
                            message({"prediction_score": double, "threshold_score": double})
                        )
                    }
                ),
                "single_label": message({"prediction_scores": mapped(double)}),
            },
            ("multi_label", "single_label"),
        ),
        "cv_label": message(
            {
                "prediction_object_detection_label": message({"prediction_bounding_boxes": repeated(_BOX)}),
                "semantic_segmentation_label": _SEMANTIC,
                "prediction_instance_segmentation_label": _INSTANCES,
            },
            (*_CV_PREDICTED, "prediction_instance_segmentation_label"),
        ),
    },
    LABEL_KINDS,
)
ACTUAL_LABEL = message(
    {
        **_SIMPLE,
        "ranking": message({"category": MULTI_VALUE, "relevance_score": double}),
        "object_detection": _BOXES,
        "multi_class": message({"actual_labels": repeated(string)}),
        "cv_label": message(
            {
                "actual_object_detection_label": message({"actual_bounding_boxes": repeated(_BOX)}),
                "semantic_segmentation_label": _SEMANTIC,
                "actual_instance_segmentation_label": _INSTANCES,
            },
            (*_CV_ACTUAL, "actual_instance_segmentation_label"),
        ),
    },
    LABEL_KINDS,
)
PREDICTION = message(
    {
        "timestamp": string,
        "model_version": string,
        "label": PREDICTION_LABEL,
        "prediction_label": PREDICTION_LABEL,
        "features": mapped(value),
        "tags": mapped(value),
        "llm_fields": message(
            {
                "llm_model_name": string,
                "llm_params": mapped(value),
                "prompt_template": string,
                "prompt_template_name": string,
            }
        ),
        "retrieved_document_ids": repeated(string),
    }
)
ACTUAL = message({"timestamp": string, "label": ACTUAL_LABEL, "actual_label": ACTUAL_LABEL, "tags": mapped(value)})
ENVIRONMENTS = ("training", "validation", "production")
RECORD = message(
    {
        "organization_key": string,
        "space_key": string,
        "model_id": string,
        "prediction_id": string,
        "prediction": PREDICTION,
        "actual": ACTUAL,
        "feature_importances": message(
            {"timestamp": string, "model_version": string, "feature_importances": mapped(double)}
        ),
        "prediction_and_actual": message({"prediction": PREDICTION, "actual": ACTUAL}),
        "environment_params": message(
            {"training": message({}), "validation": message({"batch_id": string}), "production": message({})},
            ENVIRONMENTS,
        ),
        "is_generative_llm_record": boolean,
    }
)
