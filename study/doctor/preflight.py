"""The order of all checks: the store first, which costs least, then the machines, then the stacks."""

import uuid
from collections.abc import Iterator
from contextlib import suppress

from study.datasets.load import factors_of
from study.doctor.cluster import check_stack, probed
from study.doctor.facts import facts_here
from study.doctor.finding import Finding, merged
from study.doctor.machines import check_machine, check_token, locked_versions
from study.doctor.store import check_clock, check_store
from study.errors import RunError, UserError
from study.provenance import versions
from study.runs.dry_run import Footprint, footprint
from study.spec import Spec, parse_spec
from study.spec.model_config import plan_stacks
from study.spec.resolve import resolve
from study.storage import ObjectStore

__all__ = ["TYPICAL", "examination"]

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
        "the typical study",
    )
)
"""What is trained where no spec is given: networks and batches of the quickstart."""

_WITHIN_S = 480.0
_CONNECTS_WITHIN_S = 5.0
# Lanes of a plan where none was measured yet.
_MANY_LANES = 128


def examination(spec: Spec | None, store: str, address: str | None) -> Iterator[Finding]:
    """Examine the store and this machine, or every machine of a cluster; findings come as they are made.

    Args:
        spec: resolved, of the study that is meant; none for a typical one.
        store: its URI.
        address: of a cluster, as of `study.runs.ray_cluster.ray_session`; none for this machine alone.

    Raises:
        UserError: when the store's URI is of no kind that is known.
    """
    yield from check_store(store, _size(spec, ObjectStore(store)) if spec else None)
    if address is not None:
        yield from _cluster(spec or TYPICAL, store, address)
        return
    facts = facts_here()
    yield from check_machine(facts, versions(), locked_versions())
    yield check_stack(probed(spec or TYPICAL, store), bool(facts.gpus))


def _cluster(spec: Spec, store: str, address: str) -> Iterator[Finding]:
    from study.doctor.cluster import ask_machines
    from study.runs.ray_cluster import ray_session

    host, _, port = address.rpartition(":")
    if address != "auto" and ("/" in host or not host or not port.isdecimal()):
        raise UserError(
            f"--address takes HOST:PORT of a cluster's head, or `auto` on the head itself; got {address!r}. "
            "Call doctor on the head to examine its cluster"
        )
    objects, witness = ObjectStore(store), f"check-{uuid.uuid4().hex}"
    try:
        with suppress(UserError):  # a store that cannot be written was told before
            objects.write(witness, b"marl-study")
        with ray_session(address):
            asked = list(ask_machines(spec, store, witness, _WITHIN_S))
    except RunError as error:
        advice = "see by `ray status` that its head is up; with a token, set RAY_AUTH_MODE=token here, too"
        yield Finding("cluster", "fail", str(error), advice)
        return
    finally:
        with suppress(UserError):
            objects.delete(witness)
    mine, lock = versions(), locked_versions()
    findings = []
    for host, answer, ahead_s, reason in asked:
        if answer is None:
            advice = "its environment must be the one of this process: the same code, the same requirements.lock"
            findings.append(Finding("machine", "fail", reason, advice, (host,)))
            continue
        here = list(check_machine(answer.facts, mine, lock))
        here.append(check_token(answer.facts.asks_for_token))
        here.append(check_clock(ahead_s, "its clock"))
        here.append(_check_reach(answer.store_error))
        if answer.stack:
            here.append(check_stack(answer.stack, bool(answer.facts.gpus)))
        findings += [finding._replace(where=(host,)) for finding in here]
    yield from merged(findings)


def _check_reach(error: str) -> Finding:
    if not error:
        return Finding("store", "pass", "the machine reads what this one wrote, and can write beside it")
    advice = "trainers write checkpoints themselves: give each machine the role, or the keys, or the folder"
    return Finding("store", "fail", error, advice)


def _size(spec: Spec, objects: ObjectStore) -> Footprint:
    lanes = spec.resources.lanes if spec.resources.lanes != "auto" else _MANY_LANES
    return footprint(spec, plan_stacks(spec, lanes), (spec.search.trials or 0) + 1, factors_of(spec, objects))
