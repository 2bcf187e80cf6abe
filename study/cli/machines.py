"""Commands that look at machines before a study is paid for: doctor, warm."""

import json
from pathlib import Path
from typing import Annotated

import typer

from study.cli.options import StoreOption
from study.cli.terminal import err, out
from study.errors import DEFAULT_STORE, RunError
from study.storage import ObjectStore

__all__ = ["doctor", "warm"]


def doctor(
    spec_file: Annotated[
        Path | None, typer.Argument(metavar="[SPEC]", help="YAML file of the study that is meant.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    address: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Every machine of this Ray cluster: `auto` on its head, or HOST:PORT."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check the store and the machines before a study is paid for: each line passes, or says what to do.

    Example: marl-study doctor studies/tradeoff.yaml --store s3://bucket/studies --address auto
    """
    from study.datasets.lookup import with_content
    from study.doctor import examination, shown
    from study.spec.loader import load_spec
    from study.spec.resolve import resolve

    spec = with_content(resolve(load_spec(spec_file)), ObjectStore(store)) if spec_file else None
    findings = []
    for finding in examination(spec, store, address):
        findings.append(finding)
        if not as_json:
            out().print(shown(finding))
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings], indent=1))
    verdicts = [finding.verdict for finding in findings]
    if failed := verdicts.count("fail"):
        raise RunError(f"{failed} of {len(findings)} checks failed")
    err.print(f"{verdicts.count('pass')} checks passed, {verdicts.count('warn')} warnings")


def warm(
    spec_file: Annotated[Path, typer.Argument(metavar="SPEC", help="YAML file of the study.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Compile the stacks of a study on this machine, so that its first trials do not wait for that.

    Example: marl-study warm studies/tradeoff.yaml
    """
    from study.datasets.lookup import with_content
    from study.formatting import format_duration
    from study.spec.loader import load_spec
    from study.spec.resolve import resolve
    from study.training.dry_run_worker import Planned, probe

    spec = with_content(resolve(load_spec(spec_file)), ObjectStore(store))
    for line in probe(spec, store, measured_s=None):
        if isinstance(line, Planned):
            plan = line.plan
            text = f"{plan.lanes} lanes on {line.device_name}, {plan.precision}, {plan.why}"
            text += "" if plan.compiled else "; nothing to warm"
        else:
            took = format_duration(line.first_step_s)
            text = f"stack {line.number} of {line.stacks} is warm after {took}: {line.stack}"
        err.print(text, markup=False, soft_wrap=True)
