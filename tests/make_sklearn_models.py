"""Trains small scikit-learn models, converts them with skl2onnx, and writes them with what scikit-learn itself answers.

    pip install 'fastserve[dev]' && python tests/make_sklearn_models.py

Each becomes `tests/sklearn_models/<name>.onnx`; `answers.json` there holds, by name, the verb, the examples as a client
sends them, and the answers. Every random choice is seeded.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

FOLDER = Path(__file__).parent / "sklearn_models"
OPSETS = {"": 17, "ai.onnx.ml": 3}
ROWS = [3, 70, 140]

IRIS = load_iris()
X = IRIS.data.astype(np.float32)
SPECIES = IRIS.target_names[IRIS.target]
NUMBERS = IRIS.target * 10 - 10
IS_VIRGINICA = np.where(IRIS.target == 2, "yes", "no")
WIDTHS = X @ np.array([0.1, -0.2, 0.3, 0.4], np.float32) + 1

SMALL: dict[str, Any] = {"max_depth": 2, "random_state": 0}
CLASSIFIERS: dict[str, tuple[Any, Any]] = {
    "logistic_strings": (LogisticRegression(max_iter=500), SPECIES),
    "logistic_integers": (LogisticRegression(max_iter=500), NUMBERS),
    "logistic_binary": (make_pipeline(StandardScaler(), LogisticRegression()), IS_VIRGINICA),
    "forest_strings": (RandomForestClassifier(3, **SMALL), SPECIES),
    "forest_integers": (RandomForestClassifier(3, **SMALL), NUMBERS),
    "tree_strings": (DecisionTreeClassifier(**SMALL), SPECIES),
    "boosting_binary": (GradientBoostingClassifier(n_estimators=3, **SMALL), IS_VIRGINICA),
    "boosting_integers": (GradientBoostingClassifier(n_estimators=3, **SMALL), NUMBERS),
    "svc_strings": (CalibratedClassifierCV(SVC(), cv=2, ensemble=False), SPECIES),
    "bayes_strings": (GaussianNB(), SPECIES),
    "bayes_integers": (GaussianNB(), NUMBERS),
    "neighbours_strings": (KNeighborsClassifier(3), SPECIES),
    "mlp_strings": (MLPClassifier((4,), random_state=0, max_iter=2000), SPECIES),
    "mlp_binary": (MLPClassifier((4,), random_state=0, max_iter=2000), IS_VIRGINICA),
    "voting_strings": (
        VotingClassifier(
            [("a", LogisticRegression(max_iter=500)), ("b", GaussianNB())], voting="soft", flatten_transform=False
        ),
        SPECIES,
    ),
}
REGRESSORS: dict[str, Any] = {
    "linear": LinearRegression(),
    "ridge_scaled": make_pipeline(StandardScaler(), Ridge()),
    "forest": RandomForestRegressor(3, **SMALL),
    "tree": DecisionTreeRegressor(**SMALL),
    "boosting": GradientBoostingRegressor(n_estimators=3, **SMALL),
    "svr": SVR(C=0.1, epsilon=0.5),
    "neighbours": KNeighborsRegressor(3),
    "mlp": MLPRegressor(hidden_layer_sizes=(4,), random_state=0, max_iter=2000),
}


def write(name: str, model: onnx.ModelProto) -> None:
    model.ir_version = min(model.ir_version, 10)
    (FOLDER / f"{name}.onnx").write_bytes(model.SerializeToString())


def convert(fitted: Any, zipmap: bool | None) -> onnx.ModelProto:
    options = None if zipmap is None else {"zipmap": zipmap}
    types = [("measures", FloatTensorType([None, 4]))]
    return to_onnx(fitted, initial_types=types, options=options, target_opset=OPSETS)


def classifier(name: str, estimator: Any, target: Any) -> dict[str, Any]:
    """Once with the ZipMap that skl2onnx adds by default, once without."""
    # So few rows that neighbours and support vectors stay small.
    fitted = estimator.fit(X[::3], target[::3])
    write(name, convert(fitted, False))
    write(f"{name}_zipmap", convert(fitted, True))
    labels = [str(label) for label in fitted.classes_]
    pairs = [[[label, float(p)] for label, p in zip(labels, row, strict=True)] for row in fitted.predict_proba(X[ROWS])]
    return {"verb": "classify", "examples": [{"measures": row.tolist()} for row in X[ROWS]], "results": pairs}


def regressor(name: str, estimator: Any) -> dict[str, Any]:
    fitted = estimator.fit(X[::3], WIDTHS[::3])
    write(f"{name}_regressor", convert(fitted, None))
    values = [float(value) for value in np.ravel(fitted.predict(X[ROWS]))]
    return {"verb": "regress", "examples": [{"measures": row.tolist()} for row in X[ROWS]], "results": values}


def columns() -> dict[str, Any]:
    """One input for each column, of three types, as `to_onnx` makes them of a data frame."""
    rows = [(5.1, 3, "red"), (6.0, 1, "blue"), (7.7, 2, "red"), (4.2, 9, "green"), (5.5, 5, "blue"), (6.9, 7, "green")]
    table = np.array(rows, dtype=object)
    parts = ColumnTransformer([("numbers", StandardScaler(), [0, 1]), ("colours", OneHotEncoder(), [2])])
    fitted = make_pipeline(parts, LogisticRegression()).fit(table, ["a", "b", "a", "c", "b", "c"])
    types = [
        ("height", FloatTensorType([None, 1])),
        ("count", Int64TensorType([None, 1])),
        ("colour", StringTensorType([None, 1])),
    ]
    write("columns_zipmap", to_onnx(fitted, initial_types=types, target_opset=OPSETS))
    examples = [{"height": h, "count": n, "colour": colour} for h, n, colour in rows[:3]]
    pairs = [
        [[label, float(p)] for label, p in zip(fitted.classes_, row, strict=True)]
        for row in fitted.predict_proba(table[:3])
    ]
    return {"verb": "classify", "examples": examples, "results": pairs}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    answers: dict[str, Any] = {}
    for name, (estimator, target) in CLASSIFIERS.items():
        answers[name] = answers[f"{name}_zipmap"] = classifier(name, estimator, target)
    for name, estimator in REGRESSORS.items():
        answers[f"{name}_regressor"] = regressor(name, estimator)
    answers["columns_zipmap"] = columns()
    lines = [f"  {json.dumps(name)}: {json.dumps(answer)}" for name, answer in answers.items()]
    (FOLDER / "answers.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
