"""Open Inference Protocol v2 over REST, with Triton's binary tensors: everything under /v2.

How a request flows:
1. `routes` has the table of paths, put together from one file per family of calls: `server` (health, metadata of the
   server), `models` (metadata and readiness of a model), `infer`. A family is a class over the engine with `routes()`; a
   new one is a file with such a class and its name in `routes.FAMILIES`. The first match wins, so a path that another
   family would take for a model's name belongs before it.
2. `infer` looks the model up and asks for the version's `plan`: what its signature means in this protocol, worked out
   once and kept on the lease. Everything else it calls is pure.
3. `decode` reads a body: `envelope` walks the JSON once and leaves an `Asked` (tensors that stood in the JSON, places of
   those behind it, how the answer is to look), with `tensors` for one input or output and `parameters` for what may stand
   in `parameters`; `binary` takes the tensors behind the JSON out of the body. Most requests do not come so far: JSON that
   came before, byte for byte, or but for its id and its numbers, is known (`template`).
4. The engine validates, batches and runs. What it finds wrong it tells by an input's name; `decode.located` says where in
   the body that was.
5. `encode` writes the result in the `Form` that was asked for: JSON, binary, or both.
6. `errors` has the words of everything that went wrong: always `{"error": "..."}`.

Other bodies on the same URLs cost those nothing: what `decode` refuses is looked at again by `flavour` (MLRun's lists,
a URL, bytes) and read by `question`, whose answers know how they are encoded, for `infer` and for `explain` alike.
`plain` and `dicts` read MLRun's lists and named rows (`features`: what columns are called), `plain_answer` answers them;
`event` finds model and call of POST /; `images` are decoded on an executor thread (`later`); `elsewhere` has `data_url`
fetched on threads of its own; `typed` heeds MLServer's content types; `explain` asks the engine what `shapley` wants to
know, compares with `background` and answers an `explanation`. `mlrun` has the calls that ask nothing of a model.

Triton's extensions beside it: `inspect` (configuration: `config_json`, and statistics: `statistics`), `repository`
(index, load, unload), `settings` (`log_settings`, `trace_settings`, and `tracing`, which does what the latter say),
`classification` (an output as its best classes), `generate`, and `shared_memory`, which is refused. Their small bodies
are read by `bodies`. What they change goes through `engine.control`, and so reaches every worker before it is answered.
"""
