"""`python -m fastserve`, for where the `fastserve` script is not on the PATH."""

from fastserve.cli.main import main

main()
