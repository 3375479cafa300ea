"""The wire protocols: one folder each, nothing shared sideways."""
