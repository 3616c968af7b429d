#!/usr/bin/env bash
# Bring up a real SLURM cluster on this Debian machine: munge, slurmctld and several slurmd, each a
# node with fake GPUs and, where the kernel lets it, a host name of its own. Needs root.
#
#     tests/slurm/up.sh                  without accounting, as many small clusters are
#     ACCOUNTING=1 tests/slurm/up.sh     with slurmdbd and a private MariaDB
#     tests/slurm/down.sh                end what this started; PURGE=1 removes its files, too
#
# NODES, CPUS, GPUS (of a node), MEMORY (MB of a node), PORT (the first of those it listens on, all
# on this host), SETTINGS (further lines of slurm.conf), DEFAULT=0 (commands find it by SLURM_CONF
# only). SLURM_LAB is the folder that holds everything; user munge has to get there. Said again, it
# starts what is missing.
set -euo pipefail
lab=${SLURM_LAB:-/tmp/slam-slurm}
nodes=${NODES:-4} cpus=${CPUS:-4} gpus=${GPUS:-2} memory=${MEMORY:-8000} port=${PORT:-17800}
accounting=${ACCOUNTING:-0} settings=${SETTINGS:-}

fail() { echo "up.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "needs root: it installs packages and runs munged as the user munge"

need=(slurmctld slurmd slurm-client munge)
[ "$accounting" = 0 ] || need+=(slurmdbd mariadb-server-core mariadb-client-core)
missing=()
for package in "${need[@]}"; do dpkg -s "$package" > /dev/null 2>&1 || missing+=("$package"); done
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get > /dev/null || fail "needs ${missing[*]}, and apt-get to install them"
  # The packages' own services would start without any configuration.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' > $policy && chmod +x $policy
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
    > /tmp/slam-slurm-apt.log 2>&1 || { tail -20 /tmp/slam-slurm-apt.log >&2; fail "apt-get failed"; }
fi

host=$(hostname -s)
own_names=0
unshare --uts true 2> /dev/null && own_names=1
mkdir -p "$lab"/{etc,run,log,state,spool,dev,munge}
chmod 755 "$lab" "$lab/run"
names=$(seq -f 'n%g' -s ' ' 1 "$nodes")
# torch.distributed resolves the first node's name.
grep -q "# slam-slurm $lab$" /etc/hosts || echo "127.0.0.1 $names # slam-slurm $lab" >> /etc/hosts
for ((k = 0; k < gpus; k++)); do
  [ -e "$lab/dev/gpu$k" ] || mknod "$lab/dev/gpu$k" c 240 "$k"
done

conf=$lab/etc/slurm.conf
{
  cat << END
ClusterName=lab
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# How long a requeued job waits, too: two minutes if not said.
AuthInfo=socket=$lab/munge/munge.sock,cred_expire=5
StateSaveLocation=$lab/state
SlurmdSpoolDir=$lab/spool/%n
SlurmctldPidFile=$lab/run/slurmctld.pid
SlurmdPidFile=$lab/run/slurmd-%n.pid
SlurmctldLogFile=$lab/log/slurmctld.log
SlurmdLogFile=$lab/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
SwitchType=switch/none
MpiDefault=none
# Nodes may claim more than the machine has.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=2000
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_min_interval=0,batch_sched_delay=0
PriorityType=priority/multifactor
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
MinJobAge=300
InactiveLimit=0
ReturnToService=2
SlurmdTimeout=30
SlurmctldTimeout=30
MessageTimeout=10
MaxArraySize=1001
$settings
END
  if [ "$accounting" = 0 ]; then
    echo AccountingStorageType=accounting_storage/none
  else
    # The munge socket is what sacct speaks to slurmdbd through.
    printf '%s\n' AccountingStorageType=accounting_storage/slurmdbd \
      AccountingStorageHost=127.0.0.1 AccountingStoragePort=$((port + 1)) \
      "AccountingStoragePass=$lab/munge/munge.sock" AccountingStorageTRES=gres/gpu
  fi
  gres=""
  [ "$gpus" = 0 ] || gres="Gres=gpu:$gpus"
  for ((k = 1; k <= nodes; k++)); do
    name=$host
    [ $own_names = 0 ] || name=n$k
    echo "NodeName=n$k NodeHostname=$name NodeAddr=127.0.0.1 Port=$((port + 10 + k))" \
      "CPUs=$cpus RealMemory=$memory $gres State=UNKNOWN"
  done
  cat << END
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=50 PreemptMode=OFF
END
} > "$conf"
: > "$lab/etc/gres.conf"
: > "$lab/etc/plugstack.conf"
[ "$gpus" = 0 ] ||
  echo "NodeName=n[1-$nodes] Name=gpu File=$lab/dev/gpu[0-$((gpus - 1))]" > "$lab/etc/gres.conf"
# Commands find the cluster by SLURM_CONF, and without it where nobody else's lies at its place.
if [ "${DEFAULT:-1}" = 1 ] && [ ! -e /etc/slurm/slurm.conf ]; then
  mkdir -p /etc/slurm
  ln -sfn "$conf" /etc/slurm/slurm.conf
fi
export SLURM_CONF=$conf

runs() { # PIDFILE NAME
  local pid
  pid=$(cat "$1" 2> /dev/null) && [ -n "$pid" ] && grep -q "$2" "/proc/$pid/cmdline" 2> /dev/null
}
wait_for() { # WHAT SECONDS COMMAND...
  local what=$1 end=$((SECONDS + $2))
  shift 2
  until "$@" > /dev/null 2>&1; do
    [ $SECONDS -lt $end ] || fail "$what did not come up; see $lab/log"
    sleep 0.1
  done
}

if ! runs "$lab/munge/munged.pid" munged; then
  [ -s "$lab/munge/munge.key" ] ||
    dd if=/dev/urandom of="$lab/munge/munge.key" bs=1024 count=1 2> /dev/null
  chown -R munge: "$lab/munge" && chmod 755 "$lab/munge" && chmod 600 "$lab/munge/munge.key"
  # --force: the folder lies below one that everybody may write to.
  runuser -u munge -- /usr/sbin/munged --force --key-file="$lab/munge/munge.key" \
    --socket="$lab/munge/munge.sock" --pid-file="$lab/munge/munged.pid" \
    --log-file="$lab/munge/munged.log" --seed-file="$lab/munge/munged.seed" 2>> "$lab/log/munged.err"
  wait_for munged 10 munge -n -S "$lab/munge/munge.sock"
fi

if [ "$accounting" = 1 ]; then
  sql=(mariadb --no-defaults -S "$lab/mysql/db.sock" -e)
  if ! runs "$lab/mysql/mariadbd.pid" mariadbd; then
    id mysql > /dev/null 2>&1 || useradd -r -s /usr/sbin/nologin mysql
    mkdir -p "$lab/mysql" && chown mysql: "$lab/mysql"
    [ -d "$lab/mysql/mysql" ] || mariadb-install-db --no-defaults --user=mysql --skip-test-db \
      --datadir="$lab/mysql" --auth-root-authentication-method=socket > "$lab/log/mariadb.log" 2>&1
    setsid -f mariadbd --no-defaults --user=mysql --datadir="$lab/mysql" --skip-networking \
      --socket="$lab/mysql/db.sock" --pid-file="$lab/mysql/mariadbd.pid" \
      --log-error="$lab/mysql/mariadbd.log" --innodb-buffer-pool-size=64M \
      --innodb-lock-wait-timeout=900 --innodb-log-file-size=64M > /dev/null 2>&1 < /dev/null
    wait_for mariadbd 30 "${sql[@]}" "select 1"
  fi
  # A socket that only root may use, and a password for nothing else than this.
  "${sql[@]}" "create database if not exists slurm_acct_db;
    create user if not exists 'slurm'@'localhost' identified by 'lab';
    grant all on slurm_acct_db.* to 'slurm'@'localhost';"
  if ! runs "$lab/run/slurmdbd.pid" slurmdbd; then
    cat > "$lab/etc/slurmdbd.conf" << END
AuthType=auth/munge
AuthInfo=$lab/munge/munge.sock
DbdHost=$host
DbdAddr=127.0.0.1
DbdPort=$((port + 1))
SlurmUser=root
LogFile=$lab/log/slurmdbd.log
PidFile=$lab/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=lab
StorageLoc=slurm_acct_db
END
    chmod 600 "$lab/etc/slurmdbd.conf"
    MYSQL_UNIX_PORT="$lab/mysql/db.sock" slurmdbd
    wait_for slurmdbd 30 sacctmgr -n -i show cluster
    sacctmgr -n show cluster lab format=cluster 2> /dev/null | grep -q lab ||
      sacctmgr -i -Q add cluster lab > /dev/null 2>&1 || true
  fi
fi

runs "$lab/run/slurmctld.pid" slurmctld || slurmctld
wait_for slurmctld 20 scontrol ping
for name in $names; do
  mkdir -p "$lab/spool/$name"
  runs "$lab/run/slurmd-$name.pid" slurmd && continue
  if [ $own_names = 1 ]; then
    unshare --uts sh -c "hostname $name && exec slurmd -N $name"
  else
    slurmd -N "$name"
  fi
done
ready() { [ "$(sinfo -h -N -p main -t idle,alloc,mix,comp -o %N | sort -u | wc -l)" -ge "$nodes" ]; }
wait_for "the nodes" 30 ready
echo "up: $(sinfo -h -p main -o '%D nodes, %c CPUs, %m MB, %G' | head -1)"
[ "$(readlink /etc/slurm/slurm.conf)" = "$conf" ] || echo "use it: export SLURM_CONF=$conf"
