#!/bin/bash -eu
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Does the Traefik of this host answer? Asked by keepalived twice a second, so it starts no other program. When nobody
# listens the answer is no at once; silence is asked a second time, so that a busy host is not taken for a dead one.
ask() {
    exec 3<>/dev/tcp/127.0.0.1/8082 || exit 1
    printf 'GET /ping HTTP/1.0\r\n\r\n' >&3
    read -r -t 0.9 -u 3 status && [[ $status == *' 200 '* ]]
}
ask || ask
