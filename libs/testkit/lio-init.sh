#!/bin/busybox sh
# First process of the virtual machine in which LIO runs (lio-image.ts packs it, lio.ts talks to it).
# It loads the modules, sets up the network, says "lio-ready" on the console, and then runs the scripts that
# come in over the second serial port: lines up to "#end ID". The answer is the output and "#done ID STATUS".
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
echo 4 >/proc/sys/kernel/printk
while read -r module; do
  insmod "/modules/$module.ko" || echo "insmod $module failed"
done </modules/order
mount -t configfs configfs /sys/kernel/config || echo "no configfs"
# Where the disks are, and where LIO keeps reservations that survive a loss of power.
mount -t tmpfs -o size=90% tmpfs /disks
mkdir -p /var/target/pr /var/target/alua
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
stty -F /dev/ttyS1 115200 raw -echo
exec 3<>/dev/ttyS1
echo "lio-ready $(uname -r)"
while true; do
  : >/job
  while IFS= read -r line <&3; do
    case "$line" in
      '#end '*) break ;;
      *) printf '%s\n' "$line" >>/job ;;
    esac
  done
  sh -e /job >/out 2>&1 </dev/null
  status=$?
  { cat /out; printf '\n#done %s %s\n' "${line#'#end '}" "$status"; } >&3
done
