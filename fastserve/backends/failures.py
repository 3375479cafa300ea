"""What onnxruntime says when a run fails, made fit for clients: no paths, no names from inside the graph.

Pure; any thread.
"""

import os
import re

from fastserve.errors import FastServeError, OutOfMemory, RunFailed, RunRefused

_MAX_CHARS = 400
_MAX_READ_CHARS = 8192
_STATUS = re.compile(r"^\s*(?:Error in execution: )?(?:\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : )?")
_NODE = re.compile(r"Non-zero status code returned while running (\S+) node\. Name:'.*?' Status Message: ?", re.DOTALL)
# A place in its sources comes first: with the folder, then the whole function and the condition; or the file's name
# and the function's alone.
_LONG_PLACE = re.compile(r"^\S*/\S+\.\w+:\d+ ")
_SHORT_PLACE = re.compile(r"^\w+\.\w+:\d+ \S+ ")
_CONDITION = re.compile(r"^.*? (?:was|is) false\.\s*", re.DOTALL)
_FUNCTION = re.compile(r"^[^()]*\([^()]*(?:\([^()]*\)[^()]*)*\)(?:::<lambda\(\)>)?(?: const)?(?: \[with [^\]]*\])? ")
_LOADING = "Exception during initialization: "
_FILE = re.compile(r"(?<![\w.])/(?:[\w.@+-]+/)+[\w.@+-]*")
_ADVICE = "Please fix either the inputs/outputs or the model."
_NOT_A_NUMBER = re.compile(r"^sto(?:i|l|ll|ul|ull|f|d|ld)$")
_OUT_OF_MEMORY = re.compile(r"bad_alloc|Failed to allocate|out of memory", re.IGNORECASE)
_WANTED_BYTES = re.compile(r"requested buffer of size (\d+)")
_HOST_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def shortened(text: str) -> str:
    """The part of onnxruntime's message that says what is wrong, on one line."""
    text = text[:_MAX_READ_CHARS]
    # Nodes with a body (If, Loop) say the failure of a node inside it in the same words: the innermost counts.
    nodes = list(_NODE.finditer(text))
    said = text[nodes[-1].end() :] if nodes else _STATUS.sub("", text).removeprefix(_LOADING)
    said = _without_place(said)
    said = " ".join(_FILE.sub("", _STATUS.sub("", said)).replace(_ADVICE, "").split())
    if _NOT_A_NUMBER.match(said):
        said = "a string is not a number"
    said = f"{nodes[-1][1]}: {said or 'failed'}" if nodes else said
    return said if len(said) <= _MAX_CHARS else said[:_MAX_CHARS] + "..."


def _without_place(said: str) -> str:
    if not _LONG_PLACE.match(said):
        return _SHORT_PLACE.sub("", said)
    said = _LONG_PLACE.sub("", said)
    return _CONDITION.sub("", said) if _CONDITION.match(said) else _FUNCTION.sub("", said)


def run_failure(error: Exception, *, refused: bool) -> FastServeError:
    """The error for a failed run. `refused`: the runtime itself says that the input is to blame.

    A node fails for what the request holds: the graph was loaded and proven before. Memory is the exception, unless the
    input asks for more than the machine has.
    """
    text = str(error)
    if isinstance(error, UnicodeEncodeError):
        return RunRefused("the model refused this input: a string is not valid Unicode")
    if isinstance(error, UnicodeDecodeError):
        return RunFailed("the model failed on this input: an output holds a string that is not UTF-8")
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(text):
        wanted = _WANTED_BYTES.search(text)
        if wanted and int(wanted[1]) > _HOST_BYTES:
            return RunRefused(f"the model refused this input: it asks for a tensor of {wanted[1]} bytes")
        return OutOfMemory()
    if refused or _NODE.search(text):
        return RunRefused(f"the model refused this input: {shortened(text)}")
    return RunFailed(f"the model failed on this input: {shortened(text)}")
