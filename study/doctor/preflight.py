"""All checks in order of cost: the store, the machines, then the training of a stack."""

import uuid
from collections.abc import Iterator
from contextlib import suppress

from study.datasets.load import factors_of
from study.doctor.checks import Finding, check_machine, check_token, locked_versions, merge_findings
from study.doctor.cluster import check_stack, try_stack
from study.doctor.facts import facts_here
from study.doctor.store import check_clock, check_store
from study.environment import versions
from study.errors import RunError, UserError
from study.runs.dry_run import StorageEstimate, estimate_storage
from study.spec import parse_spec
from study.spec.resolve import resolve
from study.spec.resolved_spec import ResolvedSpec
from study.storage import ObjectStore

__all__ = ["TYPICAL", "run_checks"]

TYPICAL = resolve(
    parse_spec(
        {
            "name": "typical",
            "data": {"kind": "syntone"},
            "train": {"steps": 800, "batch_pairs": 32},
            "space": {
                "latent.private": {"choice": [4, 8, 16]},
                "latent.shared": {"choice": [4, 8]},
                "contrast.strategy": {"choice": ["none", "infonce"]},
            },
            "replicates": 2,
            "search": {"trials": 12},
            "resources": {"lanes": 8},
        },
        "the default study of doctor",
    )
)
"""Study that is checked if no spec is given: networks and batches of the quickstart."""

_TIMEOUT_S = 480.0
# Number of lanes that the storage estimate assumes for `lanes: auto`.
_MAX_LANES = 128


def run_checks(spec: ResolvedSpec | None, store: str, address: str | None) -> Iterator[Finding]:
    """Yield the findings about the store and about this machine or every machine of a cluster.

    Args:
        spec: Spec of the study to check for; None for `TYPICAL`.
        store: Address of the store.
        address: Address of a Ray cluster, see `study.runs.ray_cluster.ray_session`; None for this machine alone.

    Raises:
        UserError: If an address is invalid.
    """
    yield from check_store(store, _size(spec, ObjectStore(store)) if spec else None)
    if address is not None:
        yield from _cluster(spec or TYPICAL, store, address)
        return
    facts = facts_here()
    yield from check_machine(facts, versions(), locked_versions())
    yield check_stack(try_stack(spec or TYPICAL, store), bool(facts.gpus))


def _cluster(spec: ResolvedSpec, store: str, address: str) -> Iterator[Finding]:
    from study.doctor.cluster import ask_machines
    from study.runs.ray_cluster import ray_session

    host, _, port = address.rpartition(":")
    if address != "auto" and ("/" in host or not host or not port.isdecimal()):
        raise UserError(
            f"--address: must be HOST:PORT of a cluster's head node, or `auto` on the head node; got {address!r}. "
            "Run doctor on the head node to check its cluster"
        )
    objects, marker = ObjectStore(store), f"check-{uuid.uuid4().hex}"
    try:
        with suppress(UserError):  # check_store has reported a store that cannot be written
            objects.write(marker, b"marl-study")
        with ray_session(address):
            replies = list(ask_machines(spec, store, marker, _TIMEOUT_S))
    except RunError as error:
        advice = (
            "check with `ray status` that the head node is up; if it requires a token, set RAY_AUTH_MODE=token here"
        )
        yield Finding("cluster", "fail", str(error), advice)
        return
    finally:
        with suppress(UserError):
            objects.delete(marker)
    mine, lock = versions(), locked_versions()
    findings = []
    for host, report, clock_offset_s, reason in replies:
        if report is None:
            advice = "install the same code and the same requirements.lock as on this machine"
            findings.append(Finding("machine", "fail", reason, advice, (host,)))
            continue
        here = list(check_machine(report.facts, mine, lock))
        here.append(check_token(report.facts.requires_token))
        here.append(check_clock(clock_offset_s, "its clock"))
        here.append(_check_reach(report.store_error))
        if report.stack:
            here.append(check_stack(report.stack, bool(report.facts.gpus)))
        findings += [finding._replace(where=(host,)) for finding in here]
    yield from merge_findings(findings)


def _check_reach(error: str) -> Finding:
    if not error:
        return Finding("store", "pass", "the machine can read and write the store")
    advice = "give each machine access to the store (role, keys or shared folder): trainers write checkpoints to it"
    return Finding("store", "fail", error, advice)


def _size(resolved: ResolvedSpec, objects: ObjectStore) -> StorageEstimate:
    spec = resolved.spec
    lanes = spec.resources.lanes if spec.resources.lanes != "auto" else _MAX_LANES
    trials = (spec.search.trials or 0) + 1
    return estimate_storage(resolved, resolved.stack_plan(lanes), trials, factors_of(resolved, objects))
