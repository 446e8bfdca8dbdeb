#!/usr/bin/env bash
# From a fresh clone to a report: sets up .venv, then runs the whole method on the embedded example (some 7 minutes
# on two cores). Called again, it skips what is installed and goes on with a run that was stopped.
#
#     bash quickstart.sh [SEED]     # seed 0 where none is given
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/setup.sh

seed=${1:-0}
case $seed in
'' | *[!0-9]*)
    say "error: the seed must be a whole number from 0 on, not '$seed'"
    say "next: bash quickstart.sh 1"
    exit 2
    ;;
esac
name=quickstart
[ "$seed" -eq 0 ] || name=quickstart-seed$seed

prepare_environment
exec .venv/bin/taskdef run examples/sums/task.yaml --config examples/sums/config.yaml --seed "$seed" --name "$name"
