"""Are the requirements pinned, complete, and free of known vulnerabilities? Part of `make check`.

Known vulnerabilities are those that PyPI tells with each release, as `pip-audit` asks for them
(https://docs.pypi.org/api/json/). Without PyPI, or behind a mirror that does not tell, the rest is
checked, and the last line says what was not.
"""

from __future__ import annotations

import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.request import urlopen

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)")


def main() -> int:
    pins: dict[str, str] = {}
    mistakes: list[str] = []
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            if line.strip() and not line.startswith(("#", "-r ")):
                pin = PIN.fullmatch(line)
                if pin is None:
                    mistakes.append(f"{name}: {line}: not pinned as name==version")
                else:
                    pins[canonicalize_name(pin[1])] = pin[2]
        if name == "requirements.txt":  # what the portal runs on, with all that those need
            mistakes += [f"{name}: {problem}" for problem in not_complete(pins)]
    try:
        with ThreadPoolExecutor(8) as threads:
            for found in threads.map(known_vulnerabilities, pins.items()):
                mistakes += found
    except OSError as error:
        print(f"requirements: PyPI could not list known vulnerabilities ({error})")
    print("\n".join(mistakes) or f"requirements: {len(pins)} pins in order")
    return 1 if mistakes else 0


def not_complete(pins: dict[str, str]) -> list[str]:
    """What is not installed as pinned, and what a pinned package needs that is not pinned."""
    problems = []
    for name, version in pins.items():
        try:
            found = distribution(name)
        except PackageNotFoundError:
            problems.append(f"{name} is not installed")
            continue
        if found.version != version:
            problems.append(f"{name} is {found.version} here, and pinned to {version}")
        for text in found.requires or []:
            needed = Requirement(text)
            if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
                continue
            if canonicalize_name(needed.name) not in pins:
                problems.append(f"{name} needs {needed.name}, which is not pinned")
    return problems


def known_vulnerabilities(pin: tuple[str, str]) -> list[str]:
    """Raises `OSError` when PyPI does not tell."""
    name, version = pin
    with urlopen(f"https://pypi.org/pypi/{name}/{version}/json", timeout=10) as answer:
        told = json.load(answer)["vulnerabilities"]
    return [
        f"{name} {version}: {one['id']}: fixed in {', '.join(one['fixed_in']) or 'no release'}"
        for one in told
        if not one["withdrawn"]
    ]


if __name__ == "__main__":
    sys.exit(main())
