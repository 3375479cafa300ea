"""What the prediction log says of a model: how well it does, and whether its data are what they were.

A question (`question`) becomes SQL over the log's views (`source`); DuckDB counts, scipy and numpy make metrics of the counts
(`classification`, `regression`, `ranking`, `numeric`, `categorical`, `embedding`, `distances`), `performance` and `drift`
put the answers together, `report` makes a page of them.
"""
