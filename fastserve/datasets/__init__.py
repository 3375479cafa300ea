"""Tables of data that belong to models: `[[datasets]]`."""
