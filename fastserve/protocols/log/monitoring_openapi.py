"""What the API document says of /log/performance and /log/drift: made from the questions and the answers. Pure data."""

from fastserve.http.operations import Answer, Media, Operation, Parameter, Schema, of_structs
from fastserve.monitor.drift import Drift
from fastserve.monitor.performance import Performance
from fastserve.monitor.question import LISTS, SENTENCES, DriftQuestion, PerformanceQuestion, Question

_ANSWERS, SCHEMAS = of_structs((Performance, Drift), "Log")
_QUESTIONS, _ASKED = of_structs((PerformanceQuestion, DriftQuestion), "Log")
SCHEMAS |= _ASKED


def _parameters(kind: type[Question]) -> tuple[Parameter, ...]:
    """Of a query: what the body's members are; those that are lists are repeated."""
    fields = _ASKED[f"Log{kind.__name__}"]["properties"]
    found = []
    for name in kind.__struct_fields__:
        schema = {key: value for key, value in fields[name].items() if key != "default"}
        many = " May be repeated." if name in LISTS else ""
        found.append(Parameter(name, SENTENCES[name] + many, schema))
    return tuple(found)


def _operations(
    path: str, kind: type[Question], asked: Schema, answered: Schema, summary: str, text: str
) -> list[Operation]:
    answers = (Answer("The answer.", (Media(answered),)),)
    return [
        Operation(
            method="GET",
            paths=(path,),
            summary=f"{summary}, from a browser",
            parameters=_parameters(kind),
            answers=answers,
            errors=(501, 504),
        ),
        Operation(
            method="POST",
            paths=(path,),
            summary=summary,
            text=text,
            body=(Media(asked, {"iris": {"model": "iris", "window": "1d"}}),),
            answers=answers,
            errors=(501, 504),
        ),
    ]


OPERATIONS = (
    *_operations(
        "/log/performance",
        PerformanceQuestion,
        _QUESTIONS[0],
        _ANSWERS[0],
        "How well a model does",
        "Its predictions beside what really happened: accuracy, precision, recall, F1, AUC, log loss, calibration of classes;"
        " MAE, RMSE, MAPE and R2 of numbers; NDCG, MRR and MAP of rankings. As a whole, over windows of time, and by slices,"
        " worst first.",
    ),
    *_operations(
        "/log/drift",
        DriftQuestion,
        _QUESTIONS[1],
        _ANSWERS[1],
        "Whether a model's data are what they were",
        "Features, predictions, scores and actuals beside a baseline: training records, those of a fixed time, or those right"
        " before. PSI in quantile bins of the baseline, Jensen-Shannon, chi-square, Kolmogorov-Smirnov, Wasserstein; of"
        " embeddings how far the centroids are apart.",
    ),
)
