"""Images as sent (PNG, JPEG, WebP) to the tensor that a model takes.

The input's shape says where the channels stand, how many there are, and, where they are fixed, height and width, which the
image is resized to; `image = {size, layout, mean, scale}` of the model's configuration says what the shape leaves open.

Pure. Memory: nothing is decoded before the size that the file claims is within `MAX_PIXELS`.
"""

import io
import math
import struct
import zlib
from typing import Any

import numpy as np
from msgspec import Struct

from fastserve.config import ImageConfig
from fastserve.engine.lease import Lease
from fastserve.errors import InvalidRequest, InvalidTensor, PayloadTooLarge, quoted
from fastserve.limits import MAX_PIXELS
from fastserve.protocols.oip.errors import NotOffered
from fastserve.protocols.oip.plan import STRING
from fastserve.protocols.oip.schema import describe, shape_text
from fastserve.types import DType, Tensor, TensorSpec

NAME = "oip.image"
FORMATS = ("PNG", "JPEG", "WEBP")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
MISSING = "images are read by Pillow, which is not installed here: pip install 'fastserve[images]'"

_BROKEN = (
    ArithmeticError,
    EOFError,
    IndexError,
    KeyError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What Pillow's readers raise for files that are not what they say."""


class TooManyPixels(PayloadTooLarge):
    """An image that is larger than what is decoded."""

    def __init__(self, told: str) -> None:
        Exception.__init__(self, f"the image has {told} pixels, at most {MAX_PIXELS} are read")


class ImagePlan(Struct, frozen=True):
    """What images become, of one version. `size`: height and width; 0 for as they come. `channels_first`: see layout.

    `shape`: the tensor's, -1 for what the image decides. `mean`, `scale`: None where pixels go in as they are.
    """

    name: str
    dtype: DType
    mode: str
    size: tuple[int, int]
    channels_first: bool
    shape: tuple[int, ...]
    mean: Tensor | None
    scale: Tensor | None


def image_tensor(body: bytes, lease: Lease) -> dict[str, Tensor]:
    """The model's one input, of an image file. Raises what says why it cannot be."""
    spec = _only_input(lease)
    if int(spec.dtype) == STRING:
        return {spec.name: _file_itself(body, spec)}
    plan: ImagePlan | None = lease.codecs.get(NAME)
    if plan is None:
        plan = lease.codecs[NAME] = make_plan(spec, lease.config.image or ImageConfig())
    return {plan.name: to_tensor(decoded(body, plan), plan)}


def make_plan(spec: TensorSpec, config: ImageConfig) -> ImagePlan:
    """The plan of one input."""
    shape = spec.shape
    if shape is None or len(shape) not in (2, 3, 4):
        raise _no_image(spec)
    if len(shape) == 2:
        return _flat_plan(spec, config)
    has_batch = len(shape) == 4 or not any(dim in MODES for dim in (shape[0], shape[-1]))
    inner = shape[1:] if has_batch else shape
    if has_batch and shape[0] not in (-1, 1):
        raise _no_image(spec)
    if len(inner) == 2:  # rows, height, width: without an axis of channels
        return _plan(spec, config, inner, 1, False, (1, -1, -1))
    first = _channels_first(inner, config, spec)
    channels = inner[0] if first else inner[2]
    channels = 3 if channels == -1 else channels
    if channels not in MODES:
        raise _no_image(spec)
    full = (channels, -1, -1) if first else (-1, -1, channels)
    return _plan(spec, config, inner[1:] if first else inner[:2], channels, first, (1, *full) if has_batch else full)


def decoded(body: bytes, plan: ImagePlan) -> Tensor:
    """The pixels, [height, width, channels] of uint8, as large as the plan says."""
    try:
        from PIL import Image
    except ImportError:
        raise NotOffered(MISSING) from None
    try:
        with Image.open(io.BytesIO(body), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise TooManyPixels(f"{width}x{height}")
            pixels = _eight_bit(image).convert(plan.mode)
            wanted = (plan.size[1] or width, plan.size[0] or height)
            if wanted != (width, height):
                pixels = pixels.resize(wanted, Image.Resampling.BILINEAR)
            found = np.asarray(pixels)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixels("far too many") from error
    except _BROKEN as error:
        raise InvalidRequest(f"the image cannot be read: expected a whole file of {', '.join(FORMATS)}") from error
    return found.reshape(*found.shape[:2], -1)


def _eight_bit(image: Any) -> Any:
    """Grey of 16 bits as one of 8: Pillow's own conversion makes white of all that is above 255."""
    from PIL import Image

    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


def to_tensor(pixels: Tensor, plan: ImagePlan) -> Tensor:
    """The pixels in the input's type, order and shape."""
    if plan.mean is not None and plan.scale is not None:
        pixels = (pixels.astype(np.float32) - plan.mean) * plan.scale
    if plan.channels_first:
        pixels = pixels.transpose(2, 0, 1)
    return _cast(np.ascontiguousarray(pixels), plan.dtype).reshape(_shape(plan, pixels))


def _shape(plan: ImagePlan, pixels: Tensor) -> tuple[int, ...]:
    sizes = iter(pixels.shape[1:] if plan.channels_first else pixels.shape[:2])
    return tuple(next(sizes) if dim == -1 else dim for dim in plan.shape)


def _cast(pixels: Tensor, dtype: DType) -> Tensor:
    if dtype is DType.BFLOAT16:
        bits = pixels.astype(np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    if dtype.is_float:
        return pixels.astype(dtype.numpy, copy=False)
    if dtype is DType.BOOL:
        return np.not_equal(pixels, 0)
    info = np.iinfo(dtype.numpy)
    whole = np.rint(pixels) if pixels.dtype.kind == "f" else pixels
    tensor: Tensor = np.clip(whole, float(info.min), float(info.max)).astype(dtype.numpy)
    return tensor


def _only_input(lease: Lease) -> TensorSpec:
    specs = lease.signature.inputs
    if len(specs) != 1:
        raise InvalidRequest(f"an image fits models with one input, this one takes {describe(specs)}")
    return specs[0]


def _file_itself(body: bytes, spec: TensorSpec) -> Tensor:
    if spec.shape is not None and math.prod(1 if dim == -1 else dim for dim in spec.shape) != 1:
        raise _no_image(spec)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise InvalidTensor(expected="UTF-8 text", got="bytes that are not UTF-8", path=spec.name) from error
    return np.array([text], object).reshape((1,) * (1 if spec.shape is None else len(spec.shape)))


def _flat_plan(spec: TensorSpec, config: ImageConfig) -> ImagePlan:
    """Of an input of so many values a row: only the configuration says how high and how wide that is."""
    rows, width = spec.shape or (0, 0)
    pixels = math.prod(config.size) if config.size else 0
    channels = width // pixels if pixels else 0
    if rows not in (-1, 1) or channels not in MODES or channels * pixels != width:
        raise _no_image(spec)
    first = config.layout == "nchw"
    return _plan(spec, config, (-1, -1), channels, first, (1, width))


def _channels_first(inner: tuple[int, ...], config: ImageConfig, spec: TensorSpec) -> bool:
    if config.layout is not None:
        return config.layout == "nchw"
    first, last = inner[0] in MODES, inner[2] in MODES
    if not first and not last:
        raise _no_image(spec)
    # [3, H, 3] is both; a height or width of 4 or less is the less likely reading.
    return first and not (last and inner[2] == 3 and inner[0] != 3)


def _plan(
    spec: TensorSpec,
    config: ImageConfig,
    declared: tuple[int, ...],
    channels: int,
    first: bool,
    shape: tuple[int, ...],
) -> ImagePlan:
    height, width = config.size or declared
    plain = config.mean == 0 and config.scale == 1
    return ImagePlan(
        name=spec.name,
        dtype=spec.dtype,
        mode=MODES[channels],
        size=(max(height, 0), max(width, 0)),
        channels_first=first,
        shape=shape,
        mean=None if plain else _per_channel(config.mean, channels, "mean"),
        scale=None if plain else _per_channel(config.scale, channels, "scale"),
    )


def _per_channel(value: Any, channels: int, what: str) -> Tensor:
    values = value if isinstance(value, tuple) else (value,)
    if len(values) not in (1, channels):
        raise InvalidRequest(
            f"the model's configuration of images has {len(values)} values for {what}, its input {channels} channels"
        )
    return np.array(values, np.float32)


def _no_image(spec: TensorSpec) -> InvalidRequest:
    return InvalidRequest(
        f"an image fits an input [N,H,W,C] or [N,C,H,W] with 1, 3 or 4 channels, input {quoted(spec.name)} is"
        f" {shape_text(spec.shape)}; image = {{size = [H, W], layout = ...}} in its [[models]] entry may say more"
    )
