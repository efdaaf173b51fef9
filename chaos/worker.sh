#!/bin/sh
# What a worker runs for each task: writes down that it begins and ends, and takes its time.
say() { echo "$1 $NIGHTSHIFT_TASK_ID $NIGHTSHIFT_ATTEMPT $(date +%s%N)" >>"$JOURNAL"; }
say start
case $NIGHTSHIFT_TASK_PATH in
    w.slow) sleep 2.5 ;;
    w.fails) [ $((NIGHTSHIFT_ATTEMPT % 2)) = 0 ] || { say end; exit 1; } ;;
    *) sleep 0.1 ;;
esac
say end
printf '{"attempt": %s}\n' "$NIGHTSHIFT_ATTEMPT"
