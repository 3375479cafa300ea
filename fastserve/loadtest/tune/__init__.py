"""Which settings serve a model best on this machine: behind `fastserve tune`.

`space` (what is tried), `halving` (in which order, for how long), `servers` (that run with such settings),
`trial` (they are driven), `duel` (the best of them beside the defaults), `told` (what is recommended, and why), `written`
(as a file).
"""
