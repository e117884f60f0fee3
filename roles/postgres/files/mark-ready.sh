#!/bin/sh
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# PostgreSQL archives what has a .ready file. mark-ready.sh DATA TIMELINE IMAGE gives one to the history of a timeline
# and to each of its whole segments. Segments from the one of the last checkpoint on are not whole: PostgreSQL was shut
# down cleanly, and names files for later use beforehand.
set -eu
now=$(docker run --rm --network none --user 10010 --read-only --pull never --volume "$1:/data:ro" "$3" \
  pg_controldata -D /data | sed -n "s/^Latest checkpoint's REDO WAL file: *//p")
case $now in "$2"*) ;; *)
  echo "mark-ready: the last checkpoint is in $now, not on timeline $2" >&2
  exit 1
  ;;
esac
cd "$1/pg_wal"
mark() {
  [ -e "archive_status/$1.done" ] || install -o 10010 -g 10010 -m 0600 /dev/null "archive_status/$1.ready"
}
[ ! -e "$2.history" ] || mark "$2.history"
for name in "$2"????????????????; do
  [ "$name" != "$now" ] || break
  mark "$name"
done
