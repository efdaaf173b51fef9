# shellcheck shell=bash
# Sourced by scripts that look at what commands do.

# expect WHAT STATUS TEXT COMMAND...: the command's exit status, and what it has to print.
expect() {
    local what=$1 wanted=$2 text=$3 said status=0
    shift 3
    said=$("$@" 2>&1) || status=$?
    if [ $status != "$wanted" ] || [[ $said != *"$text"* ]]; then
        echo "FAILED   $what: status $status, $said"
        exit 1
    fi
    echo "ok       $what"
}
