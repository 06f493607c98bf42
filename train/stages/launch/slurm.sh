#!/usr/bin/env bash
# Several machines under SLURM. Validated as a script, NOT RUN by us on a cluster.
#
#   sbatch --nodes 4 train/stages/launch/slurm.sh sft CHECKPOINT DATA OUT --preset sft_8b
#
# A job that is stopped at its time limit, preempted, or loses a machine is queued again and goes on from its last checkpoint.
#SBATCH --job-name=roborefer-edge
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

requeue() {
    echo "time is nearly up: job $SLURM_JOB_ID is queued again"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
}
trap requeue TERM

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p) # reads to the end: pipefail minds a head that leaves
export MASTER_ADDR MASTER_PORT=${MASTER_PORT:-29500} NNODES=$SLURM_NNODES
export NPROC=${NPROC:-${SLURM_GPUS_ON_NODE:-8}}
# The path of this script below $SLURM_SUBMIT_DIR: sbatch runs a copy of it from elsewhere.
MULTI_HOST=${MULTI_HOST:-$SLURM_SUBMIT_DIR/train/stages/launch/multi_host.sh}

# One task on each machine starts that machine's processes. In the background, so that the trap is heard.
srun --kill-on-bad-exit=1 bash -c 'NODE_RANK=$SLURM_NODEID exec "$0" "$@"' "$MULTI_HOST" "$@" &
wait $!
