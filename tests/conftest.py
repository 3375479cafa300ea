"""What every test shares: how hypothesis draws, what is in the environment; and nothing that takes time."""

import os

from hypothesis import HealthCheck, settings

# A failure prints the blob that repeats it (@reproduce_failure); CI draws the same examples every time.
settings.register_profile(
    "here", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow], max_examples=100
)
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

# pytest loads GNU readline, which tells the processes of xdist a width that no terminal has.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)
