#!/usr/bin/env bash
# Runs a command inside an arm64 root, under user-mode emulation.
#
#   emulated.sh ROOT COMMAND...
#
# In namespaces of its own: nothing is registered on this machine, nothing stays mounted, no root is needed. It takes
# Linux 6.7 (binfmt_misc per user namespace) and Debian's qemu-user-static.
#
# The processor is a Cortex-A76, the newest that QEMU 7.2 has with the same instructions as the Cortex-A78AE of an
# Orin (Armv8.2 with dot products and half floats): what needs a newer one ends with SIGILL. Libraries that ask /proc
# and /sys what they run on are told of an A78AE: this machine's own files would send ONNX Runtime into a crash.
set -euo pipefail

root="$(realpath "${1:?root}")"
shift

mkdir -p "$root"/{proc,dev,tmp} "$root/sys/devices/system/cpu"
echo 0-1 | tee "$root/sys/devices/system/cpu/possible" >"$root/sys/devices/system/cpu/present"
for core in 0 1; do
  printf '%s\t: %s\n' processor "$core" BogoMIPS 62.50 \
    Features "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp" \
    "CPU implementer" 0x41 "CPU architecture" 8 "CPU variant" 0x0 "CPU part" 0xd42 "CPU revision" 1
  echo
done >"$root/cpuinfo"

# shellcheck disable=SC2016 # the inner shell expands them
# One thread: under emulation, waiting threads take the time of those that work.
exec unshare --user --map-root-user --mount --pid --fork --kill-child bash -euc '
  root="$1"; shift
  mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
  grep "^:" /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register
  mount -t proc proc "$root/proc"
  mount --bind "$root/cpuinfo" "$root/proc/cpuinfo"
  mount --rbind /dev "$root/dev"
  exec env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME=/root LANG=C.UTF-8 PYTHONPATH=/opt/roborefer PYTHONDONTWRITEBYTECODE=1 \
    QEMU_CPU=cortex-a76 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive chroot "$root" "$@"' emulated "$root" "$@"
