"""Optional parts of the installation, and the error for one that is missing."""

from importlib.util import find_spec

from study.errors import UserError

# Modules that only an extra of pyproject.toml installs, and the package of each.
_PACKAGES = {
    "aws": {"s3fs": "s3fs"},
    "azure": {"adlfs": "adlfs"},
    "cluster": {"boto3": "boto3", "aiohttp_cors": "ray[default]"},
    "dashboard": {"streamlit": "streamlit"},
    "gcs": {"gcsfs": "gcsfs"},
}


def check_extra(extra: str, purpose: str) -> None:
    """Raise UserError unless the packages of an extra are installed; the message begins with the purpose."""
    missing = [package for module, package in _PACKAGES[extra].items() if find_spec(module) is None]
    if missing:
        raise UserError(
            f"{purpose}: needs {' and '.join(missing)}, not installed here; run pip install 'marl-study[{extra}]'"
        )
