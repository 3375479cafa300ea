"""`fastserve check`: what would be served, and what is wrong, without opening a port."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import Struct, structs

from fastserve.config import Config, ModelConfig, load_config
from fastserve.errors import ConfigError, FastServeError

if TYPE_CHECKING:
    from fastserve.datasets.table import Table

EXAMPLES = """
\b
Examples:
  fastserve check model.onnx
  fastserve check fastserve.toml && fastserve serve fastserve.toml
  fastserve check models.config
  fastserve check models/ --json
"""


class Finding(Struct, frozen=True):
    """One version as it would be served, or why it would not."""

    model: str
    version: int | None
    ok: bool
    inputs: list[str] = []
    outputs: list[str] = []
    batch: str = ""
    objective: str = ""
    providers: list[str] = []
    reason: str = ""


class Report(Struct, frozen=True):
    """Everything that was found; `problems` belong to no single version; `notes`: what is not applied, and harmless."""

    findings: list[Finding]
    problems: list[str]
    notes: list[str] = []

    @property
    def ok(self) -> bool:
        """Whether there is something to serve, and nothing is wrong."""
        return bool(self.findings) and not self.problems and all(finding.ok for finding in self.findings)


@click.command(epilog=EXAMPLES, short_help="Say what would be served, and what is wrong.")
@click.argument("path", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, path: tuple[str, ...], as_json: bool) -> None:
    """Say what `serve PATH` would serve and what is wrong with it. Loads every model, opens no port.

    Exit code 0: all of it would be served. 1: something is wrong.
    """
    try:
        report = inspect(load_config(path, None, os.environ))
    except ConfigError as error:
        report = Report([], [str(error)])
    click.echo(_as_json(report) if as_json else _as_text(report))
    ctx.exit(0 if report.ok else 1)


def inspect(config: Config) -> Report:
    """Look at every configured place, and load what it holds, one version after the other."""
    from fastserve.engine.catalog import Catalog
    from fastserve.repository.policy import wanted_versions
    from fastserve.server.exposure import warnings

    catalog = Catalog(config)
    findings: list[Finding] = []
    tables, problems = _tables(config)
    problems += _certificates(config)
    for name, disk in sorted(catalog.look().items()):
        wanted = wanted_versions(disk.policy, disk.versions)
        for version in wanted:
            own = disk.config_of(version)
            findings.append(_load(name, version, disk.versions[version], own, tables.get(own.dataset or "")))
        problems += [catalog.placed(f"{name}: {problem}") for problem in disk.problems]
        if not wanted:
            findings.append(Finding(name, None, ok=False, reason=f"no version to serve in {disk.base or disk.place}"))
    return Report(findings, [*catalog.problems, *problems], [*catalog.notes, *warnings(config)])


def _certificates(config: Config) -> list[str]:
    """Why HTTPS cannot be served, if it is configured and cannot."""
    from fastserve.server.certificates import Certificates

    try:
        if config.server.ssl_certificate:
            Certificates(config.server).close()
    except ConfigError as error:
        return [str(error)]
    return []


def _tables(config: Config) -> tuple[dict[str, "Table"], list[str]]:
    """Every dataset that can be read, and why the others cannot."""
    from fastserve.datasets.shelf import Dataset

    found, problems = {}, []
    for entry in config.datasets:
        dataset = Dataset(entry, config.datasets)
        dataset.look(0)
        if dataset.table is not None:
            found[entry.name] = dataset.table
        else:
            problems.append(f"dataset {entry.name}: {dataset.error}")
    return found, problems


def _load(name: str, version: int, file: Path, config: ModelConfig, table: "Table | None" = None) -> Finding:
    """Load one version as the server would, and let it go."""
    from fastserve.backends.base import LoadOptions
    from fastserve.backends.table import backend_for
    from fastserve.datasets.mapping import plan
    from fastserve.engine.described import alone, describe
    from fastserve.engine.padded import with_allowed_sizes
    from fastserve.engine.warmup import warm_up
    from fastserve.server.table import batch_text, objective_text, spec_text

    try:
        config = with_allowed_sizes(config)
        rows, threads = config.max_batch_rows, config.threads or 1
        options = LoadOptions(threads=threads, providers=config.providers, max_batch_rows=rows, alone=alone(config))
        loaded = describe(backend_for(file).load(file, options), config)
        warm_up(config.warmup, loaded, [loaded.runner()] if config.warmup else [])
    except FastServeError as error:
        return Finding(name, version, ok=False, reason=f"{file.parent}: {error}")
    batching = loaded.batching
    reason = ""
    if table is not None and table.rows:
        try:
            plan(loaded.signature, table, config, batchable=batching.batchable)
        except FastServeError as error:
            reason = f"dataset {config.dataset}: {error}"
    finding = Finding(
        name,
        version,
        ok=not reason,
        reason=reason,
        inputs=[spec_text(spec) for spec in loaded.signature.inputs],
        outputs=[spec_text(spec) for spec in loaded.signature.outputs],
        batch=batch_text(batching.batchable, batching.reason, config.batch_sizes),
        objective=objective_text(config.slo_ms),
        providers=list(loaded.providers),
    )
    loaded.close()
    return finding


def _as_json(report: Report) -> str:
    return json.dumps(
        {
            "ok": report.ok,
            "models": [structs.asdict(finding) for finding in report.findings],
            "problems": report.problems,
            "notes": report.notes,
        }
    )


def _as_text(report: Report) -> str:
    from fastserve.server.table import ModelRow, render_table

    rows = [
        ModelRow(
            model=finding.model,
            version="" if finding.version is None else str(finding.version),
            state="ok" if finding.ok else "FAILED",
            inputs="\n".join(finding.inputs),
            outputs="\n".join(finding.outputs),
            batch=finding.batch,
            objective=finding.objective,
            provider=", ".join(name.removesuffix("ExecutionProvider") for name in finding.providers),
            reason=finding.reason,
        )
        for finding in report.findings
    ]
    lines = [render_table(rows)] if rows else []
    lines += [f"note: {note}" for note in report.notes]
    lines += [f"problem: {problem}" for problem in report.problems]
    if not rows and not report.problems:
        lines.append("problem: no models found")
    return "\n".join(lines)
