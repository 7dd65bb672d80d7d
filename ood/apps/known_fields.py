"""The predefined fields of Open OnDemand, such as `bc_num_hours`. A form that lists one gets its
attributes, and its value is passed to the job unless submit.yml sets it."""

from collections.abc import Mapping
from typing import Any

COUNT = {"widget": "number_field", "value": 1, "min": 1, "required": True}
EMAIL = {"widget": "check_box", "label": "Send me an email when the job starts"}
KNOWN_FIELDS: dict[str, dict[str, Any]] = {
    "bc_num_hours": {"label": "Number of hours", **COUNT},
    "bc_num_slots": {"label": "Number of cores", **COUNT},
    "bc_account": {"label": "Account"},
    "bc_queue": {"label": "Partition"},
    "bc_email_on_started": EMAIL,
}


def job_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of predefined fields in a form, as keys of `script` in submit.yml."""
    found = {
        "wall_time": int(float(values.get("bc_num_hours") or 0) * 3600),
        "cores": int(values.get("bc_num_slots") or 0),
        "accounting_id": values.get("bc_account"),
        "queue_name": values.get("bc_queue"),
        "email_on_started": values.get("bc_email_on_started"),
    }
    return {key: value for key, value in found.items() if value}
