"""Models to answers: look up, coalesce, run. Knows no protocol and no event loop."""
