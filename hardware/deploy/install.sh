#!/usr/bin/env bash
# Puts the robot side into an environment of its own, where a boot service can run it: /opt/roborefer-edge.
#
#   sudo hardware/deploy/install.sh [--dry-run] [--jetpack 6|7|none] [--soc orin|thor] [--prefix FOLDER]
#                                   [--python PYTHON] [--extras realsense,serve]
#
# --dry-run prints every command with its wheels and build flags and runs none; it needs neither root nor a Jetson.
# JetPack and chip are read from the machine unless they are named. What differs between the two JetPacks is in
# `settle_jetson` below; none of it has been proven on hardware. Running it again updates.
set -euo pipefail
umask 022 # root's own may be stricter, and the service's user has to read what is put here

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
checkout="$(cd "$here/../.." && pwd)"
prefix=/opt/roborefer-edge
jetpack="" soc="" python="" extras=realsense dry_run=""

usage() { sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
die() { echo "install.sh: $*" >&2 && exit 2; }

while [[ $# -gt 0 ]]; do
  case "$1" in
    --dry-run) dry_run=yes ;;
    --jetpack | --soc | --prefix | --python | --extras)
      [[ $# -ge 2 ]] || die "$1 needs a value"
      printf -v "${1#--}" %s "$2" && shift ;;
    -h | --help) usage && exit 0 ;;
    *) die "unknown argument $1; see --help" ;;
  esac
  shift
done
[[ "$jetpack" =~ ^(|6|7|none)$ ]] || die "--jetpack is 6, 7 or none, got $jetpack"
[[ "$soc" =~ ^(|orin|thor)$ ]] || die "--soc is orin or thor, got $soc"
[[ "$prefix" == /* ]] || die "--prefix $prefix is relative; a service needs the whole path"

say() { printf '# %s\n' "$*"; }
run() { # prints a command, and runs it unless this is a dry run
  printf '%q ' "$@" && echo
  [[ -n "$dry_run" ]] || "$@"
}

# --- which machine ------------------------------------------------------------------------------------

jetpack_here() { # from the release of Jetson Linux: R36 is JetPack 6, R38 and R39 are JetPack 7
  local release
  release="$(sed -n 's/^# R\([0-9]*\) .*/\1/p' /etc/nv_tegra_release 2>/dev/null || true)"
  case "$release" in
    36) echo 6 ;;
    38 | 39) echo 7 ;;
    "") echo none ;;
    *) die "Jetson Linux R$release is neither JetPack 6 (R36) nor 7 (R38, R39); name the nearer one with --jetpack" ;;
  esac
}
soc_here() {
  if grep -qs tegra264 /proc/device-tree/compatible; then echo thor; else echo orin; fi
}
jetpack="${jetpack:-$(jetpack_here)}"
soc="${soc:-$(soc_here)}"
memory_gib="$(awk '/^MemTotal/ {print int($2 / 1048576)}' /proc/meminfo)"
# nvcc takes up to 2 GB for some of llama.cpp's kernels.
jobs="$((memory_gib / 2 < $(nproc) ? memory_gib / 2 : $(nproc)))"
jobs="$((jobs < 1 ? 1 : jobs))"

