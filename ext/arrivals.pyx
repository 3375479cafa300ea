"""From a request's headers to its body, for doors that are called back: bodies that come together are taken together.

`Express` takes the requests of known paths, which need no looking up; `Arrivals` gathers bodies; `Overdue` is the alarm
for those that do not come.

Thread: any; what is done here is done under the GIL, and nothing waits. Memory: one object per request, gone with it.
"""

from libc.stdint cimport int64_t

cdef enum:
    MAX_LENGTH_DIGITS = 7
    BUSY = 3  # where bodies keep coming, the alarm is set so many times as late again

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text)
    const unsigned char* PyUnicode_1BYTE_DATA(object text)


cdef class Overdue:
    """Those who wait, and what is done about each that waits too long.

    All wait equally long at the most, so the oldest is the next due: one alarm serves all. `waiting`: who waits, since
    when, oldest first. Taking one out of it is atomic, and whoever takes it out deals with it. `at(when, call)` calls
    back with the time once it has come; `act` is told who waited too long. A limit of 0 is none.
    """

    cdef readonly dict waiting
    cdef int64_t limit_ns
    cdef object at
    cdef object act
    cdef bint armed
    cdef int64_t newest_ns

    def __cinit__(self, int64_t limit_ns, object at, object act):
        self.waiting = {}
        self.limit_ns = limit_ns
        self.at = at
        self.act = act

    cpdef begin(self, object waiter, int64_t now_ns):
        """`waiter` waits from now on."""
        self.waiting[waiter] = now_ns
        self.newest_ns = now_ns
        if not self.armed and self.limit_ns:
            self.armed = True
            self.at(now_ns + self.limit_ns, self.ring)

    cpdef bint any_since(self, int64_t when_ns) except -1:
        """Whether one that began after `when_ns` still waits."""
        cdef int64_t began_ns
        if self.newest_ns <= when_ns or not self.waiting:
            return False
        try:
            began_ns = next(reversed(self.waiting.values()))
        except (StopIteration, RuntimeError):  # none, or another thread took one out at this moment
            return False
        return began_ns > when_ns

    def ring(self, int64_t now_ns):
        """The alarm."""
        cdef int64_t due_ns
        self.armed = False
        for waiter, began_ns in list(self.waiting.items()):
            due_ns = <int64_t>began_ns + self.limit_ns
            if due_ns > now_ns:
                self.armed = True
                self.at(due_ns, self.ring)
                return
            if self.waiting.pop(waiter, None) is not None:
                self.act(waiter)


cdef class Arrivals:
    """Bodies that are there, until they are answered: while the one asked for last is about to come, they wait.

    A body asked for less than `fresh_ns` ago is about to come. `answer` is given lists of (request, body, when it
    came), of `most` at the most; where the next body does not come after all, after `stalled_ns`, or four times that
    where bodies have kept coming: they take along what is held.
    """

    cdef Overdue bodies
    cdef object clock
    cdef object at
    cdef object answer
    cdef list here
    cdef Py_ssize_t most
    cdef int64_t fresh_ns
    cdef int64_t stalled_ns
    cdef bint alarm_is_set
    cdef bint held_since

    def __cinit__(
        self,
        Overdue bodies not None,
        object clock,
        object at,
        object answer,
        Py_ssize_t most,
        int64_t fresh_ns,
        int64_t stalled_ns,
    ):
        self.bodies = bodies
        self.clock = clock
        self.at = at
        self.answer = answer
        self.here = []
        self.most = most
        self.fresh_ns = fresh_ns
        self.stalled_ns = stalled_ns

    cpdef add(self, object request, bytes body):
        """A body is there: answer all that are, unless the next one is about to come."""
        cdef int64_t now = self.clock()
        self.here.append((request, body, now))
        if len(self.here) < self.most and self.bodies.any_since(now - self.fresh_ns):
            self.set_alarm(now)
        else:
            self.answer_all()

    cdef int set_alarm(self, int64_t came_ns) except -1:
        self.held_since = True
        if not self.alarm_is_set:
            self.alarm_is_set = True
            self.at(came_ns + self.stalled_ns, self.ring)
        return 0

    cdef int answer_all(self) except -1:
        # Any thread; each request is taken by one.
        cdef list together = self.here
        self.here = []
        if together:
            self.answer(together)
        return 0

    def ring(self, int64_t now_ns):
        """The alarm's thread answers only what has been left lying: it would fight the door's thread for all else."""
        cdef int64_t oldest_ns
        self.alarm_is_set = False
        if not self.here:
            if self.held_since:  # others will be held soon, and as soon taken along: an alarm set here wakes nobody
                self.set_alarm(now_ns + BUSY * self.stalled_ns)
                self.held_since = False
            return
        oldest_ns = (<tuple>self.here[0])[2]
        if now_ns - oldest_ns < self.stalled_ns:
            self.set_alarm(oldest_ns)
        else:
            self.answer_all()


