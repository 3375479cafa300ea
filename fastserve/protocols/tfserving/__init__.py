"""TensorFlow Serving's REST API: `routes` (paths), `codec` (predict's JSON), `schema` (status, metadata), `errors`."""
