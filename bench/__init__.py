"""Measurements: functions (`micro`), a served process under load (`load`); `render` makes bench/README.md of both."""
