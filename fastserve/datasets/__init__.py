"""Tables of data that belong to models: `[[datasets]]`.

To predict from: `files` finds them, `duck` reads them, `shelf` keeps them, `mapping` makes tensors of them. To explain by:
`reading` reads some rows.
"""
