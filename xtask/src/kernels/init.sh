#!/usr/bin/busybox sh
# The first process of a guest. What it says goes to the second serial line: `@@` begins a line of its own.
export PATH=/usr/sbin:/usr/bin:/bb HOME=/root TMPDIR=/base/tmp RUST_BACKTRACE=0
# Instructions take many times as long: fewer cases of each property, and fewer wake-ups.
export PROPTEST_CASES=8 VYRE_IO_ROUNDS=2000
busybox mount -t proc proc /proc
busybox --install -s /bb
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /etc
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/rpcbind /base/tmp
stty -F /dev/ttyS1 raw -echo
exec > /dev/ttyS1 2>&1 < /dev/null
while read -r module; do insmod "$module" || echo "@@ broken module $module"; done < /modules
ip link set lo up
echo /nowhere > /proc/sys/kernel/core_pattern
drive=/dev/nvme0n1
for _ in $(seq 50); do [ -b $drive ] && break; sleep 0.2; done
sectors=$(blockdev --getsz $drive)

doctor() { echo "@@ doctor $1"; vyre-io doctor --format json $2; echo "@@ end $?"; }

# NAME DIR. The kernel makes variables of words of its command line.
checked() {
  [ "$checks" = no ] && return
  echo "@@ fs $1"
  timeout -s KILL 900 check "$2" vyre-io
  echo "@@ end $?"
  doctor "$1" "$2"
}

# NAME DIR TYPE DEVICE: a new file system
made() {
  "mkfs.$3" "$([ "$3" = ext4 ] && echo -F || echo -f)" "$4" > /run/mkfs 2>&1 && mount -t "$3" "$4" "$2" ||
    { echo "@@ broken $1: $(tail -n 1 /run/mkfs)"; return 1; }
}
new() { made "$1" /m "$2" "$3" && checked "$1" /m; umount /m; }

# NAME DIR TYPE OPTIONS: what lies over another file system
over() {
  mount -t "$3" -o "$4" none "$2" || { echo "@@ broken $1"; return; }
  checked "$1" "$2"
  umount "$2"
}

echo "@@ kernel $(uname -r)"
doctor "" ""
new ext4 ext4 $drive
new XFS xfs $drive
new btrfs btrfs $drive
new f2fs f2fs $drive
over tmpfs /m tmpfs size=512m

key=$(printf '%0128d' 7)
dmsetup create crypt --table "0 $sectors crypt aes-xts-plain64 $key 0 $drive 0" && dmsetup mknodes
new "ext4 on dm-crypt" ext4 /dev/mapper/crypt
new "XFS on dm-crypt" xfs /dev/mapper/crypt
dmsetup remove crypt

half=$((sectors / 2))
dmsetup create origin --table "0 $half linear $drive 0"
dmsetup create changes --table "0 $half linear $drive $half"
dmsetup mknodes
dd if=/dev/zero of=/dev/mapper/changes bs=4k count=1 2> /dev/null
dmsetup create snapshot --table "0 $half snapshot /dev/mapper/origin /dev/mapper/changes N 8" && dmsetup mknodes
new "ext4 on a snapshot" ext4 /dev/mapper/snapshot
new "XFS on a snapshot" xfs /dev/mapper/snapshot
dmsetup remove snapshot
dmsetup remove changes
dmsetup remove origin

made ext4 /base ext4 $drive
mkdir -p /base/tmp /base/l /base/u /base/w /base/f /base/n
over overlayfs /m overlay lowerdir=/base/l,upperdir=/base/u,workdir=/base/w
bindfs /base/f /m && checked "FUSE (bindfs)" /m || echo "@@ broken FUSE"
umount /m

mount -t tmpfs tmpfs /var/lib/nfs
mkdir -p /var/lib/nfs/v4recovery /var/lib/nfs/rpc_pipefs
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
mount -t nfsd nfsd /proc/fs/nfsd
rpcbind
echo "/base/n *(rw,no_root_squash,fsid=0,insecure,no_subtree_check)" > /etc/exports
exportfs -ra
rpc.nfsd 4
rpc.mountd
for version in 3 4.2; do
  # The shell's own `mount` knows no newer version.
  mount.nfs 127.0.0.1:/"$([ $version = 3 ] && echo base/n)" /m -o "vers=$version,nolock" &&
    checked "NFS $version" /m || echo "@@ broken NFS $version"
  umount /m
done

while read -r name dir program arguments; do
  echo "@@ test $name"
  (cd "$dir" && timeout -s KILL 1800 "$program" --test-threads 2 $arguments)
  echo "@@ end $?"
done < /list

dmesg | grep -E 'BUG:|Oops|WARNING: CPU|blocked for more than' | sed 's/^/@@ complaint /'
echo "@@ done"
sleep 1
reboot -f
