"""The prediction log's wire, as Arize's clients speak it: POST /v1/log, /v1/bulk, /v1/preprod and /v1/pandas_arrow.

A record: `routes` asks `record` to read it (typed, and where that does not fit, `messages` by its tables), `rules` whether it
may be kept, and gives it to the log's writer as it came (`frame`); `reader` makes rows of what the log holds (`rows`).
"""
