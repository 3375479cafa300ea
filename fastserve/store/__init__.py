"""The prediction log: what was acknowledged is on disk.

Writing: `writer` (a queue and the thread that empties it), `journal` (one worker's segments), `segment` (one file), `frames`
(what is in it), `folder` (where files are, and whose), `recovery` (what dead workers left), `disk` (the calls themselves).
"""
