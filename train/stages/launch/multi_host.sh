#!/usr/bin/env bash
# Several machines without a scheduler: run this on each of them, with its own NODE_RANK, all within 15 minutes.
#
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 train/stages/launch/multi_host.sh sft CHECKPOINT DATA OUT --preset sft_2b
#   NNODES=2 NODE_RANK=1 MASTER_ADDR=10.0.0.1 train/stages/launch/multi_host.sh sft CHECKPOINT DATA OUT --preset sft_2b
#
# CHECKPOINT, DATA and OUT lie on a file system that all machines share. After a crash start all of them again: the run
# goes on from its last checkpoint.
#   NPROC        processes on each machine; default: one for each GPU, one without any
#   MASTER_PORT  free port of the machine with NODE_RANK 0; default 29500
#   PROGRAM      default: roborefer-edge on the path
set -euo pipefail

: "${NNODES:?how many machines}" "${NODE_RANK:?number of this machine, from 0}" "${MASTER_ADDR:?address of machine 0}"
gpus() { nvidia-smi --list-gpus 2>/dev/null | wc -l; }
if [ -z "${NPROC:-}" ]; then
    NPROC=$(gpus)
    [ "$NPROC" -gt 0 ] || NPROC=1
fi

exec torchrun --no-python \
    --nnodes "$NNODES" --node-rank "$NODE_RANK" --nproc-per-node "$NPROC" \
    --master-addr "$MASTER_ADDR" --master-port "${MASTER_PORT:-29500}" \
    "${PROGRAM:-roborefer-edge}" train "$@"
