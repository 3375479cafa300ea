"""Requests and answers, and the three doors that they come through: RSGI, ASGI, and Granian without a loop."""
