#!/usr/bin/env bash
# Questions from scans as a SLURM array: each task is one shard, the last one to finish joins them.
# Run by us as a script, one task after the other; NOT RUN by us on a cluster.
#
#   sbatch --array 0-99 train/scans/slurm_array.sh /data/ca1m /data/ca1m_questions --every 30
#
# A task that is stopped is queued again and goes on from its finished frames.
#SBATCH --job-name=roborefer-scans
#SBATCH --cpus-per-task=16
#SBATCH --mem-per-cpu=2G
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
set -euo pipefail

if [[ $# -lt 2 || -z ${SLURM_ARRAY_TASK_ID:-} ]]; then
    echo "usage: sbatch --array 0-N train/scans/slurm_array.sh DIR OUT [flags of train scans]" >&2
    exit 2
fi
scans=$1 out=$2
shift 2
number=$SLURM_ARRAY_TASK_ID of=$SLURM_ARRAY_TASK_COUNT

roborefer-edge train scans "$scans" "$out" --shard "$number/$of" --workers "${SLURM_CPUS_PER_TASK:-1}" "$@"

# Whoever finds all shards there joins them; joining twice writes the same files.
finished=$(find "$out/shards" -mindepth 2 -maxdepth 2 -path "*-of-$of/shard.json" | wc -l)
if [[ $finished -eq $of ]]; then
    roborefer-edge train scans "$scans" "$out" --join "$of"
fi
