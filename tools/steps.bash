# shellcheck shell=bash
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Sourced by the scripts beside it: runs named steps, one line each with its number and seconds. What a step prints is
# shown when it fails (or with VERBOSE=1). All steps run, so that one call shows everything there is to mend.
#
#   steps=(name ...)     each name has a function step_<name> (dashes become underscores)
#   run_steps "$@"       all of them, or the named ones; returns 1 if any failed

# shellcheck disable=SC2120 # without arguments: all
run_steps() {
    local title selected=() failed=() name number=0 began log code
    title="$(basename "$0")"
    log="$(mktemp)"
    # shellcheck disable=SC2154 # the sourcing script sets it
    for name in "$@"; do
        [[ " ${steps[*]} " == *" $name "* ]] || {
            echo "$title: no step '$name'; there are: ${steps[*]}" >&2
            return 2
        }
        selected+=("$name")
    done
    [[ ${#selected[@]} -gt 0 ]] || selected=("${steps[@]}")
    for name in "${selected[@]}"; do
        number=$((number + 1))
        began=$SECONDS
        printf '%s %d/%d %s ...' "$title" "$number" "${#selected[@]}" "$name"
        code=0
        if [[ -n ${VERBOSE:-} ]]; then
            echo
            step_in_subshell "$name" || code=$?
        else
            step_in_subshell "$name" >"$log" 2>&1 || code=$?
        fi
        if [[ $code -eq 0 ]]; then
            printf ' ok (%d s)\n' $((SECONDS - began))
            # What a step left out must not look like a success.
            [[ -n ${VERBOSE:-} ]] || sed -n 's/^skipped: /    skipped: /p' "$log"
        else
            printf ' FAILED (%d s)\n' $((SECONDS - began))
            [[ -n ${VERBOSE:-} ]] || sed 's/^/    /' "$log"
            failed+=("$name")
        fi
    done
    rm -f "$log"
    if [[ ${#failed[@]} -gt 0 ]]; then
        echo "$title: failed: ${failed[*]}. One step alone, with all it says: VERBOSE=1 $0 ${failed[0]}" >&2
        return 1
    fi
    echo "$title: all ${#selected[@]} steps passed"
}

# `set -e` is ignored in a function that stands before `||`; a process of its own obeys it.
step_in_subshell() {
    local code=0
    set +e
    (
        set -e
        "step_${1//-/_}"
    )
    code=$?
    set -e
    return "$code"
}

# Files that are, or are about to be, under version control; arguments narrow them down.
# shellcheck disable=SC2120
project_files() {
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git ls-files --cached --others --exclude-standard --deduplicate -z -- "$@" |
            while IFS= read -r -d '' file; do
                [[ -f $file ]] && printf '%s\0' "$file"
            done
    else
        echo "this folder is no git repository: the checks look at the files that git lists" >&2
        return 1
    fi
}

# Files among the given ones (NUL separated, on standard input) whose first line names the interpreter.
with_shebang() {
    local file line
    while IFS= read -r -d '' file; do
        IFS= read -r line <"$file" 2>/dev/null || true
        # shellcheck disable=SC2254 # the argument is a pattern
        case "$line" in
            '#!'*$1*) printf '%s\0' "$file" ;;
        esac
    done
}

# The environment of every check: the project's venv, and the collection under its full name.
use_venv() {
    local venv="${VENV:-$PWD/.venv}"
    if [[ ! -x $venv/bin/python ]]; then
        echo "no Python environment at $venv: run tools/bootstrap --no-docker first" >&2
        exit 1
    fi
    export PATH="$venv/bin:$PATH"
    mkdir -p build/collections/ansible_collections/dedicated
    [[ -e build/collections/ansible_collections/dedicated/odoo ]] ||
        ln -sfn ../../../.. build/collections/ansible_collections/dedicated/odoo
    export ANSIBLE_COLLECTIONS_PATH="$PWD/build/collections"
    export ANSIBLE_NOCOWS=1 ANSIBLE_LOCALHOST_WARNING=false ANSIBLE_INVENTORY_UNPARSED_WARNING=false
    export LC_ALL=C.UTF-8
}
