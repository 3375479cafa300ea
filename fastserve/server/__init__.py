"""The process that serves: launch, application, health and metrics, what is shown at start."""
