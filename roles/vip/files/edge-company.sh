#!/bin/bash -eu
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# edge-company HOST:PORT ...    Is any of these hosts reached? Asked by keepalived, which gives it 3 s.
#
# Cut off from all others, an edge serves nothing, and hears nobody who has taken the address. A host that refuses the
# connection is there.
reached() {
    local said
    said=$( (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>&1) || [[ $said == *refused* ]]
}
for host; do
    reached "$host" &
done
for _ in "$@"; do
    if wait -n; then
        exit 0
    fi
done
exit 1