cdef class ExpressRequest:
    """A request to a known path, from its headers to its body."""

    cdef readonly object lane
    cdef readonly object scope
    cdef readonly object headers
    cdef readonly object proto
    cdef readonly int64_t started_ns
    cdef Express door
    cdef object future

    def __call__(self, object future, /):
        """The body is there, or never will be."""
        if self.door.bodies.waiting.pop(self, None) is None:
            return  # it came too late, and that was answered
        self.future = None  # it holds us, and the collector cannot see through it
        try:
            body = future.result()
        except Exception as error:  # the client went away in the middle
            error.__traceback__ = None  # the future keeps the error, and that would keep the future
            self.door.lost(self)
            return
        self.door.arrivals.add(self, body)

    def give_up(self):
        """The body did not come in time: forget it."""
        future, self.future = self.future, None
        if future is not None:
            future.cancel()


cdef class Express:
    """What takes requests first: those of `lanes`, by path; all others are `otherwise`'s.

    `alone`, if there is one, is called with whether requests come one at a time: True once `solo` of them did in a row,
    False with the first that comes while another's body is waited for, and so on in turns.

    A lane has `limit`, what bodies must be shorter than; `header`, None or a header's name, and `header_value`, what it
    must be (None: not there). `lost` is told of requests whose bodies broke off.
    """

    cdef readonly dict lanes
    cdef Overdue bodies
    cdef Arrivals arrivals
    cdef object clock
    cdef object otherwise
    cdef object lost
    cdef object alone
    cdef Py_ssize_t solo
    cdef Py_ssize_t in_a_row
    cdef bint told_alone

    def __cinit__(
        self,
        Overdue bodies not None,
        Arrivals arrivals not None,
        object clock,
        object otherwise,
        object lost,
        object alone=None,
        Py_ssize_t solo=0,
    ):
        self.lanes = {}
        self.bodies = bodies
        self.arrivals = arrivals
        self.clock = clock
        self.otherwise = otherwise
        self.lost = lost
        self.alone = alone
        self.solo = solo

    cdef int follow(self) except -1:
        """Tell whether requests come one at a time."""
        if self.bodies.waiting:
            self.in_a_row = 0
            if self.told_alone:
                self.told_alone = False
                self.alone(False)
            return 0
        self.in_a_row += 1
        if self.in_a_row >= self.solo and not self.told_alone:
            self.told_alone = True
            self.alone(True)
        return 0

    def takes(self, object watcher, /):
        """Whether the request was taken. The door's thread."""
        cdef ExpressRequest request
        if self.alone is not None:
            self.follow()
        if not self.lanes:
            return self.otherwise(watcher)
        scope = watcher.scope
        lane = self.lanes.get(scope.path)
        if lane is None or scope.method != "POST":
            return self.otherwise(watcher)
        headers = scope.headers
        if not suits(headers, lane):
            return self.otherwise(watcher)
        request = ExpressRequest.__new__(ExpressRequest)
        request.door = self
        request.lane = lane
        request.scope = scope
        request.headers = headers
        request.proto = watcher.proto
        request.started_ns = self.clock()
        request.future = future = request.proto()
        self.bodies.begin(request, request.started_ns)
        future.add_done_callback(request, context=None)
        return True


cpdef bint suits(object headers, object lane) except -1:
    """Whether the headers say that the body is short, as it is, and asks for nothing out of the ordinary."""
    cdef int64_t length = digits(headers.get("content-length"))
    if length <= 0 or length >= <int64_t>lane.limit:
        return False
    if headers.get("content-encoding") is not None or headers.get("x-request-timeout-ms") is not None:
        return False
    cdef object name = lane.header
    return name is None or headers.get(name) == lane.header_value


cdef int64_t digits(object text) except -2:
    """What a header with a short number says; -1 for anything else."""
    cdef Py_ssize_t at, count
    cdef const unsigned char* letters
    cdef int64_t value = 0
    if type(text) is not str:
        return -1
    count = len(<str>text)
    if count == 0 or count > MAX_LENGTH_DIGITS or not PyUnicode_IS_ASCII(text):
        return -1
    letters = PyUnicode_1BYTE_DATA(text)
    for at in range(count):
        if letters[at] < 48 or letters[at] > 57:
            return -1
        value = value * 10 + letters[at] - 48
    return value


def send_all(
    list together not None,
    list answers not None,
    Py_ssize_t most_bytes,
    object clock,
    object failed,
    list left not None,
    /,
):
    """Send each of `answers` to the request of the same place in `together`, unless it has `most_bytes` or more.

    Answers how long each that was sent had been under way; the places of those not sent, None among them, are added to
    `left`. `failed` is called in an `except` block for one that could not be sent.
    """
    cdef Py_ssize_t at
    cdef ExpressRequest request
    cdef int64_t now
    cdef list elapsed_ns = []
    if len(answers) != len(together):
        raise ValueError(f"expected {len(together)} answers, got {len(answers)}")
    for at in range(len(together)):
        answer = answers[at]
        if answer is None or len(answer.body) >= most_bytes:
            left.append(at)
            continue
        request = (<tuple>together[at])[0]
        try:
            request.proto.response_bytes(answer.status, answer.headers, answer.body)
        except Exception:  # one answer that cannot leave costs nobody else theirs
            failed()
        now = clock()
        elapsed_ns.append(now - request.started_ns)
    return elapsed_ns
