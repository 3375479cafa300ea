"""Load on a running server, and what it answered: behind `fastserve bench` and `fastserve tune`.

`target` (who is driven), `specs` (what the model takes), `values` and `bodies` (what is sent), `drive` (sending it, by
`_ext.loadgen`), `batches` (what the server says of it), `slo`, `sweep` (verdicts), `report`, `table`, `page` (what is told).
"""
