#!/bin/sh
# The hook of the crash tests: back_hook.sh WORLD MODE [--probe]
#
# calls      one line per run, effects one line per change of production: O_APPEND, independent of the daemon's ledger
# trap       at which point of its run the hook kills the daemon, itself (its whole group), or both; used up once
#
# MODE says what the hook does beside the change: idempotent does not change twice, fenced refuses a fence older than
# one that it has seen; any other changes whenever it is run.
cd "$1" || exit 1
mode=$2

changed() {
    grep -qs "^$ACTION_ID " effects
}

if [ "$3" = --probe ]; then
    changed && exit 0
    exit 3
fi

line="$ACTION_ID $ATTEMPT $FENCE"
echo "$line" >>calls
mv trap trapped 2>/dev/null && trap_name=$(cat trapped)

change() {
    [ "$mode" = idempotent ] && changed && return
    if [ "$mode" = fenced ]; then
        exec 9>>fences.lock
        flock 9
        [ "$FENCE" -ge "$(cat "fence.$ENVIRONMENT" 2>/dev/null || echo 0)" ] || exit 6
        echo "$FENCE" >"fence.$ENVIRONMENT"
    fi
    echo "$line" >>effects
    [ -e "switched.$FROM" ] || : >"switched.$FROM"
}

case "$trap_name" in
daemon-before) kill -9 "$PPID"; sleep 0.3 ;;
daemon-long-before) kill -9 "$PPID"; sleep 1.5 ;;
hook-before) kill -9 0 ;;
both-before) kill -9 "$PPID"; kill -9 0 ;;
esac
change
case "$trap_name" in
daemon-after) kill -9 "$PPID"; sleep 0.3 ;;
hook-after) kill -9 0 ;;
both-after) kill -9 "$PPID"; kill -9 0 ;;
esac
exit 0
