#!/usr/bin/env bash
# End what up.sh started, by its pid files and nothing else. PURGE=1 removes the files, too.
set -uo pipefail
lab=${SLURM_LAB:-/tmp/slam-slurm}
export SLURM_CONF=$lab/etc/slurm.conf

stop() { # PIDFILE NAME
  local pid
  pid=$(cat "$1" 2> /dev/null) || return 0
  if [ -n "$pid" ] && grep -q "$2" "/proc/$pid/cmdline" 2> /dev/null; then
    kill "$pid" 2> /dev/null
    for _ in $(seq 100); do
      kill -0 "$pid" 2> /dev/null || break
      sleep 0.1
    done
    kill -0 "$pid" 2> /dev/null && kill -KILL "$pid"
  fi
  rm -f "$1"
}

if [ -e "$lab/run/slurmctld.pid" ] && scontrol ping > /dev/null 2>&1; then
  for state in PENDING RUNNING SUSPENDED; do scancel -t $state 2> /dev/null; done
  for _ in $(seq 80); do
    [ -z "$(squeue -h -t RUNNING,COMPLETING 2> /dev/null)" ] && break
    sleep 0.1
  done
fi
for file in "$lab"/run/slurmd-*.pid; do stop "$file" slurmd & done
stop "$lab/run/slurmctld.pid" slurmctld &
wait
stop "$lab/run/slurmdbd.pid" slurmdbd
stop "$lab/mysql/mariadbd.pid" mariadbd
stop "$lab/munge/munged.pid" munged
if [ "$(readlink /etc/slurm/slurm.conf)" = "$SLURM_CONF" ]; then rm -f /etc/slurm/slurm.conf; fi
# Not sed -i: /etc/hosts may be a mount, which cannot be replaced.
others=$(grep -v "# slam-slurm $lab$" /etc/hosts) && echo "$others" > /etc/hosts
[ "${PURGE:-0}" = 0 ] || rm -rf "$lab"
