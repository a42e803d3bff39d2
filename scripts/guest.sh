#!/usr/bin/env bash
# Runs a command as root under a stock Debian kernel, which has what the kernel of this machine may lack: IPVS
# with all its schedulers.
#
#   scripts/guest.sh [-m MEMORY_MB] [-c CPUS] [-t SECONDS] [-o DIR] [-i] COMMAND [ARGUMENT...]
#
# The command sees this machine's own files under their own paths. What it writes is lost at its end, except in
# /out, which is DIR. It is ended after SECONDS (600 unless told); what it says, on both outputs, comes out here.
# Exit status: the command's; 124 when its time was over; 125 when the guest did not come up or broke down.
#
# -i makes the guest's clock count instructions: the guest gets one CPU, is as fast as any machine by its own
# clock, and how busy this machine is does not matter to the timings in it.
#
# The guest is a QEMU machine. It is emulated, so that it runs everywhere, and many times slower than this one
# for it; GUEST_ACCEL=kvm asks for KVM instead. Its root is / of this machine, read-only over 9p, under an overlay
# in memory. The kernel comes from the package GUEST_KERNEL; it is unpacked into ~/.cache/xvs-guest and never
# installed.
set -euo pipefail
# shellcheck source=scripts/lab.sh
. "$(dirname "$0")/lab.sh"

GUEST_KERNEL=${GUEST_KERNEL:-linux-image-6.12-amd64}
MACHINE=(-accel "${GUEST_ACCEL:-tcg,thread=multi}")
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/xvs-guest/$GUEST_KERNEL
MEMORY_MB=2048
CPUS=2
LIMIT_S=600
OUT=

usage() { fail "usage: guest.sh [-m MEMORY_MB] [-c CPUS] [-t SECONDS] [-o DIR] [-i] COMMAND [ARGUMENT...]"; }

# Gives up, on standard error, since standard output is the command's.
broken() {
    say "guest.sh: $*" >&2
    exit 125
}

