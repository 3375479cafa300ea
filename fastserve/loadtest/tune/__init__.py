"""Which settings serve a model best on this machine: behind `fastserve tune`.

`space` (what is tried), `halving` (in which order, for how long), `trial` (a server with such settings, driven), `told` (what
is recommended, and why).
"""
