"""One target of the Python layer under atheris, in a process of its own: `tests.fuzz.covered TARGET FOLDER SECONDS`.

What is imported once atheris is there tells it which ways were gone; so nothing of fastserve is imported before.
"""

import sys

MAX_LENGTH = 4096


def main() -> None:
    """Ends the process: 0 where all was well."""
    import atheris

    with atheris.instrument_imports(include=["fastserve"]):
        from tests.fuzz.targets import TARGETS
    target, folder, seconds = sys.argv[1:4]
    options = [f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}", f"-artifact_prefix={folder}/", "-timeout=20"]
    options += ["-rss_limit_mb=4096", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, f"{folder}/corpus"], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
