"""Builds every `ext/<name>.pyx` as `fastserve._ext.<name>`; everything else is in pyproject.toml.

FASTSERVE_SANITIZE=1 builds with AddressSanitizer and UBSan (see `make sanitize`). FASTSERVE_COMPILED=1 takes what
`build_ext --inplace` made as it is: an editable install would compile all of it once more, in a folder of its own.
"""

import os
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g", "-O1"]
RELEASE = ["-O3", "-fvisibility=hidden"]

compiled = os.environ.get("FASTSERVE_COMPILED") == "1"
sanitized = os.environ.get("FASTSERVE_SANITIZE") == "1"
flags = SANITIZE if sanitized else RELEASE
link = SANITIZE if sanitized else ["-static-libstdc++", "-static-libgcc", "-s"]


def extension(source: Path) -> Extension:
    return Extension(
        f"fastserve._ext.{source.stem}",
        [str(source)],
        depends=[str(header) for header in Path("ext").glob("*.hpp")],  # a changed header rebuilds all of them
        include_dirs=["ext", numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION")],
        extra_compile_args=["-std=c++17", *flags],
        extra_link_args=link,
        language="c++",
    )


setup(
    ext_modules=[]
    if compiled
    else cythonize(
        [extension(source) for source in sorted(Path("ext").glob("*.pyx"))],
        build_dir="build/cython",
        include_path=["ext"],
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "binding": True,
            "embedsignature": False,
        },
    ),
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
