"""What functions cost, measured with pytest-benchmark: `make bench`, or one of them with `pytest --benchmark-enable`."""
