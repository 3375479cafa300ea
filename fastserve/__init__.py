"""fastserve: ONNX models over HTTP, natively fast."""

__version__ = "0.1.0"