# What QEMU, the initial file system and unpacking the kernel need.
install_tools() {
    local pair missing=()
    for pair in qemu-system-x86:qemu-system-x86_64 busybox-static:busybox kmod:modprobe cpio:cpio xz-utils:xz; do
        command -v "${pair#*:}" >/dev/null || missing+=("${pair%%:*}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# The newest kernel that the package stands for, with its modules, in $CACHE/root.
fetch_kernel() {
    local package new=$CACHE/new
    [ ! -e "$CACHE/root" ] || return 0
    apt-get update -qq
    package=$(apt-cache depends "$GUEST_KERNEL" | sed -n 's/^ *Depends: \(linux-image-.*\)$/\1/p' | head -n 1)
    rm -rf "$new"
    mkdir -p "$new"
    (cd "$new" && apt-get download -qq "${package:-$GUEST_KERNEL}" >&2 && dpkg-deb --extract ./*.deb root) ||
        broken "no kernel from the package $GUEST_KERNEL: set GUEST_KERNEL to one that apt knows"
    depmod --basedir "$new/root" "$(ls "$new/root/lib/modules")"
    mv "$new/root" "$CACHE/root"
    rm -rf "$new"
}

# An initial file system that knows how to find the real one, and no more.
build_initrd() {
    local dir module path name
    [ ! "$CACHE/initrd.gz" -nt "$SELF" ] || return 0
    dir=$(mktemp -d)
    mkdir -p "$dir"/{bin,modules,proc,sys,dev,below,above,root}
    cp "$(command -v busybox)" "$dir/bin/busybox"
    for module in 9pnet_virtio 9p overlay; do
        while read -r _ path _; do
            name=$(basename "$path" .xz)
            [ -e "$dir/modules/$name" ] && continue
            if [[ $path == *.xz ]]; then xz -dc "$path" >"$dir/modules/$name"; else cp "$path" "$dir/modules/$name"; fi
            echo "$name" >>"$dir/modules/in-order"
        done < <(modprobe --dirname "$CACHE/root" --set-version "$VERSION" --show-depends "$module" | grep ^insmod)
    done
    cat >"$dir/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module"; done </modules/in-order
shared="trans=virtio,version=9p2000.L,msize=512000"
mount -t 9p -o "$shared,ro,cache=loose" machine /below || poweroff -f
mount -t tmpfs -o size=80% above /above
mkdir /above/files /above/work
mount -t overlay -o lowerdir=/below,upperdir=/above/files,workdir=/above/work root /root || poweroff -f
for dir in proc sys dev run out; do mkdir -p "/root/$dir"; done
for dir in proc sys dev; do mount --move "/$dir" "/root/$dir"; done
mount -t tmpfs run /root/run
mount -t 9p -o "$shared" out /root/out || poweroff -f
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t tmpfs shm /root/dev/shm
mount -t bpf bpf /root/sys/fs/bpf
mount -t tracefs tracefs /root/sys/kernel/tracing
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
exec switch_root /root /out/.guest/main
INIT
    chmod +x "$dir/init"
    (cd "$dir" && find . | cpio --quiet -o -H newc | gzip -1) >"$CACHE/initrd.gz.new"
    mv "$CACHE/initrd.gz.new" "$CACHE/initrd.gz"
    rm -rf "$dir"
}

# What runs in the guest after the initial file system: the command, between coming up and going down.
write_main() {
    rm -rf "$OUT/.guest"
    mkdir "$OUT/.guest"
    {
        echo '#!/bin/bash'
        printf 'export HOME=%q PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8\n' "$HOME"
        echo 'hostname guest; ip link set lo up; mkdir -p /run/lock /lib/modules'
        # Where modprobe looks for them, also when the kernel calls it.
        printf 'ln -s %q /lib/modules/\n' "$CACHE/root/lib/modules/$VERSION"
        printf 'cd %q\n' "$PWD"
        # The kernel's console is the first serial line; the second carries what the command says, as it is.
        echo 'stty -F /dev/ttyS1 raw'
        printf '%q ' "$@"
        echo '</dev/null >/dev/ttyS1 2>&1'
        echo 'echo $? >/out/.guest/status; sync; echo o >/proc/sysrq-trigger; sleep 60'
    } >"$OUT/.guest/main"
    chmod +x "$OUT/.guest/main"
}

run_machine() {
    local options="security_model=none"
    timeout --kill-after=10 "$LIMIT_S" qemu-system-x86_64 \
        "${MACHINE[@]}" -cpu max -smp "$CPUS" -m "$MEMORY_MB" \
        -nodefaults -no-user-config -no-reboot -display none -serial "file:$OUT/.guest/console" -serial stdio \
        -kernel "$CACHE/root/boot/vmlinuz-$VERSION" -initrd "$CACHE/initrd.gz" \
        -append 'console=ttyS0 quiet loglevel=2 panic=-1 mitigations=off sysrq_always_enabled' \
        -fsdev "local,id=machine,path=/,$options,readonly=on,multidevs=remap" \
        -device virtio-9p-pci,fsdev=machine,mount_tag=machine \
        -fsdev "local,id=out,path=$OUT,$options" -device virtio-9p-pci,fsdev=out,mount_tag=out \
        -device virtio-rng-pci </dev/null
}

while getopts 'm:c:t:o:i' flag; do
    case $flag in
    m) MEMORY_MB=$OPTARG ;;
    c) CPUS=$OPTARG ;;
    t) LIMIT_S=$OPTARG ;;
    o) OUT=$OPTARG ;;
    i) MACHINE=(-accel "tcg,thread=single" -icount "shift=0,sleep=on") CPUS=1 ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || usage
need_root

SELF=$(readlink -f "$0")
mkdir -p "$CACHE"
exec {lock}>"$CACHE/lock"
flock "$lock"
install_tools
fetch_kernel
VERSION=$(ls "$CACHE/root/lib/modules")
build_initrd
flock --unlock "$lock"

temporary=
if [ -z "$OUT" ]; then OUT=$(mktemp -d) temporary=$OUT; fi
mkdir -p "$OUT"
OUT=$(readlink -f "$OUT")
write_main "$@"

status=0
run_machine || status=$?
if ((status == 124 || status == 137)); then
    say "guest.sh: not done within $LIMIT_S s and ended: raise -t" >&2
    status=124
elif [ -s "$OUT/.guest/status" ]; then
    status=$(<"$OUT/.guest/status")
else
    tail -n 20 "$OUT/.guest/console" >&2 || true
    say "guest.sh: the guest did not come up, or broke down (QEMU ended with $status)" >&2
    status=125
fi
rm -rf "$OUT/.guest" ${temporary:+"$temporary"}
exit "$status"
