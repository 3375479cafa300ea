"""Reading the prediction log: records, models, questions in SQL, deletion. Writing it is `arize`'s.

A request goes `routes` - `questions` (a thread for it, the reader of this process) - `store`; `answers` has the shapes.
"""
