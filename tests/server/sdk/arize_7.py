"""What a user of the 7.x client writes; run in that client's own environment. PORT KEY SPACE; a line of status codes."""

import sys
import time
import warnings

warnings.simplefilter("ignore")

import pandas as pd  # noqa: E402
from arize.api import Client  # noqa: E402
from arize.pandas.logger import Client as TableClient  # noqa: E402
from arize.utils.types import (  # noqa: E402
    CorpusSchema,
    Embedding,
    EmbeddingColumnNames,
    Environments,
    ModelTypes,
    Schema,
)

PORT, KEY, SPACE = sys.argv[1:]
NOW = int(time.time())
URI = f"http://127.0.0.1:{PORT}/v1"


def single() -> list[int]:
    client = Client(api_key=KEY, space_id=SPACE, uri=URI)
    whole = client.log(
        model_id="stream",
        model_type=ModelTypes.SCORE_CATEGORICAL,
        environment=Environments.PRODUCTION,
        model_version="v1",
        prediction_id="p1",
        prediction_timestamp=NOW,
        prediction_label=("fraud", 0.9),
        features={"i": 2**60 + 1, "b": True, "d": float("inf"), "l": ["a", "b"], "none": None},
        embedding_features={"e": Embedding(vector=pd.Series([1.0, 2.0]), data="text", link_to_data="http://x")},
        tags={"t": 3},
        shap_values={"i": 0.25},
    )
    production = {"model_id": "stream", "environment": Environments.PRODUCTION, "prediction_id": "p1"}
    late = client.log(model_type=ModelTypes.SCORE_CATEGORICAL, actual_label=("ok", 0.1), **production)
    validation = client.log(
        model_id="stream",
        model_type=ModelTypes.REGRESSION,
        environment=Environments.VALIDATION,
        batch_id="b1",
        prediction_id="p2",
        prediction_label=1.5,
        actual_label=2.5,
    )
    return [future.result().status_code for future in (whole, late, validation)]


def tables() -> list[int]:
    client = TableClient(api_key=KEY, space_id=SPACE, uri=URI)
    frame = pd.DataFrame(
        {
            "id": ["d0", "d1", "d2"],
            "ts": [NOW - i for i in range(3)],
            "label": ["a", "b", "a"],
            "score": [0.5, 0.25, 1.0],
            "actual": ["a", "a", None],
            "count": [1, 2, 3],
            "size": [0.5, None, 1.5],
            "colour": pd.Categorical(["u", "v", "u"]),
            "on": [True, False, True],
            "tag": ["q"] * 3,
            "shap": [0.1, 0.2, 0.3],
            "vec": [[1.0, 2.0]] * 3,
            "text": ["hello"] * 3,
        }
    )
    schema = Schema(
        prediction_id_column_name="id",
        timestamp_column_name="ts",
        prediction_label_column_name="label",
        prediction_score_column_name="score",
        actual_label_column_name="actual",
        feature_column_names=["count", "size", "colour", "on"],
        tag_column_names=["tag"],
        shap_values_column_names={"count": "shap"},
        embedding_feature_column_names={"emb": EmbeddingColumnNames(vector_column_name="vec", data_column_name="text")},
    )
    scored = client.log(
        dataframe=frame,
        schema=schema,
        environment=Environments.PRODUCTION,
        model_id="table",
        model_type=ModelTypes.SCORE_CATEGORICAL,
        model_version="v2",
        sync=True,
        verbose=False,
    )
    numbers = client.log(
        dataframe=pd.DataFrame({"id": ["n1", "n2"], "said": [1.0, 2.0], "was": [1.5, 2.5], "f": [7, 8]}),
        schema=Schema(
            prediction_id_column_name="id",
            prediction_label_column_name="said",
            actual_label_column_name="was",
            feature_column_names=["f"],
        ),
        environment=Environments.TRAINING,
        model_id="numbers",
        model_type=ModelTypes.REGRESSION,
        model_version="v2",
    )
    ranks = client.log(
        dataframe=pd.DataFrame(
            {"id": ["1", "2"], "g": ["g", "g"], "r": [1, 2], "rel": [1.0, 0.0], "cats": [["click"], ["no"]]}
        ),
        schema=Schema(
            prediction_id_column_name="id",
            prediction_group_id_column_name="g",
            rank_column_name="r",
            relevance_score_column_name="rel",
            relevance_labels_column_name="cats",
        ),
        environment=Environments.PRODUCTION,
        model_id="ranks",
        model_type=ModelTypes.RANKING,
        model_version="v2",
    )
    classes = client.log(
        dataframe=pd.DataFrame(
            {
                "id": ["1"],
                "p": [[{"class_name": "dog", "score": 0.6}, {"class_name": "cat", "score": 0.4}]],
                "a": [[{"class_name": "dog", "score": 1}]],
            }
        ),
        schema=Schema(prediction_id_column_name="id", prediction_score_column_name="p", actual_score_column_name="a"),
        environment=Environments.PRODUCTION,
        model_id="classes",
        model_type=ModelTypes.MULTI_CLASS,
        model_version="v2",
    )
    documents = client.log(
        dataframe=pd.DataFrame({"doc": ["p1", "x2"], "ver": ["1", "2"], "vec": [[1.0, 2.0]] * 2, "text": ["a", "b"]}),
        schema=CorpusSchema(
            document_id_column_name="doc",
            document_version_column_name="ver",
            document_text_embedding_column_names=EmbeddingColumnNames(
                vector_column_name="vec", data_column_name="text"
            ),
        ),
        environment=Environments.CORPUS,
        model_id="stream",
        model_type=ModelTypes.GENERATIVE_LLM,
    )
    return [response.status_code for response in (scored, numbers, ranks, classes, documents)]


print("statuses", *single(), *tables())
