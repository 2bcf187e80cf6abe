#!/usr/bin/env bash
# Several hosts on one Linux machine: each has its own address, hostname, processes, /tmp, $HOME, /run and /dev/shm, and
# answers SSH. The rest of the file system is the machine's own. Hosts reach one another and the machine, and nothing else.
#
#   hosts.sh up N         hosts 0 to N-1; host I is NAME-I with address SUBNET.(10+I); the machine itself is SUBNET.1
#   hosts.sh on I         starts a host; its disk ($HOME and /tmp) is as it was
#   hosts.sh off I        a power cut: all its processes are gone at once
#   hosts.sh cut I        pulls its network cable
#   hosts.sh join I       puts the cable back
#   hosts.sh enter I CMD  runs a command on a host, without SSH
#   hosts.sh down         ends every process of every host; nothing is left but the folder STATE
#
# Needs root, iproute2, openssh-server, openssh-client and the right to make namespaces.
# Environment: NAME, at most 8 characters; SUBNET, three numbers with dots; STATE, a folder; KEEP, folders below /tmp or
# $HOME that hosts see as the machine does, separated by spaces.
set -euo pipefail
: "${NAME:?}" "${SUBNET:?}" "${STATE:?}" "${KEEP=}"
home=$(getent passwd root | cut -d: -f6)

address() { echo "$SUBNET.$((10 + $1))"; }
folder() { echo "$STATE/$1"; }

init_of() {  # the process that is PID 1 on host $1, as the machine numbers it
  local outer
  outer=$(cat "$(folder "$1")/outer.pid" 2>/dev/null) || return 1
  tr -d ' ' < "/proc/$outer/task/$outer/children" 2>/dev/null
}

write_sshd_config() {  # of host $1
  cat <<END
ListenAddress $(address "$1")
HostKey /run/host/host_key
AuthorizedKeysFile /run/host/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
UseDNS no
PidFile none
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
END
}

write_init() {  # of host $1: makes what is its own, then becomes sshd, which ends when the host does
  local own; own=$(folder "$1")
  cat <<END
set -e
mount --make-rprivate /
hostname $NAME-$1
for kept in $KEEP; do
  case \$kept in
    /tmp/*) to=$own/tmp\${kept#/tmp};;
    $home/*) to=$own/home\${kept#$home};;
    *) continue;;
  esac
  mkdir -p "\$to"; mount --rbind "\$kept" "\$to"
done
mount -t tmpfs -o size=16m,mode=755 tmpfs /run
mkdir /run/sshd /run/host
cp $own/sshd_config $STATE/host_key $STATE/authorized_keys $STATE/hosts /run/host
chmod 600 /run/host/host_key
mount -t tmpfs -o size=1g,mode=1777 tmpfs /dev/shm
mount --bind /run/host/hosts /etc/hosts
mount --rbind $own/home $home
mount --rbind $own/tmp /tmp
cd /
exec env -i HOME=$home PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
  /usr/sbin/sshd -D -e -f /run/host/sshd_config
END
}

on() {
  local own; own=$(folder "$1")
  write_sshd_config "$1" > "$own/sshd_config"
  write_init "$1" > "$own/init"
  # A host has process numbers of its own, or the `ray stop` that begins a cluster would end Ray on all of them.
  setsid ip netns exec "$NAME-$1" unshare --mount --uts --ipc --pid --fork --kill-child --mount-proc \
    bash "$own/init" > "$own/init.log" 2>&1 < /dev/null &
  echo $! > "$own/outer.pid"
  for _ in $(seq 100); do
    init_of "$1" > /dev/null && enter "$1" true 2>/dev/null && (exec 3<> "/dev/tcp/$(address "$1")/22") 2>/dev/null && return
    sleep 0.1
  done
  echo "host $1: sshd did not start: $(cat "$own/init.log")" >&2
  return 1
}

off() {
  local init
  init=$(init_of "$1") && [ -n "$init" ] || return 0
  kill -9 "$init"
  while [ -e "/proc/$init" ]; do sleep 0.05; done  # it stays until all other processes of the host are gone
  rm "$(folder "$1")/outer.pid"
}

enter() {
  local init; init=$(init_of "$1"); shift
  env -i HOME="$home" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    nsenter --all --target "$init" --wd=/ "$@"
}

up() {
  mkdir -p "$STATE"; chmod 700 "$STATE"
  ssh-keygen -q -t ed25519 -N '' -C "$NAME host" -f "$STATE/host_key"
  ssh-keygen -q -t ed25519 -N '' -C "$NAME user" -f "$STATE/key"
  cp "$STATE/key.pub" "$STATE/authorized_keys"
  { echo "127.0.0.1 localhost"; for i in $(seq 0 $(($1 - 1))); do echo "$(address "$i") $NAME-$i"; done; } > "$STATE/hosts"
  ip address add "$SUBNET.1/24" dev "$NAME"
  ip link set "$NAME" up
  for i in $(seq 0 $(($1 - 1))); do
    mkdir -p "$(folder "$i")/tmp" "$(folder "$i")/home"
    chmod 1777 "$(folder "$i")/tmp"
    touch "$(folder "$i")/home/.bashrc"
    ip netns add "$NAME-$i"
    ip link add "$NAME-$i" type veth peer name eth0 netns "$NAME-$i"
    ip link set "$NAME-$i" master "$NAME" up
    ip -n "$NAME-$i" address add "$(address "$i")/24" dev eth0
    ip -n "$NAME-$i" link set lo up
    ip -n "$NAME-$i" link set eth0 up
    # Ray takes for a host's address the one from which it would send to 8.8.8.8, and 127.0.0.1 where there is no way
    # there. This way ends on the host itself.
    ip -n "$NAME-$i" route add 8.8.8.8/32 dev lo src "$(address "$i")"
    on "$i"
  done
}

cut() { ip link set "$NAME-$1" down; }
join() { ip link set "$NAME-$1" up; }

down() {
  local own i
  for own in "$STATE"/[0-9]*; do
    [ -d "$own" ] || continue
    i=${own##*/}
    off "$i"
    ip link delete "$NAME-$i" 2>/dev/null || true  # with its namespace it would go a moment later, its name in the way
    ip netns delete "$NAME-$i" 2>/dev/null || true
  done
  ip link delete "$NAME" 2>/dev/null || true
}

command=$1; shift
"$command" "$@"
