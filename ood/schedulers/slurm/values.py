"""Parsing times, durations, amounts and lists of resources in the output of Slurm's commands."""

import re
from calendar import timegm
from functools import lru_cache

DURATION = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)(?:\.\d+)?")
TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)")
AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([KMGTP]?)[cn]?", re.IGNORECASE)
MIB = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2, "P": 1024**3}
GRES = re.compile(
    r"([\w-]+)(?::(?!no_consume:)(?:\(null\)|[^:(),]+))?(?::no_consume)?:(\d+)(?:\([^)]*\))?"
)

ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "SLURM_TIME_FORMAT": "standard",
    "SLURM_BITSTR_LEN": "0",
}
"""Environment of queries: times are in UTC, and the tasks of arrays are listed in full."""


@lru_cache(10_000)
def parse_duration(text: str) -> int | None:
    """Seconds in `[days-]hours:minutes:seconds` or `minutes:seconds`; None for no limit."""
    found = DURATION.fullmatch(text)
    if not found:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


@lru_cache(10_000)
def parse_time(text: str) -> int | None:
    """Seconds since the epoch at `2026-11-23T12:00:00`; None for `N/A`, `Unknown` and the like."""
    found = TIME.fullmatch(text)
    return timegm(tuple(map(int, found.groups()))) if found else None


@lru_cache(10_000)
def parse_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def parse_mib(text: str) -> int | None:
    """MiB in `512M`, `1.50G` or, as scontrol prints it, `16000`; None for no limit."""
    found = AMOUNT.fullmatch(text)
    return round(float(found[1]) * MIB[found[2].upper()]) if found else None


@lru_cache(10_000)
def parse_tres(text: str) -> tuple[int | None, int | None, int]:
    """Cores, MiB and GPUs in `cpu=4,mem=2G,node=1,gres/gpu=2,gres/gpu:a100=2`."""
    found = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    gpus = parse_number(found.get("gres/gpu", ""))
    if gpus is None:  # some sites count GPUs by type only
        kinds = [value for name, value in found.items() if name.startswith("gres/gpu:")]
        gpus = sum(parse_number(value) or 0 for value in kinds)
    return parse_number(found.get("cpu", "")), parse_mib(found.get("mem", "")), gpus


def parse_gpus(text: str) -> int:
    """The GPUs in `gpu:a100:2(S:0-1),gpu:1,shard:8`, `gpu:(null):2(IDX:0,2-3)` or `(null)`."""
    return sum(int(count) for kind, count in GRES.findall(text) if kind == "gpu")
