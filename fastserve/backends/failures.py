"""What onnxruntime says when a run fails, made fit for clients: no paths, no names from inside the graph.

Pure; any thread.
"""

import re

from fastserve.errors import FastServeError, RunFailed, RunRefused

_MAX_CHARS = 400
_STATUS = re.compile(r"^(?:Error in execution: )?\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : |^Error in execution: ")
_NODE = re.compile(r"Non-zero status code returned while running (\S+) node\. Name:'.*?' Status Message: ?", re.DOTALL)
# A failed check names its source file, its function and the condition before it says what was wrong.
_SOURCE = re.compile(r"\S*/\S+\.(?:h|hpp|c|cc|cpp|cu|cuh):\d+ ?")
_CHECK = re.compile(r"^.*? (?:was|is) false\.\s*", re.DOTALL)
_SYMBOL = re.compile(r"^.*?onnxruntime::.*?\)(?: const)?(?: \[.*?\])?(?: (?=[A-Z\[])|$)", re.DOTALL)
_OUT_OF_MEMORY = re.compile(r"bad_alloc|allocat|out of memory", re.IGNORECASE)
_FILE = re.compile(r"(?<![\w.])/(?:[\w.@+-]+/)+[\w.@+-]*")


def shortened(text: str) -> str:
    """The part of onnxruntime's message that says what is wrong, on one line."""
    text = _STATUS.sub("", text.strip())
    node = _NODE.search(text)
    if node:
        text = text[node.end() :]
    if _SOURCE.search(text):
        text = _SOURCE.sub("", text)
        text = _CHECK.sub("", text) if _CHECK.match(text) else _SYMBOL.sub("", text)
    text = _STATUS.sub("", text.strip())
    text = " ".join(_FILE.sub("", text).replace("Please fix either the inputs/outputs or the model.", "").split())
    text = f"{node[1]}: {text or 'failed'}" if node else text
    return text if len(text) <= _MAX_CHARS else text[:_MAX_CHARS] + "..."


def run_failure(error: Exception, *, refused: bool) -> FastServeError:
    """The error for a failed run. `refused`: the runtime itself says that the input is to blame.

    A node fails for what the request holds: the graph was loaded and proven before. Memory is the exception.
    """
    text = str(error)
    if isinstance(error, UnicodeEncodeError):
        return RunRefused("the model refused this input: a string is not valid Unicode")
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(text):
        return RunFailed("the model failed on this input: out of memory")
    if refused or _NODE.search(text):
        return RunRefused(f"the model refused this input: {shortened(text)}")
    return RunFailed(f"the model failed on this input: {shortened(text)}")
