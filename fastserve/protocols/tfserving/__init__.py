"""TensorFlow Serving's REST API: `routes` (paths), `errors`, `schema` (status, metadata), `envelope` (every body).

`codec` is predict; `classify` is classify and regress, with `examples` (JSON), `features` (tensors), `results` (answers).
"""
