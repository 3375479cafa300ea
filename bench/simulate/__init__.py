"""The real scheduler (`engine.batcher`, its queue and its costs) in simulated time: `python -m bench.simulate --help`.

Hours of requests pass in seconds, the same ones every time, and nothing of this machine is in the figures but the run times
that are given. `traces` (when requests come), `world` (time, alarms, slots), `policies` (what is compared), `outcome`.
"""
