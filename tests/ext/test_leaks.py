"""Nothing is left behind by a native function, whatever it is given: no object, no memory, no reference.

Each case is called a few dozen times, with what is right and with what is wrong in every way, and three counts have to be
what they were: Python's blocks, bytes that the C library has given out, references to what was passed.
`FASTSERVE_TEST_LEAKS=1000000`: so many calls of each kind of function, shared out among its cases; what is left by one call
in a hundred is seen then, too.
"""

import ctypes
import gc
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import product
from typing import Any

import numpy as np
import pytest

from fastserve._ext import arrivals, batchqueue, binarytensor, coalesce, costs, jsonwrite, loadgen, meters, ticket
from fastserve._ext.logframes import encode
from fastserve._ext.tensorize import Cursor, between, sole_rows
from fastserve.types import DType
from tests.fuzz.seeds import TEXTS

CALLS = int(os.environ.get("FASTSERVE_TEST_LEAKS", "0"))
FEWEST_CALLS = 80
Case = tuple[Callable[..., Any], tuple[Any, ...]]


class _Mallinfo(ctypes.Structure):
    _fields_ = tuple((f"{at}", ctypes.c_size_t) for at in range(10))


MALLINFO = getattr(ctypes.CDLL(None), "mallinfo2", None)
if MALLINFO is not None:
    MALLINFO.restype = _Mallinfo


def given_out() -> int:
    """Bytes that the C library has given to anybody (mallinfo2(3)); 0 where it does not tell."""
    if MALLINFO is None:
        return 0
    found = MALLINFO()
    return int(getattr(found, "4") + getattr(found, "7"))  # hblkhd and uordblks


def within(one: Any) -> Iterator[Any]:
    """What is passed, and what is in it."""
    yield one
    if isinstance(one, list | tuple):
        for item in one:
            yield from within(item)
    elif isinstance(one, dict):
        yield from within([*one, *one.values()])


def counts(passed: list[Any]) -> list[int]:
    return [sys.getallocatedblocks(), given_out(), *[sys.getrefcount(one) for one in passed]]


def call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with suppress(Exception):
        function(*arguments)


def left(function: Callable[..., Any], arguments: tuple[Any, ...], times: int) -> str:
    """What is more after so many calls than it was before; empty where nothing is."""
    passed = [*within(arguments), None, True, False, *DTYPES]
    before = counts(passed)
    for _ in range(times):
        call(function, arguments)
    if not grown(before, counts(passed), times):
        return ""
    gc.collect()  # circles are nobody's leak
    after = counts(passed)
    names = ["blocks", "bytes", *["references"] * len(passed)]
    return ", ".join(f"{(after[at] - before[at]) / times} {names[at]}" for at in grown(before, after, times))


def grown(before: list[int], after: list[int], times: int) -> list[int]:
    """The places of counts that are more by so much, for each call, that it is no accident."""
    slack = [40, 2048, *[8] * len(before)]  # the counts themselves are objects, too
    often = min(times / 4, FEWEST_CALLS / 4 + times / 100)
    return [at for at, (was, now) in enumerate(zip(before, after, strict=True)) if now - was > slack[at] + often]


