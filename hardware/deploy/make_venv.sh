#!/usr/bin/env bash
# A virtual environment with a Python that the robot's wheels exist for, and a pip that knows
# editable installs of pyproject projects (23.1 or newer; Python 3.10's own may be older).
#
#   make_venv.sh PYTHON FOLDER
#
# A folder that already holds a working environment is kept as it is.
set -euo pipefail

python="${1:?python to use}"
folder="${2:?folder of the environment}"

"$python" - <<'PY' >&2
import sys
if not (3, 10) <= sys.version_info[:2] <= (3, 12):
    sys.exit(
        f"{sys.executable} is Python {sys.version.split()[0]}; the robot's packages are built for 3.10 to 3.12."
        " Name another one, for example: make PYTHON=python3.12 demo"
    )
PY

if ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
  echo "Making the environment $folder" >&2
  "$python" -m venv "$folder"
fi
"$folder/bin/python" -m pip install -q --disable-pip-version-check 'pip>=23.1'
