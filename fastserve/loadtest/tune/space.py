"""The settings that are tried: a small grid around the defaults. Pure."""

from collections.abc import Iterator

from msgspec import Struct

from fastserve.config import ModelConfig, ServerConfig

_MODEL = ModelConfig(name="default")

BATCH_ROWS = (_MODEL.max_batch_rows, 16, 256, 1)
DELAY_SHARES = (0.0, 0.1, 0.25)
"""Of the time that the objective leaves: waiting for company must not be what misses it."""

MOST_WORKERS = 16

MODEL_FIELDS = ("slots", "threads", "max_batch_rows", "max_queue_delay_us")
"""What is set for the model; workers are the server's."""


class Setting(Struct, frozen=True, kw_only=True):
    """One candidate, in the words of the configuration; the defaults are those of the server."""

    workers: int = ServerConfig().worker_count
    slots: int = _MODEL.slots
    threads: int = _MODEL.threads
    max_batch_rows: int = _MODEL.max_batch_rows
    max_queue_delay_us: int = _MODEL.max_queue_delay_us

    def changes(self) -> dict[str, int]:
        """The fields that are not as without any configuration."""
        return {
            name: value for name in self.__struct_fields__ if (value := getattr(self, name)) != getattr(DEFAULT, name)
        }

    def text(self) -> str:
        """`slots 1, threads 2`."""
        return ", ".join(f"{name} {value}" for name, value in self.changes().items()) or "defaults"


DEFAULT = Setting()


def candidates(cpus: int, latency_ns: float) -> list[Setting]:
    """The defaults, then whatever differs, in fewer things first: a small budget looks at the likeliest."""
    found = dict.fromkeys(
        Setting(
            workers=workers,
            slots=slots,
            threads=threads,
            max_batch_rows=rows,
            max_queue_delay_us=0 if rows == 1 else round(share * latency_ns / 1000),
        )
        for workers, slots, threads in _parallel(cpus)
        for rows in BATCH_ROWS
        for share in DELAY_SHARES
    )
    return sorted(found, key=lambda setting: len(setting.changes()))


def _parallel(cpus: int) -> Iterator[tuple[int, int, int]]:
    """Workers, slots and threads; zeros: as the server plans them, which is as many slots of one thread as there are CPUs."""
    workers = 1
    while workers <= min(cpus, MOST_WORKERS):
        own = cpus // workers
        yield workers, 0, 0
        for slots, threads in ((1, own), (1, 1), (max(1, own // 2), 2)):
            if own > 1 and threads <= own and (slots, threads) != (own, 1):
                yield workers, slots, threads
        workers *= 2
