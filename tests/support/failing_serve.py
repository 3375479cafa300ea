"""`fastserve` whose workers cannot start while the file that FAILING names is there."""

import os
from pathlib import Path
from typing import Any

from fastserve.cli.main import main
from fastserve.server import launch

FAILING_STARTS = ("python", "-m", "tests.support.failing_serve", "serve")
"""As the `program` of a ServerProcess."""

STATUS = 3

if __name__ == "__main__":
    load_app = launch._load_app

    def fail_or_load(*arguments: Any) -> Any:
        if Path(os.environ["FAILING"]).exists():
            os._exit(STATUS)
        return load_app(*arguments)

    launch._load_app = fail_or_load
    main()
