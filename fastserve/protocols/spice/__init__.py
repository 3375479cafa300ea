"""Spice's paths: predictions of models from their datasets, one or many at a time, and lists of both.

A request goes `routes` - `predict` (one `Item` a prediction: lease, table, tensors, submit) - engine - `answers`.
"""
