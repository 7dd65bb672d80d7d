"""The only module that puts values into shell text."""

import re
import shlex
from collections.abc import Mapping, Sequence

MISLEADING = ("CDPATH", "POSIXLY_CORRECT", "TAR_OPTIONS")
"""Variables with which a start-up file would change what the portal's commands do."""
_COMMANDS = """SACCT SACCTMGR SALLOC SATTACH SBATCH SBCAST SCANCEL SCONTROL SCRONTAB SDIAG SINFO
    SLURM SPRIO SQUEUE SREPORT SRUN SSHARE SSTAT STRIGGER"""
OF_SCHEDULERS = tuple(f"{command}_" for command in _COMMANDS.split())
"""Prefixes of variables that set options of a scheduler's commands, or describe a job."""
OF_A_CLUSTER = ("SLURM_CONF", "SLURM_JWT", "SLURM_SACK_")
"""Prefixes of those with which a site sets how the commands find and enter its cluster."""
_PLAIN = re.compile(rb"[A-Za-z0-9_@%+=:,./-]+", re.ASCII)


def shell_word(value: object) -> str:
    """Return `value` as one bash word, for scripts.

    Stricter than `shlex.quote`: every byte except letters, digits and a few harmless signs becomes
    an octal escape in ANSI-C quotes (`$'two\\040words'`). Where a template puts it inside quotes, a
    comment or a here-document, the value may be wrong, but it never runs as code: it has no `$(`,
    backtick, space or newline.

    Raises ValueError for a NUL, which no shell word can hold.
    """
    data = str(value).encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise ValueError("a shell word cannot hold a NUL")
    if not data:
        return "''"
    if _PLAIN.fullmatch(data):
        return data.decode("ascii")
    parts = (chr(byte) if _PLAIN.match(bytes([byte])) else f"\\{byte:03o}" for byte in data)
    return f"$'{''.join(parts)}'"


def misleads(name: str) -> bool:
    """Whether a variable of the user's environment would change what the portal's commands do."""
    return name in MISLEADING or (
        name.startswith(OF_SCHEDULERS) and not name.startswith(OF_A_CLUSTER)
    )


def login_line(script: str, argument: str = "") -> bytes:
    """Return the line for a login shell of any kind that runs a script with /bin/sh. `argument` is
    its `$1`: as octal escapes, which no shell changes in quotes."""
    assert not set(script) & set("'\\!\n"), "the shells read these differently"
    if argument:
        data = argument.encode("utf-8", "surrogateescape")
        octal = "".join(f"\\{byte:03o}" for byte in data)
        script = f'set -- "$(printf "{octal}.")"; set -- "${{1%.}}"; {script}'
    return f"exec /bin/sh -c '{script}'".encode()


def script_lines(
    key: str, argv: Sequence[str], env: Mapping[str, str] | None = None, cwd: str | None = None
) -> bytes:
    """Return what the starter in `hosts/login_shell.py` reads: a line with `key` and, as one quoted
    word, a script for /bin/sh that runs `argv` between its marks, and a line with `exit`. If
    another shell reads them, it runs nothing and ends.

    Raises ValueError for a NUL in an argument."""
    there = f"cd {_on_one_line(cwd)} && " if cwd else "cd 2>/dev/null; "  # start-up files may cd
    command = there + " ".join(map(_on_one_line, argv))
    steps = [
        f"printf '\\036%s\\n' {key}2 >&2",
        f"printf '\\036%s\\n' {key}1",
        # Shell builtins: starting a program would take longer than squeue itself. Values may
        # contain lines that look like names.
        f"unset {' '.join(MISLEADING)} $(export -p | while read -r ood_word ood_name; do "
        "ood_name=${ood_name%%=*}; "
        f"case $ood_name in *[!A-Za-z0-9_]*|{_patterns(OF_A_CLUSTER)}) ;; "
        f"{_patterns(OF_SCHEDULERS)}) echo $ood_name;; esac; done)",
        "ood_newline=$(printf '\\n.')",
        "ood_newline=${ood_newline%.}",
        *(f"export {name}={_on_one_line(value)}" for name, value in (env or {}).items()),
        command,
        "ood_status=$?",
        f"printf '\\036%s:%d\\n' {key}2 $ood_status >&2",
        f"printf '\\036%s:%d\\n' {key}1 $ood_status",
    ]
    script = shlex.quote("; ".join(steps))
    return f"{key} {script}\nexit\n".encode("utf-8", "surrogateescape")


def _patterns(prefixes: Sequence[str]) -> str:
    return "|".join(f"{prefix}*" for prefix in prefixes)


def _on_one_line(value: str) -> str:
    """`value` as one word of a script with `$ood_newline`."""
    if "\0" in value:
        raise ValueError("an argument cannot hold a NUL")
    return shlex.quote(value).replace("\n", "'\"$ood_newline\"'")
