"""The document with which a study begins; written without Ray, which takes seconds to import."""

from datetime import UTC, datetime

from study.configuration import data_of
from study.errors import UserError
from study.execution import device_type
from study.spec import Spec
from study.status import command_for
from study.store import Document, StudyStore
from study.width import planned

__all__ = ["begin"]


def begin(store: StudyStore, spec: Spec) -> Document:
    """Write a study's document, or find that it has the same spec.

    Args:
        store: where the study will be.
        spec: resolved.

    Raises:
        UserError: when the store cannot be written, or holds a study of that name with another spec.
    """
    store.objects.check_writable()
    if store.exists():
        document = store.document()
        if document.spec != spec:
            raise UserError(
                f"study {spec.name!r} is already in {store.objects.uri} with another spec "
                f"({_difference(document.spec, spec)}); give this one another name, go on with that one by "
                f"`{command_for(store, 'resume')}`, or delete it"
            )
        return document
    document = Document(
        spec=spec,
        stack=planned(spec, device_type()).model_dump(mode="json"),
        factors=data_of(spec).factor_names,
        created=datetime.now(UTC),
    )
    store.create(document)
    return document


def _difference(old: Spec, new: Spec) -> str:
    """The first fields in which two specs differ."""
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    names = [name for name in before if before[name] != after[name]]
    return f"{', '.join(names[:3])} differ{'s' if len(names) == 1 else ''}"
