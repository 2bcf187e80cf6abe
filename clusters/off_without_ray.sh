#!/usr/bin/env bash
# Shuts a machine down on which no Ray has run for a quarter of an hour, such as a worker whose head was lost: nobody else
# would, and it would be paid for until somebody looks. One process of it is enough for a machine.
exec 9> /tmp/marl-study-off && flock --nonblock 9 || exit 0
minutes=0
while [ "$minutes" -lt 15 ]; do
  sleep "${1:-60}"
  if pgrep -x raylet > /dev/null; then minutes=0; else minutes=$((minutes + 1)); fi
done
sudo shutdown -h now
