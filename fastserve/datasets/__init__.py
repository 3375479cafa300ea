"""Tables of data that belong to models: `[[datasets]]`.

`files` finds them, `duck` reads them, `shelf` keeps them, `mapping` makes tensors of them.
"""
