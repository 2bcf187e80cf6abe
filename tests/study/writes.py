"""Kinds of writes of a study: method of the object store, pattern of the object's name, and number of the call."""

_CHECKPOINT = r"^tiny/checkpoints/\d+/\d+/\d+/"

WRITES: dict[str, tuple[str, str, int]] = {
    "the study's metadata": ("write", "^tiny/study.json", 1),
    "a run's lease": ("write", "^tiny/leases/", 1),
    "a run's record": ("create", "^tiny/runs/", 1),
    "the deletion of a lease": ("delete", "^tiny/leases/", 1),
    "a run's heartbeat": ("write", "^tiny/runs/", 2),
    "trials that begin": ("write", "^tiny/trials/", 1),
    "trials that end": ("write", "^tiny/trials/", 5),
    "reports": ("write", "^tiny/reports/", 2),
    "weights": ("write", _CHECKPOINT + "model.safetensors", 3),
    "a checkpoint's description": ("write", _CHECKPOINT + "config.json", 2),
    "an optimiser's state": ("write", _CHECKPOINT + "state.safetensors", 3),
    "a checkpoint's record": ("write", _CHECKPOINT + "replicate.json", 4),
    "the deletion of an earlier checkpoint": ("delete", _CHECKPOINT, 2),
    "latents": ("write", "^tiny/latents/", 2),
}
