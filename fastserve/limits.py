"""How much of anything a client may send, in one place; bodies have an option of their own (`--max-body-bytes`).

Whoever reads it counts before memory is taken. docs/operation.md has the same table, and a test compares them.
"""

MAX_HEAD_BYTES = 128 << 10
"""A request's first line and headers, over HTTP/1; a connection that has sent half of them holds no more than this."""

MAX_HEADERS_BYTES = 64 << 10
"""A request's headers over HTTP/2, names and values unpacked and 32 bytes for each, as RFC 9113 counts them."""

MAX_HEADERS = 100
"""Headers of a request over HTTP/1: Granian's own limit."""

MAX_PATH_BYTES = 65_534
"""Of a request's path and query: Granian's own limit."""

MAX_DEPTH = 100
"""Lists and objects within each other, in what is read of a JSON body; tensors have NumPy's limit, MAX_RANK."""

MAX_RANK = 64
"""Dimensions of a tensor."""

MAX_PARAMETERS = 1024
"""Members of one `parameters` of an Open Inference request."""

MAX_PREDICTIONS = 1024
"""Predictions of one POST /v1/predict."""

MAX_PIXELS = 1 << 25
"""Of an image, as its file claims, before it is decoded."""

MAX_CLASSES = 1_000_000
"""Strings that `classification` answers: rows times classes."""

MAX_URL_CHARS = 4096
"""Of a `data_url`."""

MAX_ID_CHARS = 512
"""Of a prediction's id, a model's, a version's, a batch's or a space's in the prediction log."""

MAX_NAME_CHARS = 1024
"""Of the name of a feature or a tag."""

MAX_TAG_CHARS = 20_000
"""Of a tag's value."""

MAX_VALUES = 4096
"""Features of a record, and tags, and importances."""

MAX_EMBEDDINGS = 30
"""Of a record."""

MAX_DIMENSIONS = 20_000
"""Of an embedding."""

MAX_RECORDS = 100_000
"""Of one POST /v1/bulk or /v1/preprod."""

MAX_TABLE_ROWS = 1_000_000
"""Of one POST /v1/pandas_arrow."""
