"""What a user of the 8.x client writes; run in that client's own environment. PORT KEY SPACE; a line of status codes."""

import sys
import time
import warnings

warnings.simplefilter("ignore")

import pandas as pd  # noqa: E402
from arize import ArizeClient  # noqa: E402
from arize.ml.types import Environments, ModelTypes, Schema  # noqa: E402

PORT, KEY, SPACE = sys.argv[1:]
NOW = int(time.time())
client = ArizeClient(api_key=KEY, api_host="127.0.0.1", api_port=int(PORT), api_scheme="http")


def single() -> list[int]:
    whole = client.ml.log_stream(
        space_id=SPACE,
        model_name="stream",
        model_type=ModelTypes.SCORE_CATEGORICAL,
        environment=Environments.PRODUCTION,
        model_version="v1",
        prediction_id="q1",
        prediction_timestamp=NOW,
        prediction_label=("fraud", 0.9),
        features={"i": 2**60 + 1, "s": "x"},
        tags={"t": 3},
        shap_values={"i": 0.25},
    )
    late = client.ml.log_stream(
        space_id=SPACE,
        model_name="stream",
        model_type=ModelTypes.SCORE_CATEGORICAL,
        environment=Environments.PRODUCTION,
        prediction_id="q1",
        actual_label=("ok", 0.1),
    )
    return [future.result().status_code for future in (whole, late)]


def tables() -> list[int]:
    frame = pd.DataFrame(
        {"id": ["e0", "e1"], "ts": [NOW, NOW - 5], "said": [1.0, 2.0], "was": [1.5, 2.5], "f": ["x", "y"], "t": [1, 2]}
    )
    response = client.ml.log(
        space_id=SPACE,
        model_name="table",
        model_type=ModelTypes.REGRESSION,
        dataframe=frame,
        schema=Schema(
            prediction_id_column_name="id",
            timestamp_column_name="ts",
            prediction_label_column_name="said",
            actual_label_column_name="was",
            feature_column_names=["f"],
            tag_column_names=["t"],
        ),
        environment=Environments.PRODUCTION,
        model_version="v3",
    )
    return [response.status_code]


print("statuses", *single(), *tables())
