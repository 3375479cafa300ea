"""The server under load, beside bare Granian and raw onnxruntime: `python -m bench.load --help`."""
