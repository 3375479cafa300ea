"""Requests that are made up and run before a version serves, as the configuration says them."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class WarmupInput(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One input of a request that is made up."""

    shape: Annotated[tuple[int, ...], Meta(description="Of one row where rows are batched, else the whole.")] = ()
    data: Annotated[
        Literal["zero", "random", "file"], Meta(description="What it holds: zeros, random values, or a file's bytes.")
    ] = "zero"
    file: Annotated[str, Meta(description="Raw little-endian elements, for data = file.")] = ""
    datatype: Annotated[str, Meta(description="FP32 and so on; empty: the graph's.")] = ""


class WarmupConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request that is run, on every slot, before a version serves."""

    inputs: Annotated[dict[str, WarmupInput], Meta(description="By name, all that the model takes.")]
    name: Annotated[str, Meta(description="For messages.")] = ""
    rows: Annotated[int, Meta(ge=1, le=65_536, description="Rows of the request.")] = 1
    count: Annotated[int, Meta(ge=1, le=10_000, description="How often it is run.")] = 1
