#!/usr/bin/env bash
# Puts llama-cpp-python, built for this very CPU, into an environment.
#
#   build_llama.sh PYTHON VERSION
#
# pip's own wheel cache does not look at compiler flags, so it could hand back a build without the cure
# below. Wheels are therefore kept in a cache of ours, one folder per version, compiler, flags and CPU:
#   ${XDG_CACHE_HOME:-~/.cache}/roborefer-edge/wheels/KEY/
# A second clone on this machine reuses it. The wheel is native to the CPU; do not carry it to another one.
#
# LLAMA_CMAKE_ARGS adds CMake settings, for example on a Jetson: LLAMA_CMAKE_ARGS=-DGGML_CUDA=on
# CMAKE_BUILD_PARALLEL_LEVEL limits the compile jobs (each takes up to 1 GB of memory).
set -euo pipefail

python="${1:?python of the environment}"
version="${2:?version of llama-cpp-python}"
cxx="${CXX:-c++}"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/roborefer-edge/wheels"

if ! command -v "$cxx" >/dev/null; then
  echo "llama.cpp is built on this machine and needs a C++ compiler. Run: sudo apt-get install g++" >&2
  exit 1
fi

# GCC before 13.3 removes, as dead, the stores that fill an AMX tile configuration, and llama.cpp then
# crashes in ggml_backend_amx_mul_mat (docs/decisions.md). AMX exists on x86-64 only.
cure_for() { # MACHINE COMPILER_NAME COMPILER_VERSION
  [[ "$1" == x86_64 && "$2" == GNU ]] || return 0
  if [[ "$(printf '%s\n' 13.3 "$3" | sort -V | head -n 1)" != 13.3 ]]; then
    echo "-DCMAKE_CXX_FLAGS='-fno-tree-dse -fno-dse'"
  fi
}

# Read whole before it is searched: `grep -q` at the end of a pipe leaves at its first find, and on a busy machine the
# compiler before it then dies of SIGPIPE, which pipefail takes for "not found": no cure, and another key.
macros="$("$cxx" -dM -E -x c++ /dev/null 2>/dev/null || true)"
case "$macros" in
  *__clang__*) compiler_name=Clang ;;
  *__GNUC__*) compiler_name=GNU ;;
  *) compiler_name=other ;;
esac
compiler_version="$("$cxx" -dumpfullversion -dumpversion 2>/dev/null | head -n 1)"
flags="$(cure_for "$(uname -m)" "$compiler_name" "$compiler_version") ${LLAMA_CMAKE_ARGS:-}"

# The instruction sets are what decides whether a native build runs here: `flags` on x86, `Features` on Arm.
cpu_features="$(grep -m 1 -iE '^(flags|features)' /proc/cpuinfo | cut -d: -f2 | tr ' ' '\n' | sort -u | tr '\n' ' ')"
key="$version-$(uname -m)-$(printf '%s|' "$compiler_name" "$compiler_version" "$flags" "$cpu_features" \
  | sha256sum | cut -c1-16)"

installed_key="$("$python" -c 'import sys; print(sys.prefix)')/llama-cpp-python.key"
if [[ "$(cat "$installed_key" 2>/dev/null)" == "$key" ]] &&
  "$python" -c 'import importlib.metadata as m, sys; sys.exit(m.version("llama-cpp-python") != sys.argv[1])' \
    "$version" 2>/dev/null; then
  exit 0
fi

if ! compgen -G "$cache/$key/*.whl" >/dev/null; then
  echo "Building llama.cpp $version for this CPU: about 5 minutes on 2 cores, once per machine." >&2
  mkdir -p "$cache"
  work="$(mktemp -d "$cache/building.XXXXXX")"
  trap 'rm -rf "$work"' EXIT
  CMAKE_ARGS="$flags" "$python" -m pip wheel --disable-pip-version-check --no-deps --no-cache-dir \
    --no-binary llama-cpp-python --wheel-dir "$work/$key" "llama-cpp-python==$version" >&2
  mv -T "$work/$key" "$cache/$key" 2>/dev/null || true # another clone may have been faster
fi

wheel="$(compgen -G "$cache/$key/*.whl" | head -n 1)"
"$python" -m pip install -q --disable-pip-version-check --no-deps --force-reinstall "$wheel" >&2
echo "$key" >"$installed_key.part"
mv "$installed_key.part" "$installed_key"
