"""What an operator sees when the models are loaded: the table, the addresses, what is wrong.

Thread: a worker's loading thread, once.
"""

from urllib.parse import quote

from fastserve.config import ServerConfig
from fastserve.engine.engine import Engine, Line
from fastserve.server.table import ModelRow, batch_text, objective_text, render_table, specs_text


def announce(engine: Engine, server: ServerConfig, workers: str = "") -> None:
    """Print the table, the addresses, the repository's problems. `workers`: how many were chosen, and why."""
    lines = engine.lines()
    base = address(server)
    urls = [f"{base}/v1/models/{quote(line.model, safe='')}:predict" for line in lines if line.loaded is not None]
    text = render_table(
        [model_row(line) for line in lines],
        [*dict.fromkeys(urls), f"{base}/v2  {base}/readyz  {base}/metrics  {base}/docs"],
    )
    print(text, flush=True)
    if workers:
        print(f"workers: {workers}", flush=True)
    if engine.log is not None:
        print(f"prediction log: {engine.log.directory}", flush=True)
    for note in engine.notes():
        print(f"note: {note}", flush=True)
    of_models = [f"{line.model}: {problem}" for line in lines if line.loaded for problem in line.problems]
    for problem in (*engine.problems(), *dict.fromkeys(of_models)):
        print(f"problem: {problem}", flush=True)
    if not lines and engine.log is None:
        print("no models: give a .onnx file or a folder of models (fastserve serve --help)", flush=True)


def address(server: ServerConfig) -> str:
    """Where the server listens, as a URL."""
    if server.uds:
        return f"unix:{server.uds}"
    scheme = "https" if server.ssl_certificate else "http"
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"{scheme}://{host}:{server.port}"


def model_row(line: Line) -> ModelRow:
    """One line of the engine's in words."""
    if line.loaded is None:
        status = line.status
        version, state = ("", "FAILED") if status is None else (str(status.version), status.state.value)
        reason = "; ".join(line.problems) if status is None else status.reason
        return ModelRow(model=line.model, version=version, state=state, reason=reason)
    lease, plan = line.loaded.lease, line.loaded.plan
    batching = lease.batching
    return ModelRow(
        model=line.model,
        version=str(lease.version),
        state="READY",
        inputs=specs_text(lease.signature.inputs),
        outputs=specs_text(lease.signature.outputs),
        batch=batch_text(batching.batchable, batching.reason, lease.config.batch_sizes),
        objective=objective_text(lease.config.slo_ms),
        threads=f"{plan.slots} x {plan.threads}",
        provider=", ".join(name.removesuffix("ExecutionProvider") for name in line.loaded.providers),
        reason=line.status.reason if line.status is not None else "",
    )