def leaves_nothing(cases: Iterable[Case], calls: int = CALLS) -> None:
    every = list(cases)
    times = max(calls // len(every), FEWEST_CALLS)
    for function, arguments in every:
        left(function, arguments, 10)  # what is made once
        for _ in range(3):  # others allocate, too, now and then; a leak is there each time
            found = left(function, arguments, times)
            if not found:
                break
        else:
            raise AssertionError(f"{found} a call: {getattr(function, '__qualname__', function)}{arguments!r:.300}")


DTYPES = [np.dtype(name) for name in ("float32", "int64", "uint8", "bool", "float16", "float64", "O")]
BODIES = [text.encode() for text in TEXTS]
BODIES += [body[:-1] for body in BODIES[:8]] + [
    b"",
    b"[[1,2],[3]]",
    b"[[1],2]",
    b'["\\ud83d"]',
    b'[{"b64":"a"}]',
    b"[1 2]",
]
BODIES += [b'[{"a":1,"b":"x","c":true},{"a":2}]', b'[{"a":1,"a":2,"b":"","c":false}]', b"[[1,2,3" + b",9" * 600]


def test_what_is_left_behind_is_seen():
    kept: list[object] = []
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    leaks: list[Case] = [
        (lambda one: ctypes.pythonapi.Py_IncRef(ctypes.py_object(one)), ([],)),
        (lambda: kept.append(object()), ()),
    ]
    if MALLINFO is not None:
        leaks.append((libc.malloc, (100,)))
    for leak in leaks:
        with pytest.raises(AssertionError, match="a call"):
            leaves_nothing([leak], FEWEST_CALLS)
    del kept[:]


def test_json_is_read():
    def whole(body: bytes, ask: Callable[[Cursor], Any]) -> Any:
        return ask(Cursor(body))

    questions: list[Callable[[Cursor], Any]] = [
        *(lambda cursor, dtype=dtype: cursor.tensor(dtype, "$.x") for dtype in (1, 3, 7, 8, 9, 10, 13)),
        lambda cursor: cursor.tensor(DType.FLOAT, "$", True),
        lambda cursor: cursor.rows(("a", "b", "c"), (7, 8, 9), "$"),
        lambda cursor: cursor.rows(("a",), (1,), "$", True),
        lambda cursor: cursor.table((1, 7), "$"),
        lambda cursor: cursor.value("$"),
        lambda cursor: cursor.string("$"),
        lambda cursor: cursor.skip(),
        lambda cursor: (cursor.enter_object(), cursor.next_key(), cursor.excerpt()),
        lambda cursor: (cursor.enter_array(), cursor.next_item(), cursor.first_item_kind(), cursor.is_b64_object()),
    ]
    leaves_nothing(((whole, (body, ask)) for body, ask in product(BODIES, questions)))


def test_json_is_read_without_a_cursor():
    bodies = [b'{"instances":' + body + b"}" for body in BODIES]
    leaves_nothing((sole_rows, (body, b"instances", dtype, "$")) for body in bodies for dtype in (1, 7, 9))
    leaves_nothing((between, (body, b'{"instances":', b"}", dtype)) for body in bodies for dtype in (1, 7, 9))
    leaves_nothing(
        [(sole_rows, (None, b"x", 1, "$")), (sole_rows, (b"{}", None, 1, "$")), (between, (b"", b"", b"", 99))]
    )


def arrays() -> list[Any]:
    numbers = [np.arange(6).reshape(3, 2).astype(dtype) for dtype in DTYPES[:-1]]
    words = np.array([b"a\xff", "b\ud800", "c" * 2000], dtype=object)
    odd = [
        words,
        np.array([1, None], dtype=object),
        np.float32(1),
        np.zeros((0, 2), np.float32),
        np.zeros(3)[::2],
        None,
    ]
    return [*numbers, np.array([np.nan, np.inf, 1e-40], np.float32), *odd]


def test_json_is_written():
    cases: list[Case] = []
    for array, dtype in product(arrays(), (1, 7, 8, 9, 10, 16, 99)):
        cases.append((jsonwrite.tensor, (b"{", array, dtype, False, b"}")))
        cases.append((jsonwrite.tensor, (b"{", array, dtype, True, b"}")))
        cases.append((jsonwrite.each_tensor, (b"{", array, [1, 2], dtype, False, b"}")))
        for write in (jsonwrite.row_objects, jsonwrite.column_object):
            cases.append((write, (b"{", ("a", "b\ud800"), (array, array), (dtype, dtype), (False, True), b"}")))
            cases.append((write, (b"{", ("a",), (array, array), (dtype,), (False,), b"}")))
    leaves_nothing(cases)


def test_binary_tensors():
    body = b"\3\0\0\0abc\0\0\0\0" + bytes(64)
    cases: list[Case] = []
    for offset, size, shape in product(
        (0, 1, 7, 70, 1 << 60), (0, 8, 11, 16, 1 << 62), ((2,), (1, 2), (0,), (1 << 40, 4))
    ):
        cases += [(binarytensor.view, (body, offset, size, dtype, shape)) for dtype in (1, 9, 16, 99)]
        cases.append((binarytensor.strings, (body, offset, size, shape, "$")))
    cases += [(binarytensor.pack, (array,)) for array in arrays()]
    cases += [(binarytensor.join, ((b"a", array, b"b"),)) for array in arrays()]
    leaves_nothing(cases)


def test_rows_are_brought_together():
    shapes = coalesce.RowShapes((("x", np.dtype("float32"), (2,)),))
    cases: list[Case] = [
        (coalesce.RowShapes, ((("x", "no such type", (2,)),),)),
        (coalesce.RowShapes, ((("x", "f4", ("a",)),),)),
    ]
    for array in arrays():
        cases += [
            (coalesce.gather, (np.zeros((4, 2), np.float32), [array, array])),
            (coalesce.gather, (array, [array])),
            *((coalesce.split, (array, rows)) for rows in ([1, 2], [3], [4], [-1, 4], ["a"])),
            (shapes.rows, ({"x": array},)),
            (shapes.each, ([array, None],)),
            (coalesce.Bound, (len, (("x", array),), (("y", array),))),
        ]
        bound = coalesce.Bound(lambda: None, (("x", np.zeros((3, 2), np.float32)),), (("y", np.zeros((3, 2))),))
        broken = coalesce.Bound(lambda: 1 / 0, (("x", np.zeros((3, 2), np.float32)),), ())
        cases += [(bound.answer, ({"x": array},)), (broken.answer, ({"x": array},)), (bound.answer, ({},))]
    leaves_nothing(cases)


def test_queues():
    class Odd:
        __hash__ = None  # type: ignore[assignment]

    def life(*steps: Any) -> None:
        queue = batchqueue.BatchQueue(4, 10, 64)
        queue.pace_of = lambda key: 1 / 0 if key == "broken" else batchqueue.Pace(5, 1)
        for bucket, rows, now, deadline, priority in steps:
            with suppress(Exception):
                queue.push(object(), bucket, rows, now, deadline, priority)
        with suppress(Exception):
            while queue.pop(100, 2):
                pass
        queue.ahead("a", 1)
        queue.expire(50)
        queue.remove(object())
        queue.clear()

    good = [("a", 1, 0, 0, 0), ("b", 2, 1, 20, 3), ("a", 4, 2, 300, -1), (None, 3, 3, 0, 9)]
    wrong = [
        ("a", 5, 0, 0, 0),
        ("a", 1, -1, 0, 0),
        (Odd(), 1, 0, 0, 0),
        ("broken", 1, 0, 0, 0),
        ("a", 1, 1 << 70, 0, 0),
    ]
    leaves_nothing([(life, tuple(good)), (life, tuple(good + wrong)), *((life, (one,)) for one in good + wrong)])
    leaves_nothing([(batchqueue.Pace, (-1, 1)), (batchqueue.Pace, (1, 1, 1, None)), (batchqueue.BatchQueue, (0, 0, 0))])
    table = costs.CostTable()
    leaves_nothing([(table.observe, (3, 7)), (table.observe, (-3, 7)), (table.estimate_ns, (1 << 70,))])


def test_tickets(monkeypatch: pytest.MonkeyPatch):
    def fails(*_: Any) -> None:
        raise ValueError

    def resolved(answer: Any) -> None:
        one = ticket.Ticket(None, {"x": 1}, 1, 1, None, answer, lease=[], group=[])
        one.resolve("outcome")
        one.resolve("again")

    monkeypatch.setattr(ticket.logger, "exception", lambda *_: None)
    leaves_nothing([(resolved, (len,)), (resolved, (fails,)), (ticket.Ticket, (None, None, 1, 1, 1, 1))])


class Sent:
    """A request to a path with a lane, as Granian shows it: `body` None breaks off; answers cannot be sent."""

    def __init__(self, body: bytes | None, length: str) -> None:
        self.body, self.headers = body, {"content-length": length}
        self.path, self.method, self.scope = "/p", "POST", self
        self.proto = lambda: self

    def add_done_callback(self, call: Any, context: Any) -> None:
        self.call = call

    def result(self) -> Any:
        if self.body is None:
            raise ConnectionError
        return self.body

    def cancel(self) -> None:
        pass


class Way:
    """A lane."""

    limit, header, header_value = 100, "h", None


def test_requests_in_lanes():
    def come(body: bytes | None, length: str) -> None:
        held: list[Any] = []
        bodies = arrivals.Overdue(10, lambda *_: None, held.append)
        together = arrivals.Arrivals(bodies, int, lambda *_: None, held.extend, 2, 0, 5)
        express = arrivals.Express(bodies, together, int, lambda _: False, held.append)
        express.lanes["/p"] = Way()
        sent = [Sent(body, length) for _ in range(3)]
        for one in sent:
            if express.takes(one) and length != "2":
                one.call(one)
        together.ring(1000)
        bodies.ring(1000)
        done = [one for one in held if isinstance(one, tuple)]
        for answers in ([None] * len(done), [], [int] * len(done)):
            call(arrivals.send_all, (done, answers, 10, int, lambda: None, []))
        for one in sent:
            vars(one).clear()  # they hold themselves

    leaves_nothing((come, (body, length)) for body in (b"x", None) for length in ("1", "2", "x", "100", "", "9" * 30))


def test_counts_of_all_kinds():
    cells = memoryview(bytearray(8 * 400)).cast("q")
    histogram = meters.Histogram(cells, 0, (1, 10, 100))
    sums = meters.Tally(cells, 100, meters.VERSION_SUMS)
    last = meters.Tally(cells, 150, 1)
    sizes = [
        lambda size: meters.Tally(cells, 200, meters.SIZES_PER_TALLY * meters.SUMS_PER_SIZE),
        lambda _: 1 / 0,
        lambda _: None,
    ]
    cases: list[Case] = [
        (meters.Counter(cells, 50).add, (1,)),
        (meters.Counter, (cells, 1 << 40)),
        (meters.Counter, (b"no cells", 0)),
        (meters.Histogram, (cells, 399, (1, 2))),
        (meters.Histogram, (cells, 0, (1, "a"))),
        (histogram.observe, (1 << 70,)),
        (histogram.observe_all, ([1, 2, "a"],)),
        (histogram.observe_since, ([1, None], 5)),
        (meters.Tally, (cells, 390, 100)),
    ]
    for of_size in sizes:
        meter = meters.VersionMeter(histogram, histogram, histogram, histogram, sums, last, of_size)
        cases += [
            (meter.lone, (1, 2, 3, 4, 5)),
            (meter.block, ([1, 2], [1, 1], 3, 4, 5)),
            (meter.block, ([1, 2], [1], 3, 4, 5)),
            (meter.block, ([1, "a"], [1, 1], 3, 4, 5)),
            (meter.ran, (3, 4, 5)),
            (meter.answered, (1, 2, 3, 4, 5, 6, 7, 8)),
            (meter.failed, (None,)),
        ]
    leaves_nothing(cases)


def test_frames_are_written():
    appends: list[Any] = [
        [],
        [(1, b"a"), (2, bytes(100))],
        [(1, bytes(70_000)), (1, b"")],
        [(99, b"")],
        [(1, "")],
        None,
    ]
    leaves_nothing((encode, (append, time, 1 << 40, 1024, 7, 32)) for append in appends for time in (1, -1))


def test_load_is_counted():
    def read(*pieces: bytes) -> None:
        reader = loadgen.AnswerReader()
        for piece in pieces:
            with suppress(ValueError):
                reader.feed(piece)
        reader.end()
        reader.sample  # noqa: B018 - made when it is asked for

    def counted() -> None:
        one, other = loadgen.HdrHistogram(), loadgen.HdrHistogram()
        one.record(7, 3)
        other.add(one)
        other.quantile(0.5)
        other.buckets()
        one.record(-1)

    head = b"HTTP/1.1 200 OK\r\n"
    answers = [
        (head + b"Content-Length: 3\r\n\r\nabc",),
        (head + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",),
        (head[:7], head[7:] + b"Content-Length: 99\r\n\r\n", b"x" * 50),
        (b"no HTTP at all\r\n\r\n",),
        (head + b"Content-Length: -1\r\n\r\n",),
        (head + b"X: y\r\n" * 5000,),
    ]
    leaves_nothing([*((read, one) for one in answers), (counted, ())])
    leaves_nothing([(loadgen.arrivals, (100.0, 50)), (loadgen.arrivals, (-1.0, 5)), (loadgen.arrivals, (1.0, -5))])
    leaves_nothing(
        (loadgen.Driver, (socket.AF_INET, host, 1, requests, connections))
        for host, requests, connections in (
            ("127.0.0.1", [b"x"], 2),
            ("no address", [b"x"], 1),
            ("127.0.0.1", [], 1),
            ("", ["x"], 0),
        )
    )
