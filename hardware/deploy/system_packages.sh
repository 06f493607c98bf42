#!/usr/bin/env bash
# What this project needs from the operating system; the Python packages are not its business.
#
#   system_packages.sh robot PYTHON         a C++ compiler (llama.cpp) and Python's venv module
#   system_packages.sh workstation PYTHON   the same, libusb (pyrealsense2 does not load without it), and EGL
#                                           with Mesa's software renderer (MuJoCo's pictures)
#
# Installs what is missing with apt when root or password-free sudo is there. Otherwise it says in one
# line what to install and exits 1. Nothing missing: no output, no privileges asked for.
set -euo pipefail

tier="${1:?robot or workstation}"
python="${2:-python3}"
missing=()

has_library() { # NAME.so.N: found by the loader's cache
  local cache
  cache="$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null || true)"
  grep -qF "$1" <<<"$cache"
}

command -v "${CXX:-c++}" >/dev/null || missing+=(g++)
if command -v "$python" >/dev/null; then
  if ! version="$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])' 2>/dev/null)"; then
    echo "$python does not start: name a Python 3.10 to 3.12 with PYTHON=..." >&2
    exit 1
  fi
  "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=("$version-venv")
else
  missing+=(python3 python3-venv)
fi
if [[ "$tier" == workstation ]]; then
  has_library libusb-1.0.so.0 || missing+=(libusb-1.0-0)
  has_library libEGL.so.1 || missing+=(libegl1)
  compgen -G '/usr/lib/*/dri/*_dri.so' >/dev/null || missing+=(libgl1-mesa-dri)
fi
[[ ${#missing[@]} -gt 0 ]] || exit 0

as_root=(env DEBIAN_FRONTEND=noninteractive)
if [[ $EUID -ne 0 ]]; then as_root=(sudo -n "${as_root[@]}"); fi
can_install() {
  command -v apt-get >/dev/null && { [[ $EUID -eq 0 ]] || sudo -n true 2>/dev/null; }
}

if ! can_install; then
  echo "These system packages are missing and cannot be installed from here." \
    "Run: sudo apt-get install ${missing[*]}   then start again." >&2
  exit 1
fi

echo "Installing system packages: ${missing[*]}" >&2
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" apt-get update -q && \
       "${as_root[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "apt could not install ${missing[*]}: the lines above say why." >&2
  exit 1
fi
