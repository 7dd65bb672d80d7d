"""Create 20 sessions for each user named on the command line.

Run it as root inside a host of the devcluster.
"""

import json
import os
import pwd
import subprocess
import sys
import time
import uuid

ENDED, WAITING = 18, 2
LOG = "".join(f"line {number} of a log that says nothing much\n" for number in range(100))
SBATCH = "sbatch --parsable --hold -p desktop --mem=8M -o /dev/null --wrap true --comment"


def main() -> None:
    for name in sys.argv[1:]:
        user = pwd.getpwnam(name)
        if os.fork() == 0:
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            os.chdir(user.pw_dir)
            for number in range(ENDED + WAITING):
                session(number, number >= ENDED)
            os._exit(0)
        os.wait()


def session(number: int, waits: bool) -> None:
    id = str(uuid.uuid4())
    root = "ondemand/data/sys/dashboard/batch_connect"
    output = f"{root}/sys/container_app/output/{id}"
    os.makedirs(output, 0o700)
    os.makedirs(f"{root}/db", 0o700, exist_ok=True)
    job = str(900000 + number)
    if waits:
        job = subprocess.run(
            [*SBATCH.split(), f"ood-session:{id}"], capture_output=True, text=True, check=True
        ).stdout.strip()
    now = int(time.time()) - 60 * (20 - number)
    record = {
        "id": id,
        "cluster_id": "desktop",
        "job_id": job,
        "created_at": now,
        "token": "sys/container_app",
        "title": "Run Container",
        "script_type": "basic",
        "cache_completed": None if waits else True,
        "completed_at": None if waits else now + 30,
    }
    files = {
        f"{root}/db/{id}": json.dumps(record),
        f"{output}/user_defined_context.json": json.dumps({"cluster": "desktop", "cores": "1"}),
        f"{output}/job_script_options.json": json.dumps({"output_path": "job.log"}),
    }
    if not waits:
        files[f"{output}/job.log"] = LOG
        ended = {"outcome": "succeeded", "exit_code": 0, "host": "desktop01", "time_limit": 3600}
        files[f"{output}/portal.json"] = json.dumps(ended)
    for path, text in files.items():
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o600)


main()
