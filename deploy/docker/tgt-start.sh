#!/bin/sh
# Starts tgtd in the foreground and gives it one target with one disk. Its portals answer only once the disk is there.
set -eu
mkdir -p "$(dirname "$DISK_FILE")" /var/run/tgtd
[ -e "$DISK_FILE" ] || truncate -s "$DISK_SIZE" "$DISK_FILE"

tgtd -f --iscsi portal=0.0.0.0:3260,portal=0.0.0.0:3261 &
daemon=$!

admin() { tgtadm --lld iscsi "$@"; }
until admin --op show --mode target >/dev/null 2>&1; do
  kill -0 "$daemon"
  sleep 0.1
done
admin --op new --mode target --tid 1 -T "$TARGET_NAME"
admin --op new --mode logicalunit --tid 1 --lun 1 --backing-store "$DISK_FILE" --bstype rdwr
admin --op bind --mode target --tid 1 -I ALL
echo "target $TARGET_NAME with $DISK_FILE on ports 3260 and 3261"
wait "$daemon"