settle_jetson() { # sets cuda, python, llama_flags, ort_wheel, ort_install
  local arch=87-real
  [[ "$soc" == thor ]] && arch=110-real
  if [[ "$jetpack" == 6 ]]; then
    [[ "$soc" == orin ]] || die "JetPack 6 does not run on Thor; --jetpack 7"
    cuda="CUDA 12.6 (JetPack 6.1 or newer; 6.0 has 12.2, for which the wheel below is not built)"
    python="${python:-python3.10}"
    ort_wheel="onnxruntime_gpu-1.23.0-cp310-cp310-linux_aarch64.whl (CUDA 12.6, NVIDIA's Jetson index)"
    ort_install=(onnxruntime-gpu==1.23.0 --index-url https://pypi.jetson-ai-lab.io/jp6/cu126)
  else
    cuda="CUDA 13 (JetPack 7.0 and 7.1: Thor; 7.2: Orin as well)"
    python="${python:-python3.12}"
    ort_wheel="onnxruntime_gpu-1.31.1-cp312-cp312-manylinux_2_34_aarch64.whl (CUDA 13, PyPI)"
    ort_install=(onnxruntime-gpu==1.31.1)
  fi
  # Without -DCMAKE_CUDA_ARCHITECTURES some CMakes build for another GPU; llama.cpp's pool of virtual memory reserves
  # an address range of 32 GB, which boards with 8 GB refuse. It costs bigger ones about 2 %.
  llama_flags="-DGGML_CUDA=on -DCMAKE_CUDA_ARCHITECTURES=$arch -DGGML_CUDA_NO_VMM=on"
}
pinned() { # NAME: its line in constraints.txt for this Python
  local old=0
  if [[ "$python" == *3.10 ]]; then old=1; fi
  awk -F '[=;]' -v name="$1" -v old="$old" '
    $1 == name { if ($0 ~ /< *.3.11/ ? old : ($0 ~ />= *.3.11/ ? !old : 1)) print $1 "==" $3 }' \
    "$checkout/constraints.txt" | tail -n 1
}

# --- the steps ----------------------------------------------------------------------------------------

cuda="" llama_flags="" ort_wheel="" ort_install=()
if [[ "$jetpack" == none ]]; then
  python="${python:-python3}"
  say "no Jetson: ONNX Runtime and llama.cpp run on the processor"
else
  settle_jetson
  say "JetPack $jetpack on $soc, $cuda, $python. Not proven on hardware: tell us what differs on yours"
fi
[[ -n "$dry_run" || $EUID -eq 0 ]] || die "writing to $prefix takes root: sudo $0, or look with --dry-run"
llama_version="$(sed -n 's/^llama-cpp-python==//p' "$checkout/constraints.txt")"

say "1. system packages: a C++ compiler, Python's venv, the USB library that pyrealsense2 loads"
run "$here/system_packages.sh" robot "$python"
[[ "$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null)" == *libusb-1.0.so.0* ]] ||
  run apt-get install -y -q --no-install-recommends libusb-1.0-0
if [[ "$jetpack" != none ]]; then
  say "   and CUDA, cuDNN and TensorRT, which JetPack brings: nvcc has to be in /usr/local/cuda"
  [[ -x /usr/local/cuda/bin/nvcc ]] || run apt-get install -y -q nvidia-jetpack
fi

say "2. the environment"
run "$here/make_venv.sh" "$python" "$prefix"

say "3. llama.cpp $llama_version, built here${llama_flags:+ with $llama_flags}, $jobs jobs"
run env ${llama_flags:+CUDACXX=/usr/local/cuda/bin/nvcc} "LLAMA_CMAKE_ARGS=$llama_flags" \
  CMAKE_BUILD_PARALLEL_LEVEL="$jobs" "$here/build_llama.sh" "$prefix/bin/python" "$llama_version"

wheels=()
for name in numpy pillow opencv-python-headless onnxruntime typer rich tomli pyrealsense2; do
  [[ $name == tomli && "$python" != *3.10 ]] || wheels+=("$(pinned "$name")")
done
[[ ",$extras," == *,realsense,* ]] || unset 'wheels[-1]'
say "4. roborefer-edge with its wheels: ${wheels[*]}"
run "$prefix/bin/python" -m pip install -q --disable-pip-version-check -c "$checkout/constraints.txt" \
  "$checkout${extras:+[$extras]}"

if [[ -n "$ort_wheel" ]]; then
  say "5. ONNX Runtime for the GPU in place of the one for the processor: $ort_wheel"
  run "$prefix/bin/python" -m pip uninstall -q -y onnxruntime onnxruntime-gpu
  run "$prefix/bin/python" -m pip install -q --disable-pip-version-check --no-deps "${ort_install[@]}"
fi

say "$([[ -n "$ort_wheel" ]] && echo 6 || echo 5). proof: does the bundle give its golden numbers, and which providers really ran?"
run env -C / "$prefix/bin/roborefer-edge" check
run env -C / "$prefix/bin/roborefer-edge" doctor || say "doctor names what to mend; the installation is whole"

say "next: sudo $prefix/bin/roborefer-edge service install \"the red cup\""
