#!/usr/bin/env bash
# Sets up what the tests need, then runs linter, formatter, type checker and tests.
#
#     bash test.sh                    # everything but the long proofs
#     bash test.sh --all              # those too
#     bash test.sh tests/verify -x    # any pytest arguments
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/setup.sh

marker=(-m "not slow")
if [ "${1:-}" = --all ]; then
    marker=()
    shift
fi

prepare_environment dev
export PATH="$PWD/.venv/bin:$PATH"

# Every check runs, so that one call shows all that is wrong; pytest comes last, so that its counts close the output.
failed=0
for check in "ruff check ." "ruff format --check ." "mypy"; do
    $check || { failed=1 && say "failed: $check"; }
done
pytest ${marker[@]+"${marker[@]}"} "$@" || failed=1
exit "$failed"
