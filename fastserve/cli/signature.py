"""What a running server says of a model's inputs and outputs, read from TF Serving's metadata answer."""

from typing import Any

from msgspec import Struct

from fastserve.cli.client import CallFailed

ZEROS: dict[str, Any] = {"DT_STRING": "", "DT_BOOL": False}
"""What stands for a value that nobody gave; every other dtype: 0."""

MAX_MADE_UP_VALUES = 10_000_000


class RemoteSpec(Struct, frozen=True):
    """One input or output; `shape` None: of any rank; -1: free."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    dim_names: tuple[str, ...]

    @property
    def has_rows(self) -> bool:
        """Whether its first axis is free, so that it can be sent as rows."""
        return self.shape is None or self.shape[:1] == (-1,)

    def one_row(self) -> Any:
        """Zeros in the shape of one row; what else is free is 1 long."""
        return self._zeros((self.shape or ())[1:])

    def one_tensor(self) -> Any:
        """Zeros in the whole shape; what is free is 1 long."""
        return self._zeros(self.shape or ())

    def text(self) -> str:
        """`image float[rows, 8, 8]`, as in the start-up table."""
        kind = self.dtype.removeprefix("DT_").lower()
        if self.shape is None:
            return f"{self.name} {kind}[...]"
        dims = (name or "?" if dim < 0 else str(dim) for dim, name in zip(self.shape, self.dim_names, strict=True))
        return f"{self.name} {kind}[{', '.join(dims)}]"

    def _zeros(self, shape: tuple[int, ...]) -> Any:
        value: Any = ZEROS.get(self.dtype, 0)
        count = 1
        for dim in reversed([max(1, dim) if dim < 0 else dim for dim in shape]):
            count *= max(1, dim)
            if count > MAX_MADE_UP_VALUES:
                raise CallFailed(f"input {self.name} is too large to be made up; give --data")
            value = [value] * dim
        return value


def remote_inputs(metadata: Any) -> list[RemoteSpec]:
    """The inputs of `GET .../metadata`. Raises CallFailed."""
    return _specs(metadata, "inputs")


def remote_outputs(metadata: Any) -> list[RemoteSpec]:
    """The outputs of `GET .../metadata`. Raises CallFailed."""
    return _specs(metadata, "outputs")


def _specs(metadata: Any, side: str) -> list[RemoteSpec]:
    try:
        tensors = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"][side]
        return [_spec(name, tensor) for name, tensor in tensors.items()]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CallFailed("the model's metadata is not what TF Serving writes; give --data") from None


def _spec(name: str, tensor: Any) -> RemoteSpec:
    shape = tensor["tensor_shape"]
    if shape.get("unknown_rank"):
        return RemoteSpec(name, tensor["dtype"], None, ())
    dims = shape.get("dim", [])
    return RemoteSpec(
        name, tensor["dtype"], tuple(int(dim["size"]) for dim in dims), tuple(dim.get("name", "") for dim in dims)
    )
